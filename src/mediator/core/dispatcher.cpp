// SPDX-License-Identifier: MIT
#include "mediator/core/dispatcher.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "mediator/config/names.h"
#include "mediator/core/dispatcher_tokens.h"

namespace vgpu {
namespace {

// Operations executed on the control loop per turn, so that a long queue of them does not starve
// the sockets.
constexpr std::size_t kImmediatePerTurn = 64;
// Buffers of disconnected VMs freed per turn.
constexpr std::size_t kFreesPerTurn = 64;
std::size_t count_queues(const std::vector<PoolSettings>& pools) {
    std::size_t count = 0;
    for (const PoolSettings& pool : pools) {
        count += pool.devices.size();
    }
    return count;
}

bool is_fault_of_vm(const Outcome& outcome) {
    return is_vm_fault(outcome.status) && !outcome.device_failed;
}

}  // namespace

Dispatcher::Dispatcher(const Settings& settings, std::vector<std::unique_ptr<Backend>> backends,
                       EventSink& events, const Clock& clock, const std::function<void()>& wake)
    : settings_(settings),
      events_(events),
      shortages_(events),
      clock_(clock),
      scheduler_(count_queues(settings.pools), settings.queue, clock_),
      limits_(settings, events, clock_),
      doorbells_(::epoll_create1(EPOLL_CLOEXEC)) {
    if (!doorbells_) {
        throw std::system_error(errno, std::generic_category(), "epoll_create1");
    }
    for (auto& backend : backends) {
        devices_.emplace_back().executor =
            make_executor(std::move(backend), {.spin = settings.spin}, wake);
    }
    Scheduler::PoolIndex queue = 0;
    for (const PoolSettings& pool : settings.pools) {
        pool_by_id_[static_cast<std::uint8_t>(pool.id)] = pools_.size();
        Pool& queues = pools_.emplace_back();
        for (const std::size_t device : pool.devices) {
            devices_.at(device).queues.push_back(queue);
            queues.push_back({.index = queue++, .device = device});
        }
    }
    set_policies();
}

void Dispatcher::set_policies() {
    for (const PoolSettings& pool : settings_.pools) {
        for (const Queue& queue : pools_[*pool_by_id_[static_cast<std::uint8_t>(pool.id)]]) {
            scheduler_.set_policy(queue.index, pool.policy);
        }
    }
}

bool Dispatcher::is_full(const Pool& pool) const {
    std::size_t depth = 0;
    for (const Queue& queue : pool) {
        depth += scheduler_.depth(queue.index);
    }
    return depth >= settings_.queue.per_pool;
}

VmShare Dispatcher::share_of(std::uint32_t vm_id) const {
    const VmSettings& vm = settings_.vm(vm_id);
    return {.weight = vm.weight, .queue_depth = vm.queue_depth.value_or(settings_.queue.per_vm)};
}

void Dispatcher::apply_settings() {
    check_thread();
    set_policies();
    for (const auto& [vm_id, vm] : vms_) {
        vm->memory.set_quota(settings_.memory_quota(vm_id));
        scheduler_.set_share(vm_id, share_of(vm_id));
    }
    scheduler_.set_limits(settings_.queue);
    limits_.apply();
}

std::uint64_t Dispatcher::take_slot() {
    if (free_requests_.empty()) {
        requests_.emplace_back();
        return requests_.size() - 1;
    }
    const std::uint64_t token = free_requests_.back();
    free_requests_.pop_back();
    return token;
}

void Dispatcher::free_slot(std::uint64_t token) {
    requests_[token] = Request{};
    free_requests_.push_back(token);
}

void Dispatcher::refuse(Session& session, Session::Ticket ticket, const RequestInfo& info,
                        std::uint32_t status, std::string sentence) {
    events_.on_event(RequestRefused{.request = info, .status = status, .sentence = sentence});
    if (is_vm_fault(status)) {
        limits_.count_fault(info.vm_id);
    }
    count_refusal(*vms_.at(info.vm_id));
    session.answer(ticket, Outcome::failure(status, std::move(sentence)));
}

void Dispatcher::submit(Session& session, const vgpu_msg_header& header,
                        std::span<const std::byte> payload) {
    check_thread();
    assert(session.flow);
    const VmSettings& vm_settings = settings_.vm(header.vm_id);
    const RequestInfo info{.session = session.id(),
                           .vm_id = header.vm_id,
                           .request_id = header.request_id,
                           .pool = static_cast<std::uint8_t>(
                               vm_settings.pool.value_or(static_cast<char>(header.pool_id))),
                           .priority = vm_settings.priority.value_or(header.priority),
                           .opcode = opcode_of(payload)};
    const Session::Ticket ticket = session.begin_request(header);
    if (refusing_) {
        refuse(session, ticket, info, VGPU_ERR_MEDIATOR_UNAVAILABLE, "the mediator is stopping");
        return;
    }
    const auto& vm = vms_.at(header.vm_id);
    const auto verdict = vm->limits.admit(clock_.now());
    if (verdict != VmLimits::Verdict::kAllowed) {
        const Outcome outcome = limit_outcome(verdict);
        refuse(session, ticket, info, outcome.status, outcome.data);
        return;
    }
    const auto decoded = decode_request(payload);
    if (const auto* const refusal = std::get_if<Refusal>(&decoded)) {
        refuse(session, ticket, info, refusal->code, refusal->sentence);
        return;
    }
    const auto& request = std::get<RequestView>(decoded);
    if (info.priority >= Scheduler::kPriorities) {
        refuse(session, ticket, info, VGPU_ERR_INVALID_REQUEST,
               "priority " + std::to_string(info.priority) + " is not 0, 1 or 2");
        return;
    }
    const auto pool = pool_by_id_[info.pool];
    if (!pool) {
        refuse(session, ticket, info, VGPU_ERR_INVALID_POOL, pool_sentence(info.pool));
        return;
    }
    auto decoded_operation = decode_operation(request);
    if (const auto* const refusal = std::get_if<Refusal>(&decoded_operation)) {
        refuse(session, ticket, info, refusal->code, refusal->sentence);
        return;
    }
    auto& operation = std::get<Operation>(decoded_operation);
    const bool queued = operation.job.opcode != VGPU_OP_SYNCHRONIZE;
    const std::uint64_t token = take_slot();
    const bool boosted = (request.fixed.flags & VGPU_FLAG_BOOST) != 0 && vm_settings.boost &&
                         info.priority < VGPU_PRIORITY_HIGH;
    const std::size_t level = info.priority + (boosted ? 1U : 0U);
    auto admission = Scheduler::Admission::kAccepted;
    if (queued && is_full(pools_[*pool])) {
        admission = Scheduler::Admission::kPoolFull;
    } else if (queued) {
        admission = scheduler_.enqueue(queue_of(*vm, *pool).index, *session.flow, level, token);
    } else if (vm->order.waiting() >= share_of(info.vm_id).queue_depth) {
        admission = Scheduler::Admission::kVmFull;
    }
    if (admission != Scheduler::Admission::kAccepted) {
        free_slot(token);
        refuse(session, ticket, info, VGPU_ERR_QUEUE_FULL,
               admission == Scheduler::Admission::kPoolFull
                   ? "the queue of this pool is full"
                   : "this VM has as many requests queued as it may");
        return;
    }
    Request& slot = requests_[token];
    slot.session = session.shared_from_this();
    slot.ticket = ticket;
    slot.info = info;
    slot.operation = std::move(operation);
    slot.operation.job.token = token;
    slot.vm = vm;
    slot.accepted_at = clock_.now();
    events_.on_event(RequestAccepted{.request = info});
    if (!queued) {
        synchronize(token);
        return;
    }
    slot.number = vm->order.accept();
    if (slot.operation.async) {
        slot.answered = true;
        session.answer(ticket, {});
    }
}

void Dispatcher::synchronize(std::uint64_t token) {
    Request& request = requests_[token];
    ++running_;
    request.running = true;
    request.started_at = request.accepted_at;
    if (const auto outcome = request.vm->order.synchronize(token)) {
        request.vm->count(&HoldBack::count_idle_synchronize, clock_.now());
        events_.on_event(RequestStarted{.request = request.info, .waited = request.waited});
        finish(token, *outcome);
    }
}

void Dispatcher::open_flow(Session& session) {
    check_thread();
    const std::uint32_t vm_id = session.vm_id().value();
    session.flow = scheduler_.open_flow(vm_id);
    scheduler_.set_share(vm_id, share_of(vm_id));
    auto& vm = vms_[vm_id];
    if (!vm) {
        vm = std::make_shared<VmState>(settings_.memory_quota(vm_id), limits_.of(vm_id));
    }
    ++vm->connections;
    // Its process was charged when the connection was accepted.
    vm->limits.hold().count_connection(clock_.now());
    vm->process = session.process;
}

void Dispatcher::close_flow(Session& session) {
    detach(session);
    for (const std::uint64_t token : scheduler_.close_flow(*session.flow)) {
        drop_queued(token, "its connection is gone", false);
    }
    session.flow.reset();
    const auto entry = vms_.find(session.vm_id().value());
    const auto vm = entry->second;
    if (--vm->connections == 0) {
        for (const std::size_t device : vm->devices) {
            --devices_[device].vms;
        }
        vms_.erase(entry);
        free_memory_of(*vm);
    }
}

void Dispatcher::free_memory_of(VmState& vm) {
    if (vm.running || (vm.connections > 0 && !vm.free_all)) {
        return;
    }
    vm.free_all = false;
    const auto buffers = vm.memory.take_all();
    to_free_.insert(to_free_.end(), buffers.begin(), buffers.end());
}

bool Dispatcher::free_some() {
    for (std::size_t left = kFreesPerTurn; left > 0 && !to_free_.empty(); --left) {
        const HandleTable::Buffer buffer = to_free_.front();
        to_free_.pop_front();
        Job job;
        job.token = kNobody;
        job.opcode = VGPU_OP_MEMORY_FREE;
        job.buffers[0] = buffer.id;
        devices_[buffer.device].executor->submit(job);
    }
    return !to_free_.empty();
}

void Dispatcher::end_in_order(VmState& vm, VmOrder::Number number, const Outcome* failure) {
    for (const auto& done : vm.order.end(number, failure)) {
        Request& waiting = requests_[done.token];
        waiting.started_at = clock_.now();
        waiting.waited = waiting.started_at - waiting.accepted_at;
        events_.on_event(RequestStarted{.request = waiting.info, .waited = waiting.waited});
        finish(done.token, done.outcome);
    }
}

void Dispatcher::drop(Request& request, std::string_view why, bool answer) {
    events_.on_event(RequestDropped{
        .request = request.info, .why = why, .answered = answer && !request.answered});
    request.dropped = true;
    if (answer && !request.answered) {
        this->answer(request, Outcome::failure(VGPU_ERR_MEDIATOR_UNAVAILABLE, std::string(why)));
    }
    request.answered = true;
}

void Dispatcher::answer(Request& request, Outcome outcome) {
    if (request.queue != nullptr) {
        request.queue->end(request.index, outcome);
    } else {
        request.session->answer(request.ticket, std::move(outcome));
    }
}

void Dispatcher::drop_queued(std::uint64_t token, std::string_view why, bool answer) {
    drop(requests_[token], why, answer);
    const auto vm = requests_[token].vm;
    const VmOrder::Number number = requests_[token].number;
    free_slot(token);
    end_in_order(*vm, number, nullptr);
}

void Dispatcher::give_up(std::string_view why) {
    refusing_ = true;
    for (Request& request : requests_) {
        if (request.running && !request.dropped) {
            drop(request, why, true);
        }
    }
    for (const std::uint64_t token : scheduler_.take_all()) {
        if (is_queue_token(token)) {
            drop_head(*queue_by_id_[queue_of_token(token)], why, true);
        } else {
            drop_queued(token, why, true);
        }
    }
    for (GuestQueue* const queue : std::exchange(stalled_, {})) {
        drop_head(*queue, why, true);
    }
}

std::optional<Scheduler::Entry> Dispatcher::next_for(Device& device) {
    for (std::size_t tried = 0; tried < device.queues.size(); ++tried) {
        const Scheduler::PoolIndex queue = device.queues[device.next_queue];
        device.next_queue = (device.next_queue + 1) % device.queues.size();
        if (auto entry = scheduler_.dequeue(queue)) {
            return entry;
        }
    }
    return std::nullopt;
}

bool Dispatcher::held_back(const Scheduler::Entry& entry) {
    Request& request = requests_[entry.token];
    const auto verdict = request.vm->limits.may_start(clock_.now());
    if (verdict == VmLimits::Verdict::kAllowed) {
        return false;
    }
    scheduler_.finished(entry.vm, {});
    const Outcome outcome = limit_outcome(verdict);
    count_refusal(*request.vm);
    events_.on_event(RequestDropped{
        .request = request.info, .why = outcome.data, .answered = !request.answered});
    if (!request.answered) {
        request.session->answer(request.ticket, outcome);
    }
    const auto vm = request.vm;
    const VmOrder::Number number = request.number;
    const bool async = request.operation.async;
    free_slot(entry.token);
    end_in_order(*vm, number, async ? &outcome : nullptr);
    return true;
}

void Dispatcher::account(Request& request, const Outcome& outcome) {
    std::chrono::nanoseconds used = std::chrono::microseconds(outcome.exec_time_us);
    const auto now = clock_.now();
    if (request.queue != nullptr) {
        used = leave_chain(request, used);
    } else {
        --devices_[request.device].running;
        request.vm->running = false;
        scheduler_.finished(request.scheduled_vm, used);
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

void Dispatcher::start(std::size_t device_index, const Scheduler::Entry& entry) {
    Request& request = requests_[entry.token];
    request.scheduled_vm = entry.vm;
    request.waited = entry.waited;
    request.vm->running = true;
    ++devices_[device_index].running;
    execute(device_index, entry.token);
}

void Dispatcher::execute(std::size_t device_index, std::uint64_t token) {
    Device& device = devices_[device_index];
    Request& request = requests_[token];
    request.started_at = clock_.now();
    request.running = true;
    request.device = device_index;
    ++running_;
    const Job& job = request.operation.job;
    const auto refused =
        device.failed_at
            ? std::optional(failed_device_outcome("the GPU has failed and has not recovered"))
            : request.vm->memory.prepare(request.operation, device_index);
    const bool immediate = device.executor->immediate(job);
    if (!refused && request.queue != nullptr) {
        place_in_region(request, device_index);
    }
    if (!refused && !immediate) {
        // Submit first, so that the device works while the rest is done.
        device.executor->submit(job);
        last_device_activity_ = clock_.now();
        const auto limit = request.vm->limits.settings().longest_execution;
        if (limit.count() > 0) {
            request.watched = watched_.emplace(request.started_at + limit, token);
        }
    }
    events_.on_event(RequestStarted{.request = request.info, .waited = request.waited});
    if (refused) {
        complete(token, *refused);
    } else if (immediate) {
        Outcome outcome = device.executor->run(job);
        clock_.next();
        request.vm->memory.complete(request.operation, device_index, outcome);
        complete(token, outcome);
    }
}

void Dispatcher::complete(std::uint64_t token, const Outcome& outcome) {
    Request& request = requests_[token];
    const auto vm = request.vm;
    const VmOrder::Number number = request.number;
    const bool failed = request.operation.async && outcome.status != VGPU_ERR_NONE;
    account(request, outcome);
    const std::uint32_t vm_id = request.info.vm_id;
    finish(token, outcome);
    if (is_fault_of_vm(outcome)) {
        limits_.count_fault(vm_id);
    }
    end_in_order(*vm, number, failed ? &outcome : nullptr);
    free_memory_of(*vm);
}

void Dispatcher::finish(std::uint64_t token, const Outcome& outcome) {
    Request& request = requests_[token];
    assert(request.running && running_ > 0);
    --running_;
    if (!request.dropped) {
        const bool open =
            request.queue != nullptr ? !request.queues->closed : request.session->open();
        events_.on_event(
            RequestFinished{.request = request.info,
                            .status = outcome.status,
                            .sentence = outcome.status == VGPU_ERR_NONE ? "" : outcome.data,
                            .waited = request.waited,
                            .ran = clock_.now() - request.started_at,
                            .exec_time_us = outcome.exec_time_us,
                            .delivered = open,
                            .fault = is_fault_of_vm(outcome)});
    }
    if (!request.answered) {
        answer(request, outcome);
    }
    const auto queues = request.queues;
    GuestQueue* const queue = request.queue;
    free_slot(token);
    if (queue != nullptr) {
        note_ended(*queue);
    }
}

bool Dispatcher::turn() {
    check_thread();
    report_overruns();
    release_held();
    settle_drained();
    for (std::size_t index = 0; index < devices_.size(); ++index) {
        ended_.clear();
        devices_[index].executor->take_completions(ended_);
        if (!ended_.empty()) {
            last_device_activity_ = clock_.now();
        }
        for (Completion& completion : ended_) {
            if (completion.change != DeviceChange::kNone) {
                take_change(index, completion);
            } else if (is_attach_token(completion.token)) {
                if (completion.outcome.status != VGPU_ERR_NONE) {
                    attach_failed(region_of_attach_token(completion.token), index,
                                  completion.outcome.data);
                }
            } else if (is_region_token(completion.token)) {
                region_detached(region_of_token(completion.token));
            } else if (completion.token != kNobody) {
                const Request& request = requests_[completion.token];
                request.vm->memory.complete(request.operation, request.device, completion.outcome);
                complete(completion.token, completion.outcome);
            }
        }
    }
    const bool more = start_waiting();
    settle_drained();
    return free_some() || more;
}

bool Dispatcher::start_waiting() {
    std::size_t immediate_left = kImmediatePerTurn;
    if (!stalled_.empty()) {
        retry_stalled();
    }
    for (std::size_t index = 0; index < devices_.size(); ++index) {
        const Device& device = devices_[index];
        if (device.failed_at && clock_.now() < *device.failed_at + settings_.recovery_wait) {
            continue;
        }
        while (device.running < settings_.slots_of(index)) {
            if (immediate_left == 0) {
                return true;
            }
            const auto entry = next_for(devices_[index]);
            if (!entry) {
                break;
            }
            if (is_queue_token(entry->token)) {
                immediate_left -= start_head(index, *entry, immediate_left);
                continue;
            }
            --immediate_left;
            if (!held_back(*entry)) {
                start(index, *entry);
            }
        }
    }
    return false;
}

std::unordered_map<std::uint32_t, Dispatcher::Load> Dispatcher::load_by_vm() const {
    std::unordered_map<std::uint32_t, Load> loads;
    for (const Request& request : requests_) {
        if (request.session) {
            Load& load = loads[request.info.vm_id];
            ++(request.running ? load.running : load.queued);
        }
    }
    for (const auto& [session, queues] : memories_) {
        for (const GuestQueue& queue : queues->queues) {
            if (queue.head) {
                ++loads[queue.head->info.vm_id].queued;
            }
        }
    }
    return loads;
}

std::unordered_map<char, std::size_t> Dispatcher::running_by_pool() const {
    std::unordered_map<char, std::size_t> running;
    for (const Request& request : requests_) {
        if (request.session && request.running) {
            ++running[static_cast<char>(request.info.pool)];
        }
    }
    return running;
}

std::uint64_t Dispatcher::memory_used_on(std::size_t index) const {
    std::uint64_t used = 0;
    for (const auto& [vm_id, vm] : vms_) {
        used += vm->memory.used_on(index);
    }
    return used;
}

const VmState* Dispatcher::vm(std::uint32_t vm_id) const {
    const auto found = vms_.find(vm_id);
    return found == vms_.end() ? nullptr : found->second.get();
}

bool Dispatcher::has_completions() {
    return std::any_of(devices_.begin(), devices_.end(),
                       [](const Device& device) { return device.executor->has_completions(); });
}

void Dispatcher::set_control_waiting(bool waiting) {
    for (const Device& device : devices_) {
        device.executor->set_control_waiting(waiting);
    }
}

}  // namespace vgpu
