// SPDX-License-Identifier: MIT
#include "mediator/core/execution.h"

#include <cassert>
#include <string>
#include <utility>

#include "mediator/requests/tokens.h"

namespace vgpu {
namespace {

// Buffers of disconnected VMs freed per turn.
constexpr std::size_t kFreesPerTurn = 64;

bool is_fault_of_vm(const Outcome& outcome) {
    return is_vm_fault(outcome.status) && !outcome.device_failed;
}

}  // namespace

bool Execution::held_back(const Scheduler::Entry& entry) {
    Request& request = requests_[entry.token];
    const auto verdict = request.vm->limits.may_start(context_.clock.now());
    if (verdict == VmLimits::Verdict::kAllowed) {
        return false;
    }
    context_.scheduler.finished(entry.vm, {});
    const Outcome outcome = limit_outcome(verdict);
    context_.count_refusal(*request.vm);
    context_.events.on_event(RequestDropped{
        .request = request.info, .why = outcome.data, .answered = !request.answered});
    if (!request.answered) {
        answer(request, outcome);
    }
    const auto vm = request.vm;
    const VmOrder::Number number = request.number;
    const bool async = request.operation.async;
    requests_.free(entry.token);
    end_in_order(*vm, number, async ? &outcome : nullptr);
    return true;
}

void Execution::start(std::size_t device, const Scheduler::Entry& entry) {
    if (held_back(entry)) {
        return;
    }
    Request& request = requests_[entry.token];
    request.scheduled_vm = entry.vm;
    request.waited = entry.waited;
    request.vm->running = true;
    ++devices_[device].running;
    execute(device, entry.token);
}

void Execution::execute(std::size_t device_index, std::uint64_t token) {
    Device& device = devices_[device_index];
    Request& request = requests_[token];
    request.started_at = context_.clock.now();
    request.running = true;
    request.device = device_index;
    ++running_;
    const Job& job = request.operation.job;
    const auto refused =
        device.failed_at
            ? std::optional(failed_device_outcome("the GPU has failed and has not recovered"))
            : request.vm->memory.prepare(request.operation, device_index);
    const bool immediate = device.executor->immediate(job);
    if (!refused && !immediate) {
        if (request.queue != nullptr) {
            request.queue->prepare(request.operation, request.index, device_index, *device.executor,
                                   context_.clock.now());
        }
        // Submit first, so that the device works while the rest is done.
        devices_.submit(device_index, job);
        const auto limit = request.vm->limits.settings().longest_execution;
        if (limit.count() > 0) {
            request.watched = watched_.emplace(request.started_at + limit, token);
        }
    }
    context_.events.on_event(RequestStarted{.request = request.info, .waited = request.waited});
    if (refused) {
        complete(token, *refused);
    } else if (immediate) {
        Outcome outcome = device.executor->run(job);
        context_.clock.next();
        request.vm->memory.complete(request.operation, device_index, outcome);
        complete(token, outcome);
    }
}

void Execution::synchronize(std::uint64_t token) {
    Request& request = requests_[token];
    ++running_;
    request.running = true;
    request.started_at = request.accepted_at;
    if (const auto outcome = request.vm->order.synchronize(token)) {
        request.vm->count(&HoldBack::count_idle_synchronize, context_.clock.now());
        context_.events.on_event(RequestStarted{.request = request.info, .waited = request.waited});
        finish(token, *outcome);
    }
}

void Execution::ended(Completion& completion) {
    const Request& request = requests_[completion.token];
    request.vm->memory.complete(request.operation, request.device, completion.outcome);
    complete(completion.token, completion.outcome);
}

void Execution::complete(std::uint64_t token, const Outcome& outcome) {
    Request& request = requests_[token];
    const auto vm = request.vm;
    const VmOrder::Number number = request.number;
    const bool failed = request.operation.async && outcome.status != VGPU_ERR_NONE;
    account(request, outcome);
    const std::uint32_t vm_id = request.info.vm_id;
    finish(token, outcome);
    if (is_fault_of_vm(outcome)) {
        context_.limits.count_fault(vm_id);
    }
    end_in_order(*vm, number, failed ? &outcome : nullptr);
    free_memory_of(*vm);
}

void Execution::account(Request& request, const Outcome& outcome) {
    std::chrono::nanoseconds used = std::chrono::microseconds(outcome.exec_time_us);
    const auto now = context_.clock.now();
    const auto release = [&](std::size_t device, Scheduler::VmIndex vm,
                             std::chrono::nanoseconds charged) {
        --devices_[device].running;
        request.vm->running = false;
        context_.scheduler.finished(vm, charged);
    };
    if (request.queue != nullptr) {
        GuestQueue::Chain& chain = request.queue->chain;
        used = chain.leave(used, now);
        if (chain.count == 0) {
            release(chain.device, chain.vm, chain.used);
            chain = {};
        }
    } else {
        release(request.device, request.scheduled_vm, used);
    }
    devices_[request.device].busy.add(used, now);
    VmLimits& limits = request.vm->limits;
    limits.charge(used, now);
    if (request.watched) {
        watched_.erase(*request.watched);
        request.watched.reset();
    }
    if (!request.overran && limits.too_long(now - request.started_at)) {
        report_overrun(request);
    }
}

void Execution::finish(std::uint64_t token, const Outcome& outcome) {
    Request& request = requests_[token];
    assert(request.running && running_ > 0);
    --running_;
    if (!request.dropped) {
        const bool open =
            request.queue != nullptr ? !request.queues->closed : request.session->open();
        context_.events.on_event(
            RequestFinished{.request = request.info,
                            .status = outcome.status,
                            .message = outcome.status == VGPU_ERR_NONE ? "" : outcome.data,
                            .waited = request.waited,
                            .ran = context_.clock.now() - request.started_at,
                            .exec_time_us = outcome.exec_time_us,
                            .delivered = open,
                            .fault = is_fault_of_vm(outcome)});
    }
    if (!request.answered) {
        answer(request, outcome);
    }
    const auto queues = request.queues;
    GuestQueue* const queue = request.queue;
    requests_.free(token);
    if (queue != nullptr) {
        listener_.on_command_ended(*queue);
    }
}

void Execution::answer(Request& request, Outcome outcome) {
    if (request.queue != nullptr) {
        guard_.watch(*request.queues, [&] { request.queue->end(request.index, outcome); });
    } else {
        request.session->answer(request.ticket, std::move(outcome));
    }
}

void Execution::end_in_order(VmState& vm, VmOrder::Number number, const Outcome* failure) {
    for (const auto& done : vm.order.end(number, failure)) {
        Request& waiting = requests_[done.token];
        waiting.started_at = context_.clock.now();
        waiting.waited = waiting.started_at - waiting.accepted_at;
        context_.events.on_event(RequestStarted{.request = waiting.info, .waited = waiting.waited});
        finish(done.token, done.outcome);
    }
}

void Execution::drop(Request& request, std::string_view why, bool answer) {
    context_.events.on_event(RequestDropped{
        .request = request.info, .why = why, .answered = answer && !request.answered});
    request.dropped = true;
    if (answer && !request.answered) {
        this->answer(request, Outcome::failure(VGPU_ERR_MEDIATOR_UNAVAILABLE, std::string(why)));
    }
    request.answered = true;
}

void Execution::drop_queued(std::uint64_t token, std::string_view why, bool answer) {
    drop(requests_[token], why, answer);
    const auto vm = requests_[token].vm;
    const VmOrder::Number number = requests_[token].number;
    requests_.free(token);
    end_in_order(*vm, number, nullptr);
}

void Execution::give_up(std::string_view why) {
    for (Request& request : requests_) {
        if (request.running && !request.dropped) {
            drop(request, why, true);
        }
    }
}

void Execution::device_changed(std::size_t device, const Completion& completion) {
    if (completion.change == DeviceChange::kFailed) {
        for (const auto& [vm_id, vm] : context_.vms) {
            vm->memory.lose(device);
        }
    }
    devices_.change(device, completion);
}

void Execution::report_overrun(Request& request) {
    request.overran = true;
    context_.events.on_event(
        RequestOverran{.request = request.info,
                       .ran = context_.clock.now() - request.started_at,
                       .limit = request.vm->limits.settings().longest_execution});
}

void Execution::report_overruns() {
    while (!watched_.empty() && watched_.begin()->first <= context_.clock.now()) {
        const std::uint64_t token = watched_.begin()->second;
        Request& request = requests_[token];
        request.watched.reset();
        watched_.erase(watched_.begin());
        report_overrun(request);
        if (context_.settings.kill_overrun) {
            devices_[request.device].executor->stop(token);
        }
    }
}

void Execution::free_memory_of(VmState& vm) {
    if (vm.running || (vm.connections > 0 && !vm.free_all)) {
        return;
    }
    vm.free_all = false;
    const auto buffers = vm.memory.take_all();
    to_free_.insert(to_free_.end(), buffers.begin(), buffers.end());
}

bool Execution::free_some() {
    for (std::size_t left = kFreesPerTurn; left > 0 && !to_free_.empty(); --left) {
        const HandleTable::Buffer buffer = to_free_.front();
        to_free_.pop_front();
        Job job;
        job.token = kIgnoredToken;
        job.opcode = VGPU_OP_MEMORY_FREE;
        job.buffers[0] = buffer.id;
        devices_[buffer.device].executor->submit(job);
    }
    return !to_free_.empty();
}

}  // namespace vgpu
