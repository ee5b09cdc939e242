// SPDX-License-Identifier: MIT
#include "mediator/core/queue_pump.h"

#include <algorithm>
#include <string>

#include "base/relax.h"
#include "mediator/requests/tokens.h"
#include "ring/reply.h"

namespace vgpu {
namespace {

// NOPs of an inline batch where one queue alone is awake and nothing waits: about 5 us, less than
// the interval between polls of sockets and doorbells (Mediator::time_for_events).
constexpr std::size_t kMostAlone = 256;
// A long inline batch publishes completions in steps, so that the guest can proceed meanwhile.
constexpr std::size_t kPublishEvery = 8;
// Polls of an empty ring before an inline batch is closed, where no other queue is awake: closing
// it costs as much as a dozen NOPs.
constexpr int kPollsBeforeEnd = 64;
// Empty polls per read of the clock.
constexpr std::size_t kPollsPerRead = 16;
// Records taken in one poll of all devices, which have equal shares of at least one. The most
// expensive record, a rejected command with a reply and an interrupt, takes about 3 us.
constexpr std::size_t kRecordsPerPoll = 32;

// Returns true for a NOP with nothing to decode.
bool is_plain_nop(const vgpu_record& header) {
    return header.opcode == VGPU_OP_NOP && (header.flags & ~VGPU_FLAG_BOOST) == 0 &&
           header.inline_length == 0;
}

}  // namespace

void QueuePump::wake(GuestQueue& queue) {
    GuestQueues& owner = *queue.owner;
    if (queue.awake || owner.closed || owner.resets > 0) {
        return;
    }
    guard_.watch(owner, [&] { queue.consumer.wake(); });
    queue.awake = true;
    queue.traffic = true;
    owner.awake.push_back(&queue);
    ++awake_queues_;
    if (!owner.listed) {
        owner.listed = true;
        awake_.push_back(&owner);
    }
}

void QueuePump::stop(GuestQueues& queues, std::string_view why) {
    if (queues.flow) {
        for (const std::uint64_t token : context_.scheduler.close_flow(*queues.flow)) {
            drop_head_of(*doorbells_.queue(queue_of_token(token)), why, false);
        }
        queues.flow.reset();
    }
    std::erase_if(stalled_, [&](const GuestQueue* queue) { return queue->owner == &queues; });
    std::erase(awake_, &queues);
    std::erase(held_, &queues);
    queues.listed = false;
    awake_queues_ -= queues.awake.size();
    queues.awake.clear();
    guard_.watch(queues, [&] {
        for (GuestQueue& queue : queues.queues) {
            if (queue.head) {
                drop_head_of(queue, why, false);
            }
            queue.awake = false;
            if (queue.consumer.stop(VGPU_QUEUE_ERR_CLOSED)) {
                queue.interrupt();
            }
        }
    });
}

void QueuePump::release_held() {
    if (held_.empty()) {
        return;
    }
    std::erase_if(held_, [this](GuestQueues* queues) {
        if (queues->vm->held_until() > context_.clock.now()) {
            return false;
        }
        awake_.push_back(queues);
        return true;
    });
}

std::optional<std::chrono::nanoseconds> QueuePump::next_due() const {
    std::optional<std::chrono::nanoseconds> due;
    for (const GuestQueues* const queues : held_) {
        const auto until = queues->vm->held_until();
        due = std::min(due.value_or(until), until);
    }
    return due;
}

bool QueuePump::poll() {
    const bool was_waiting = context_.scheduler.depth() > 0;
    bool news = false;
    const std::size_t share =
        std::max<std::size_t>(kRecordsPerPoll / std::max<std::size_t>(awake_.size(), 1), 1);
    for (std::size_t i = 0; i < awake_.size();) {
        GuestQueues& queues = *awake_[i];
        news = guard_.watch(queues, [&] { return poll_device(queues, share); }) || news;
        const auto held_until = queues.vm->held_until();
        const bool held =
            held_until > std::chrono::nanoseconds(0) && held_until > context_.clock.now();
        if (!held && !queues.awake.empty()) {
            ++i;
            continue;
        }
        if (held) {
            held_.push_back(&queues);
        } else {
            queues.listed = false;
        }
        awake_[i] = awake_.back();
        awake_.pop_back();
    }
    return (news && (was_waiting || context_.scheduler.depth() > 0 || !stalled_.empty())) ||
           !drained_.empty();
}

bool QueuePump::poll_device(GuestQueues& queues, std::size_t most) {
    std::size_t taken = 0;
    // A queue that goes to sleep is replaced by the last one, which is polled in its place.
    for (std::size_t left = queues.awake.size(); left > 0 && taken < most; --left) {
        if (queues.next_awake >= queues.awake.size()) {
            queues.next_awake = 0;
        }
        GuestQueue& queue = *queues.awake[queues.next_awake];
        const std::uint64_t piece = context_.clock.pieces();
        const bool found = !blocked(queue) && poll_queue(queue);
        if (found) {
            ++taken;
            queue.traffic = true;
            if (context_.clock.pieces() == piece) {
                context_.clock.next();
            }
        } else if (++empty_polls_ >= kPollsPerRead) {
            empty_polls_ = 0;
            context_.clock.next();
        }
        if (!blocked(queue) && (found || keeps_polling(queue))) {
            ++queues.next_awake;
            continue;
        }
        queue.awake = false;
        queues.awake[queues.next_awake] = queues.awake.back();
        queues.awake.pop_back();
        --awake_queues_;
    }
    return taken > 0;
}

bool QueuePump::keeps_polling(GuestQueue& queue) {
    if (std::exchange(queue.traffic, false)) {
        queue.last_traffic = context_.clock.now();
        return true;
    }
    return context_.clock.now() - queue.last_traffic < context_.settings.spin ||
           !queue.consumer.prepare_sleep();
}

bool QueuePump::poll_queue(GuestQueue& queue) {
    switch (queue.consumer.take(record_)) {
        case ring::Take::kRecord:
            take_command(queue, true);
            return true;
        case ring::Take::kEmpty:
            return false;
        case ring::Take::kReset:
            if (!queue.commands.empty()) {
                return false;
            }
            queue.fault_counted = false;
            context_.count_refusal(*queue.owner->vm);
            if (queue.consumer.finish_reset()) {
                queue.interrupt();
            }
            return true;
        case ring::Take::kStopped:
            break;
    }
    if (queue.consumer.take_interrupt()) {
        queue.interrupt();
    }
    if (queue.consumer.error() >= VGPU_QUEUE_ERR_TAIL_UNALIGNED && !queue.fault_counted) {
        queue.fault_counted = true;
        const vgpu_msg_header& header = queue.owner->header;
        context_.events.on_event(
            QueueStopped{.session = queue.owner->session->id(),
                         .vm_id = header.vm_id,
                         .queue = queue.index,
                         .error = static_cast<std::uint32_t>(queue.consumer.error())});
        context_.limits.count_fault(header.vm_id);
    }
    return false;
}

void QueuePump::refuse(GuestQueue& queue, std::uint64_t index, const RequestInfo& info,
                       const Outcome& outcome) {
    const auto vm = queue.owner->vm;
    admission_.refused(*vm, info, outcome);
    const bool reported_by_synchronize = queue.command(index).header.reply_offset == 0;
    queue.end(index, outcome);
    if (reported_by_synchronize) {
        execution_.end_in_order(*vm, vm->order.accept(), &outcome);
    }
}

void QueuePump::take_command(GuestQueue& queue, bool may_run) {
    const vgpu_record& header = record_.header();
    const std::uint64_t index = queue.consumer.taken();
    queue.commands.push_back({.header = header});
    const RequestInfo info =
        admission_.describe(queue.owner->session->id(), queue.owner->header,
                            static_cast<std::uint32_t>(header.cookie), header.opcode);
    auto error = admission_.of_vm(*queue.owner->vm);
    if (!error) {
        error = admission_.of_target(info);
    }
    std::optional<Operation> operation;  // none: plain NOP
    if (!error && !is_plain_nop(header)) {
        auto decoded = decode_command(record_, queue.owner->memory->layout());
        if (decoded) {
            operation = *std::move(decoded);
            operation->async = header.reply_offset == 0;
        } else {
            error = Admission::outcome_of(decoded.error());
        }
    }
    if (error) {
        refuse(queue, index, info, *error);
        return;
    }
    if (operation && header.opcode == VGPU_OP_SYNCHRONIZE) {
        synchronize(queue, info, *std::move(operation));
        return;
    }
    if (operation && may_follow(queue, info, *operation)) {
        report_accepted(info);
        const std::size_t device = queue.chain.device;
        ++queue.chain.count;
        execution_.execute(device, make_request(queue, index, info, *std::move(operation)));
        return;
    }
    const std::size_t level = admission_.level_of(info, header.flags);
    if (!operation && may_run && run_at_once(queue, info, level)) {
        return;
    }
    queue.head = GuestQueue::Head{.info = info,
                                  .level = level,
                                  .taken_at = context_.clock.now(),
                                  .operation = std::move(operation)};
    enqueue_head(queue);
}

void QueuePump::enqueue_head(GuestQueue& queue) {
    GuestQueue::Head& head = *queue.head;
    if (admission_.enqueue(*queue.owner->vm, head.info, *queue.owner->flow, head.level,
                           queue_token(queue.id)) != Scheduler::Admission::kAccepted) {
        stalled_.push_back(&queue);
        return;
    }
    head.in_scheduler = true;
    // NOPs are reported after their execution, in one event per inline batch.
    if (head.operation) {
        report_accepted(head.info);
    }
}

void QueuePump::retry_stalled() {
    if (stalled_.empty()) {
        return;
    }
    for (GuestQueue* const queue : std::exchange(stalled_, {})) {
        enqueue_head(*queue);
    }
}

std::uint64_t QueuePump::make_request(GuestQueue& queue, std::uint64_t index,
                                      const RequestInfo& info, Operation operation) {
    const std::uint64_t token = execution_.requests().take();
    Request& slot = execution_.requests()[token];
    slot.session = queue.owner->session;
    slot.info = info;
    slot.operation = std::move(operation);
    slot.operation.job.token = token;
    slot.vm = queue.owner->vm;
    slot.queues = queue.owner->shared_from_this();
    slot.queue = &queue;
    slot.index = index;
    slot.accepted_at = context_.clock.now();
    if (slot.operation.job.opcode != VGPU_OP_SYNCHRONIZE) {
        slot.number = slot.vm->order.accept();
    }
    ++queue.owner->running;
    return token;
}

void QueuePump::synchronize(GuestQueue& queue, const RequestInfo& info, Operation operation) {
    const std::uint64_t index = queue.consumer.taken();
    if (const auto error = admission_.of_synchronize(*queue.owner->vm, info.vm_id)) {
        refuse(queue, index, info, *error);
        return;
    }
    report_accepted(info);
    queue.synchronizing = true;
    execution_.synchronize(make_request(queue, index, info, std::move(operation)));
}

std::size_t QueuePump::start_head(std::size_t device, const Scheduler::Entry& entry,
                                  std::size_t most) {
    GuestQueue& queue = *doorbells_.queue(queue_of_token(entry.token));
    // The start may end the last use of the memory.
    const auto owner = queue.owner->shared_from_this();
    return guard_.watch(*owner, [&] { return start_head_of(queue, device, entry, most); });
}

std::size_t QueuePump::start_head_of(GuestQueue& queue, std::size_t device_index,
                                     const Scheduler::Entry& entry, std::size_t most) {
    Device& device = devices_[device_index];
    GuestQueue::Head head = *std::exchange(queue.head, std::nullopt);
    VmState& vm = *queue.owner->vm;
    const std::uint64_t index = queue.consumer.taken();
    if (const auto verdict = vm.limits.may_start(context_.clock.now());
        verdict != VmLimits::Verdict::kAllowed) {
        context_.scheduler.finished(entry.vm, {});
        const Outcome outcome = limit_outcome(verdict);
        if (!head.operation) {
            report_accepted(head.info);
        }
        context_.count_refusal(vm);
        context_.events.on_event(
            RequestDropped{.request = head.info, .why = outcome.data, .answered = true});
        queue.end(index, outcome);
        wake(queue);
        return 1;
    }
    const auto waited = context_.clock.now() - head.taken_at;
    if (!head.operation && !device.failed_at && queue.commands.size() == 1) {
        return run(queue, entry, head.info, waited, most);
    }
    if (!head.operation) {
        report_accepted(head.info);
        head.operation.emplace();
    }
    vm.running = true;
    ++device.running;
    queue.chain = {.count = 1,
                   .open = can_follow(head.info.opcode),
                   .device = device_index,
                   .vm = entry.vm,
                   .used = {},
                   .last_end = context_.clock.now()};
    const std::uint64_t token = make_request(queue, index, head.info, *std::move(head.operation));
    execution_.requests()[token].waited = waited;
    wake(queue);
    execution_.execute(device_index, token);
    return 1;
}

bool QueuePump::run_at_once(GuestQueue& queue, const RequestInfo& info, std::size_t level) {
    if (awake_queues_ != 1 || context_.scheduler.depth() != 0 || !stalled_.empty() ||
        queue.commands.size() != 1) {
        return false;
    }
    VmState& vm = *queue.owner->vm;
    const Placement::Queue& chosen = placement_.queue_of(vm.placement, admission_.pool_of(info));
    const Device& device = devices_[chosen.device];
    if (device.failed_at || device.running >= context_.settings.slots_of(chosen.device) ||
        (vm.limits.any() &&
         vm.limits.may_start(context_.clock.now()) != VmLimits::Verdict::kAllowed)) {
        return false;
    }
    const auto entry = context_.scheduler.start_at_once(chosen.index, *queue.owner->flow, level,
                                                        queue_token(queue.id));
    if (!entry) {
        return false;
    }
    run(queue, *entry, info, std::chrono::nanoseconds(0), kMostAlone);
    return true;
}

std::size_t QueuePump::run(GuestQueue& queue, const Scheduler::Entry& entry,
                           const RequestInfo& info, std::chrono::nanoseconds waited,
                           std::size_t most) {
    VmState& vm = *queue.owner->vm;
    ring::Consumer& consumer = queue.consumer;
    const vgpu_record head = queue.commands.front().header;
    queue.commands.pop_front();
    const vgpu_record* header = &head;
    std::size_t count = 0;
    std::size_t told = 0;  // of those, published to the guest
    bool other_taken = false;
    int polls_left = awake_queues_ == 1 && context_.settings.spin.count() > 0 ? kPollsBeforeEnd : 0;
    // Constant within an inline batch.
    const bool admit_each = context_.stopping || vm.limits.any();
    const auto tell = [&] { consumer.advance(count - std::exchange(told, count)); };
    for (;;) {
        if (header->reply_offset != 0) {
            static_cast<void>(
                ring::write_reply(queue.owner->memory->base(), *header, VGPU_ERR_NONE, 0, {}, {}));
        }
        ++count;
        if (count - told == kPublishEvery) {
            tell();
        }
        if (count == most) {
            break;
        }
        auto taken = ring::Take::kEmpty;
        while ((taken = consumer.take(record_)) == ring::Take::kEmpty && polls_left-- > 0) {
            if (told != count) {
                tell();
            }
            relax_processor();
        }
        if (taken != ring::Take::kRecord) {
            break;
        }
        header = &record_.header();
        if (!is_plain_nop(*header) ||
            (admit_each && (context_.stopping || vm.limits.admit(context_.clock.now()) !=
                                                     VmLimits::Verdict::kAllowed))) {
            other_taken = true;
            break;
        }
    }
    if (consumer.complete(count - told)) {
        queue.interrupt();
    }
    // The guest has its reply; the rest is not urgent.
    const auto began = context_.clock.now();
    context_.clock.next();
    const auto ran = context_.clock.now() - began;
    context_.scheduler.finished(entry.vm, ran);
    context_.events.on_event(RequestRun{
        .request = info, .count = count, .waited = waited, .ran = ran, .exec_time_us = 0});
    queue.traffic = true;
    if (other_taken) {
        take_command(queue, false);
        ++count;
    }
    wake(queue);
    return count;
}

bool QueuePump::may_follow(const GuestQueue& queue, const RequestInfo& info,
                           const Operation& operation) {
    const GuestQueue::Chain& chain = queue.chain;
    if (chain.count == 0 || !chain.open || !can_follow(operation.job.opcode) || !stalled_.empty()) {
        return false;
    }
    VmState& vm = *queue.owner->vm;
    return !devices_[chain.device].failed_at &&
           placement_.queue_of(vm.placement, admission_.pool_of(info)).device == chain.device &&
           !placement_.any_waiting_for(chain.device) &&
           vm.limits.may_start(context_.clock.now()) == VmLimits::Verdict::kAllowed;
}

void QueuePump::drop_head(std::uint64_t token, std::string_view why) {
    drop_head_of(*doorbells_.queue(queue_of_token(token)), why, true);
}

void QueuePump::drop_stalled(std::string_view why) {
    for (GuestQueue* const queue : std::exchange(stalled_, {})) {
        drop_head_of(*queue, why, true);
    }
}

void QueuePump::drop_head_of(GuestQueue& queue, std::string_view why, bool answer) {
    const GuestQueue::Head head = *std::exchange(queue.head, std::nullopt);
    if (!head.operation || !head.in_scheduler) {
        report_accepted(head.info);
    }
    context_.events.on_event(RequestDropped{.request = head.info, .why = why, .answered = answer});
    if (answer) {
        guard_.watch(*queue.owner, [&] {
            queue.end(queue.consumer.taken(),
                      Outcome::failure(VGPU_ERR_MEDIATOR_UNAVAILABLE, std::string(why)));
        });
    }
}

void QueuePump::on_command_ended(GuestQueue& queue) {
    GuestQueues& queues = *queue.owner;
    queue.synchronizing = false;
    wake(queue);
    --queues.running;
    if (queues.closed || queues.resets > 0) {
        note_if_drained(queues);
    }
}

std::shared_ptr<GuestQueues> QueuePump::take_drained() {
    if (drained_.empty()) {
        return nullptr;
    }
    auto next = std::move(drained_.front());
    drained_.pop_front();
    return next;
}

void QueuePump::note_if_drained(GuestQueues& queues) {
    const auto is_it = [&](const auto& one) { return one.get() == &queues; };
    // A reset and the end of the connection may both find it drained.
    if (queues.running == 0 && std::none_of(drained_.begin(), drained_.end(), is_it)) {
        drained_.push_back(queues.shared_from_this());
    }
}

}  // namespace vgpu
