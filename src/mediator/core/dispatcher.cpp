// SPDX-License-Identifier: MIT
#include "mediator/core/dispatcher.h"

#include <algorithm>
#include <cassert>

#include "ipc/request.h"
#include "mediator/requests/decoding.h"
#include "mediator/requests/tokens.h"

namespace vgpu {
namespace {

// Operations executed on the control loop per turn, so that a long queue of them does not starve
// the sockets.
constexpr std::size_t kImmediatePerTurn = 64;

}  // namespace

Dispatcher::Dispatcher(const Settings& settings, std::vector<std::unique_ptr<Backend>> backends,
                       EventSink& events, const Clock& clock)
    : context_(settings, events, clock, Placement::count_queues(settings.pools)),
      placement_(settings, context_.scheduler, backends.size()),
      admission_(context_, placement_),
      guard_(context_.clock),
      execution_(context_, devices_, guard_, pump_),
      pump_(context_, devices_, placement_, admission_, execution_, doorbells_, guard_),
      memories_(context_, devices_, execution_, pump_, doorbells_, interrupter_, guard_),
      devices_(settings, std::move(backends), events, context_.clock) {}

void Dispatcher::apply_settings() {
    thread_.check(kControlLoopOnly);
    placement_.apply_policies();
    for (const auto& [vm_id, vm] : context_.vms) {
        vm->memory.set_quota(context_.settings.memory_quota(vm_id));
        context_.scheduler.set_share(vm_id, context_.share_of(vm_id));
    }
    context_.scheduler.set_limits(context_.settings.queue);
    context_.limits.apply();
}

void Dispatcher::refuse(Session& session, Session::Ticket ticket, const RequestInfo& info,
                        const Outcome& outcome) {
    admission_.refused(*context_.vms.at(info.vm_id), info, outcome);
    session.answer(ticket, outcome);
}

void Dispatcher::submit(Session& session, const vgpu_msg_header& header,
                        std::span<const std::byte> payload) {
    thread_.check(kControlLoopOnly);
    assert(session.flow);
    const RequestInfo info =
        admission_.describe(session.id(), header, header.request_id, opcode_of(payload));
    const auto vm = context_.vms.at(header.vm_id);
    const Session::Ticket ticket = session.begin_request(header);
    std::uint32_t flags = 0;
    // Returns the operation, or the first error in the order of docs/protocol.md, section 5.
    const auto check = [&]() -> Result<Operation, Outcome> {
        if (auto error = admission_.of_vm(*vm)) {
            return *std::move(error);
        }
        const auto request = decode_request(payload);
        if (!request) {
            return Admission::outcome_of(request.error());
        }
        if (auto error = admission_.of_target(info)) {
            return *std::move(error);
        }
        flags = request->fixed.flags;
        auto operation = decode_operation(*request);
        if (!operation) {
            return Admission::outcome_of(operation.error());
        }
        return *std::move(operation);
    };
    auto operation = check();
    if (!operation) {
        refuse(session, ticket, info, operation.error());
        return;
    }
    const bool queued = operation->job.opcode != VGPU_OP_SYNCHRONIZE;
    RequestTable& requests = execution_.requests();
    const std::uint64_t token = requests.take();
    std::optional<Outcome> error;
    if (!queued) {
        error = admission_.of_synchronize(*vm, info.vm_id);
    } else if (const auto admission = admission_.enqueue(*vm, info, *session.flow,
                                                         admission_.level_of(info, flags), token);
               admission != Scheduler::Admission::kAccepted) {
        error = Admission::full(admission);
    }
    if (error) {
        requests.free(token);
        refuse(session, ticket, info, *error);
        return;
    }
    Request& slot = requests[token];
    slot.session = session.shared_from_this();
    slot.ticket = ticket;
    slot.info = info;
    slot.operation = *std::move(operation);
    slot.operation.job.token = token;
    slot.vm = vm;
    slot.accepted_at = now();
    context_.events.on_event(RequestAccepted{.request = info});
    if (!queued) {
        execution_.synchronize(token);
        return;
    }
    slot.number = vm->order.accept();
    if (slot.operation.async) {
        slot.answered = true;
        session.answer(ticket, {});
    }
}

void Dispatcher::open_flow(Session& session) {
    thread_.check(kControlLoopOnly);
    const std::uint32_t vm_id = session.vm_id().value();
    session.flow = context_.scheduler.open_flow(vm_id);
    context_.scheduler.set_share(vm_id, context_.share_of(vm_id));
    auto& vm = context_.vms[vm_id];
    if (!vm) {
        vm = std::make_shared<VmState>(context_.settings.memory_quota(vm_id),
                                       context_.limits.of(vm_id));
    }
    ++vm->connections;
    // Its process was charged when the connection was accepted.
    vm->limits.hold().count_connection(now());
    vm->process = session.process;
}

void Dispatcher::close_flow(Session& session) {
    memories_.detach(session);
    for (const std::uint64_t token : context_.scheduler.close_flow(*session.flow)) {
        execution_.drop_queued(token, "its connection was closed", false);
    }
    session.flow.reset();
    const auto entry = context_.vms.find(session.vm_id().value());
    const auto vm = entry->second;
    if (--vm->connections == 0) {
        placement_.remove(vm->placement);
        context_.vms.erase(entry);
        execution_.free_memory_of(*vm);
    }
}

void Dispatcher::give_up(std::string_view why) {
    context_.stopping = true;
    execution_.give_up(why);
    for (const std::uint64_t token : context_.scheduler.take_all()) {
        if (is_queue_token(token)) {
            pump_.drop_head(token, why);
        } else {
            execution_.drop_queued(token, why, true);
        }
    }
    pump_.drop_stalled(why);
}

void Dispatcher::on_doorbells() {
    thread_.check(kControlLoopOnly);
    static_cast<void>(now());  // Mediator::sleep() counts from here on
    for (GuestQueue* const queue : doorbells_.rung()) {
        pump_.wake(*queue);
    }
}

bool Dispatcher::turn() {
    thread_.check(kControlLoopOnly);
    execution_.report_overruns();
    pump_.release_held();
    memories_.settle();
    for (std::size_t device = 0; device < devices_.size(); ++device) {
        take_completions(device);
    }
    const bool more = start_waiting();
    memories_.settle();
    return execution_.free_some() || pump_.any_drained() || more;
}

void Dispatcher::take_completions(std::size_t device) {
    ended_.clear();
    devices_.take_completions(device, ended_);
    if (!ended_.empty()) {
        // They may have ended after the time was read.
        begin_work();
    }
    for (Completion& completion : ended_) {
        const std::uint64_t token = completion.token;
        if (completion.change != DeviceChange::kNone) {
            execution_.device_changed(device, completion);
        } else if (is_attach_token(token)) {
            if (completion.outcome.status != VGPU_ERR_NONE) {
                memories_.attach_failed(region_of_attach_token(token), device,
                                        completion.outcome.data);
            }
        } else if (is_region_token(token)) {
            memories_.region_detached(region_of_token(token));
        } else if (token != kIgnoredToken) {
            execution_.ended(completion);
        }
    }
}

bool Dispatcher::start_waiting() {
    std::size_t immediate_left = kImmediatePerTurn;
    pump_.retry_stalled();
    for (std::size_t device = 0; device < devices_.size(); ++device) {
        while (devices_.has_free_slot(device)) {
            if (immediate_left == 0) {
                return true;
            }
            const auto entry = placement_.next_for(device);
            if (!entry) {
                break;
            }
            if (is_queue_token(entry->token)) {
                immediate_left -= pump_.start_head(device, *entry, immediate_left);
            } else {
                --immediate_left;
                execution_.start(device, *entry);
            }
        }
    }
    return false;
}

std::optional<std::chrono::nanoseconds> Dispatcher::next_due() const {
    std::optional<std::chrono::nanoseconds> due;
    for (const auto& time : {execution_.next_overrun(), pump_.next_due(),
                             devices_.next_due(context_.scheduler.depth() > 0)}) {
        if (time) {
            due = std::min(due.value_or(*time), *time);
        }
    }
    return due;
}

const VmState* Dispatcher::vm(std::uint32_t vm_id) const {
    const auto found = context_.vms.find(vm_id);
    return found == context_.vms.end() ? nullptr : found->second.get();
}

std::unordered_map<std::uint32_t, Dispatcher::Load> Dispatcher::load_by_vm() const {
    std::unordered_map<std::uint32_t, Load> loads;
    for (const Request& request : execution_.requests()) {
        if (request.session) {
            Load& load = loads[request.info.vm_id];
            ++(request.running ? load.running : load.queued);
        }
    }
    memories_.for_each_queue([&](const GuestQueue& queue) {
        if (queue.head) {
            ++loads[queue.head->info.vm_id].queued;
        }
    });
    return loads;
}

std::unordered_map<char, std::size_t> Dispatcher::running_by_pool() const {
    std::unordered_map<char, std::size_t> running;
    for (const Request& request : execution_.requests()) {
        if (request.session && request.running) {
            ++running[static_cast<char>(request.info.pool)];
        }
    }
    return running;
}

std::uint64_t Dispatcher::memory_used_on(std::size_t device) const {
    std::uint64_t used = 0;
    for (const auto& [vm_id, vm] : context_.vms) {
        used += vm->memory.used_on(device);
    }
    return used;
}

}  // namespace vgpu
