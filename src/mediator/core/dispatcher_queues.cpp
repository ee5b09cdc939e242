// SPDX-License-Identifier: MIT
//
// The part of the Dispatcher that serves commands of queues. The work that guests can cause in one
// poll is bounded: at most one record is taken per awake queue, all queues of a device together
// take at most its share of kRecordsPerLook, and commands executed on the control loop share the
// bound of those of the sessions.
#include <algorithm>
#include <cassert>
#include <cstddef>
#include <string>
#include <utility>

#include "base/relax.h"
#include "mediator/config/names.h"
#include "mediator/core/dispatcher.h"
#include "mediator/core/dispatcher_tokens.h"
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
constexpr int kLooksBeforeEnd = 64;
// Empty polls per read of the clock.
constexpr std::size_t kLooksPerRead = 16;
// Records taken in one poll of all devices, which have equal shares of at least one. The most
// expensive record, a rejected command with a reply and an interrupt, takes about 3 us.
constexpr std::size_t kRecordsPerLook = 32;

// Returns true for a NOP with nothing to decode.
bool is_plain_nop(const vgpu_record& header) {
    return header.opcode == VGPU_OP_NOP && (header.flags & ~VGPU_FLAG_BOOST) == 0 &&
           header.inline_length == 0;
}

}  // namespace

bool Dispatcher::blocked(const GuestQueue& queue) const {
    return queue.head || queue.synchronizing ||
           queue.commands.size() >= settings_.queues_pipeline ||
           (queue.consumer.state() == VGPU_QUEUE_RESETTING && !queue.commands.empty());
}

void Dispatcher::wake(GuestQueue& queue) {
    GuestQueues& owner = *queue.owner;
    if (queue.awake || owner.closed || owner.resets > 0) {
        return;
    }
    if (touches_.suspicious()) {
        clock_.next();
        touches_.begin(clock_.now());
        queue.consumer.wake();
        judge_touches(owner);
    } else {
        queue.consumer.wake();
    }
    queue.awake = true;
    queue.traffic = true;
    owner.awake.push_back(&queue);
    ++awake_queues_;
    if (!owner.listed) {
        owner.listed = true;
        awake_.push_back(&owner);
    }
}

void Dispatcher::release_held() {
    if (held_.empty()) {
        return;
    }
    std::erase_if(held_, [this](GuestQueues* queues) {
        if (queues->vm->held_until() > clock_.now()) {
            return false;
        }
        awake_.push_back(queues);
        return true;
    });
}

bool Dispatcher::look_at_queues() {
    check_thread();
    const bool was_waiting = scheduler_.depth() > 0;
    bool news = false;
    const std::size_t share =
        std::max<std::size_t>(kRecordsPerLook / std::max<std::size_t>(awake_.size(), 1), 1);
    const bool measured = touches_.suspicious();
    if (measured) {
        clock_.next();
        touches_.begin(clock_.now());
    }
    for (std::size_t i = 0; i < awake_.size();) {
        GuestQueues& queues = *awake_[i];
        news = look_at_device(queues, share) || news;
        if (measured) {
            judge_touches(queues);
        }
        const auto held_until = queues.vm->held_until();
        const bool held = held_until > std::chrono::nanoseconds(0) && held_until > clock_.now();
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
    return (news && (was_waiting || scheduler_.depth() > 0 || !stalled_.empty())) ||
           !drained_.empty();
}

bool Dispatcher::look_at_device(GuestQueues& queues, std::size_t most) {
    std::size_t taken = 0;
    // A queue that goes to sleep is replaced by the last one, which is polled in its place.
    for (std::size_t left = queues.awake.size(); left > 0 && taken < most; --left) {
        if (queues.next_awake >= queues.awake.size()) {
            queues.next_awake = 0;
        }
        GuestQueue& queue = *queues.awake[queues.next_awake];
        const std::uint64_t piece = clock_.pieces();
        const bool found = !blocked(queue) && look_at(queue);
        if (found) {
            ++taken;
            queue.traffic = true;
            if (clock_.pieces() == piece) {
                clock_.next();
            }
        } else if (++empty_looks_ >= kLooksPerRead) {
            empty_looks_ = 0;
            clock_.next();
        }
        if (!blocked(queue) && (found || goes_on(queue))) {
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

bool Dispatcher::goes_on(GuestQueue& queue) {
    if (std::exchange(queue.traffic, false)) {
        queue.last_traffic = clock_.now();
        return true;
    }
    return clock_.now() - queue.last_traffic < settings_.spin || !queue.consumer.prepare_sleep();
}

bool Dispatcher::look_at(GuestQueue& queue) {
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
            count_refusal(*queue.owner->vm);
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
        events_.on_event(QueueStopped{.session = queue.owner->session->id(),
                                      .vm_id = header.vm_id,
                                      .queue = queue.index,
                                      .error = static_cast<std::uint32_t>(queue.consumer.error())});
        limits_.count_fault(header.vm_id);
    }
    return false;
}

RequestInfo Dispatcher::info_of(const GuestQueue& queue) const {
    const vgpu_msg_header& header = queue.owner->header;
    const VmSettings& vm = settings_.vm(header.vm_id);
    return {.session = queue.owner->session->id(),
            .vm_id = header.vm_id,
            .request_id = static_cast<std::uint32_t>(record_.header().cookie),
            .pool = static_cast<std::uint8_t>(vm.pool.value_or(static_cast<char>(header.pool_id))),
            .priority = vm.priority.value_or(header.priority),
            .opcode = record_.header().opcode};
}

void Dispatcher::refuse_command(GuestQueue& queue, std::uint64_t index, const RequestInfo& info,
                                const Outcome& outcome) {
    events_.on_event(
        RequestRefused{.request = info, .status = outcome.status, .sentence = outcome.data});
    if (is_vm_fault(outcome.status)) {
        limits_.count_fault(info.vm_id);
    }
    const auto vm = queue.owner->vm;
    count_refusal(*vm);
    const bool told_by_synchronize = queue.command(index).header.reply_offset == 0;
    queue.end(index, outcome);
    if (told_by_synchronize) {
        end_in_order(*vm, vm->order.accept(), &outcome);
    }
}

void Dispatcher::take_command(GuestQueue& queue, bool may_run) {
    const vgpu_record& header = record_.header();
    const std::uint64_t index = queue.consumer.taken();
    queue.commands.push_back({.header = header});
    const RequestInfo info = info_of(queue);
    const auto refuse = [&](std::uint32_t status, std::string sentence) {
        refuse_command(queue, index, info, Outcome::failure(status, std::move(sentence)));
    };
    if (refusing_) {
        refuse(VGPU_ERR_MEDIATOR_UNAVAILABLE, "the mediator is stopping");
        return;
    }
    VmState& vm = *queue.owner->vm;
    if (const auto verdict =
            vm.limits.any() ? vm.limits.admit(clock_.now()) : VmLimits::Verdict::kAllowed;
        verdict != VmLimits::Verdict::kAllowed) {
        refuse_command(queue, index, info, limit_outcome(verdict));
        return;
    }
    if (info.priority >= Scheduler::kPriorities) {
        refuse(VGPU_ERR_INVALID_REQUEST,
               "priority " + std::to_string(info.priority) + " is not 0, 1 or 2");
        return;
    }
    if (!pool_by_id_[info.pool]) {
        refuse(VGPU_ERR_INVALID_POOL, pool_sentence(info.pool));
        return;
    }
    std::optional<Operation> operation;
    if (!is_plain_nop(header)) {
        auto decoded = decode_command(record_, queue.owner->memory->layout());
        if (const auto* const refusal = std::get_if<Refusal>(&decoded)) {
            refuse(refusal->code, refusal->sentence);
            return;
        }
        operation = std::get<Operation>(std::move(decoded));
        operation->async = header.reply_offset == 0;
    }
    if (operation && header.opcode == VGPU_OP_SYNCHRONIZE) {
        synchronize_command(queue, info, *std::move(operation));
        return;
    }
    if (operation && may_follow(queue, *operation)) {
        events_.on_event(RequestAccepted{.request = info});
        const std::size_t device = queue.chain.device;
        ++queue.chain.count;
        execute(device, make_request(queue, index, info, *std::move(operation)));
        return;
    }
    const bool boosted = (header.flags & VGPU_FLAG_BOOST) != 0 && settings_.vm(info.vm_id).boost &&
                         info.priority < VGPU_PRIORITY_HIGH;
    const std::size_t level = info.priority + (boosted ? 1U : 0U);
    if (!operation && may_run && run_at_once(queue, info, level)) {
        return;
    }
    queue.head = GuestQueue::Head{
        .info = info, .level = level, .taken_at = clock_.now(), .operation = std::move(operation)};
    enqueue_head(queue);
}

void Dispatcher::say_accepted(const GuestQueue::Head& head) {
    events_.on_event(RequestAccepted{.request = head.info});
}

void Dispatcher::enqueue_head(GuestQueue& queue) {
    GuestQueue::Head& head = *queue.head;
    const std::size_t pool = *pool_by_id_[head.info.pool];
    if (is_full(pools_[pool]) ||
        scheduler_.enqueue(queue_of(*queue.owner->vm, pool).index, *queue.owner->flow, head.level,
                           queue_token(queue.id)) != Scheduler::Admission::kAccepted) {
        stalled_.push_back(&queue);
        return;
    }
    head.in_scheduler = true;
    // NOPs are reported after their execution, in one event per inline batch.
    if (head.operation) {
        say_accepted(head);
    }
}

void Dispatcher::retry_stalled() {
    for (GuestQueue* const queue : std::exchange(stalled_, {})) {
        enqueue_head(*queue);
    }
}

std::uint64_t Dispatcher::make_request(GuestQueue& queue, std::uint64_t index,
                                       const RequestInfo& info, Operation operation) {
    const std::uint64_t token = take_slot();
    Request& slot = requests_[token];
    slot.session = queue.owner->session;
    slot.info = info;
    slot.operation = std::move(operation);
    slot.operation.job.token = token;
    slot.vm = queue.owner->vm;
    slot.queues = queue.owner->shared_from_this();
    slot.queue = &queue;
    slot.index = index;
    slot.accepted_at = clock_.now();
    if (slot.operation.job.opcode != VGPU_OP_SYNCHRONIZE) {
        slot.number = slot.vm->order.accept();
    }
    ++queue.owner->running;
    return token;
}

void Dispatcher::synchronize_command(GuestQueue& queue, const RequestInfo& info,
                                     Operation operation) {
    if (queue.owner->vm->order.waiting() >= share_of(info.vm_id).queue_depth) {
        refuse_command(
            queue, queue.consumer.taken(), info,
            Outcome::failure(VGPU_ERR_QUEUE_FULL, "this VM has as many requests queued as it may"));
        return;
    }
    events_.on_event(RequestAccepted{.request = info});
    queue.synchronizing = true;
    synchronize(make_request(queue, queue.consumer.taken(), info, std::move(operation)));
}

std::size_t Dispatcher::start_head(std::size_t device_index, const Scheduler::Entry& entry,
                                   std::size_t most) {
    if (!touches_.suspicious()) {
        return start_head_now(device_index, entry, most);
    }
    const auto owner = queue_by_id_[queue_of_token(entry.token)]->owner->shared_from_this();
    clock_.next();
    touches_.begin(clock_.now());
    const std::size_t executed = start_head_now(device_index, entry, most);
    judge_touches(*owner);
    return executed;
}

std::size_t Dispatcher::start_head_now(std::size_t device_index, const Scheduler::Entry& entry,
                                       std::size_t most) {
    Device& device = devices_[device_index];
    GuestQueue& queue = *queue_by_id_[queue_of_token(entry.token)];
    GuestQueue::Head head = *std::exchange(queue.head, std::nullopt);
    VmState& vm = *queue.owner->vm;
    const std::uint64_t index = queue.consumer.taken();
    if (const auto verdict = vm.limits.may_start(clock_.now());
        verdict != VmLimits::Verdict::kAllowed) {
        scheduler_.finished(entry.vm, {});
        const Outcome outcome = limit_outcome(verdict);
        if (!head.operation) {
            say_accepted(head);
        }
        count_refusal(vm);
        events_.on_event(
            RequestDropped{.request = head.info, .why = outcome.data, .answered = true});
        queue.end(index, outcome);
        wake(queue);
        return 1;
    }
    if (!head.operation && !device.failed_at && queue.commands.size() == 1) {
        return run(queue, entry, head.info, clock_.now() - head.taken_at, most);
    }
    if (!head.operation) {
        say_accepted(head);
        head.operation.emplace();
    }
    vm.running = true;
    ++device.running;
    queue.chain = {.count = 1,
                   .open = can_follow(head.info.opcode),
                   .device = device_index,
                   .vm = entry.vm,
                   .used = {},
                   .last_end = clock_.now()};
    const auto waited = clock_.now() - head.taken_at;
    const std::uint64_t token = make_request(queue, index, head.info, *std::move(head.operation));
    requests_[token].waited = waited;
    wake(queue);
    execute(device_index, token);
    return 1;
}

bool Dispatcher::run_at_once(GuestQueue& queue, const RequestInfo& info, std::size_t level) {
    if (awake_queues_ != 1 || scheduler_.depth() != 0 || !stalled_.empty() ||
        queue.commands.size() != 1) {
        return false;
    }
    const Queue& chosen = queue_of(*queue.owner->vm, *pool_by_id_[info.pool]);
    const Device& device = devices_[chosen.device];
    if (device.failed_at || device.running >= settings_.slots_of(chosen.device) ||
        (queue.owner->vm->limits.any() &&
         queue.owner->vm->limits.may_start(clock_.now()) != VmLimits::Verdict::kAllowed)) {
        return false;
    }
    const auto entry =
        scheduler_.start_at_once(chosen.index, *queue.owner->flow, level, queue_token(queue.id));
    if (!entry) {
        return false;
    }
    run(queue, *entry, info, std::chrono::nanoseconds(0), kMostAlone);
    return true;
}

std::size_t Dispatcher::run(GuestQueue& queue, const Scheduler::Entry& entry,
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
    int looks_left = awake_queues_ == 1 && settings_.spin.count() > 0 ? kLooksBeforeEnd : 0;
    // Constant within an inline batch.
    const bool admit_each = refusing_ || vm.limits.any();
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
        while ((taken = consumer.take(record_)) == ring::Take::kEmpty && looks_left-- > 0) {
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
            (admit_each &&
             (refusing_ || vm.limits.admit(clock_.now()) != VmLimits::Verdict::kAllowed))) {
            other_taken = true;
            break;
        }
    }
    if (consumer.complete(count - told)) {
        queue.interrupt();
    }
    // The guest has its reply; the rest is not urgent.
    const auto began = clock_.now();
    clock_.next();
    const auto ran = clock_.now() - began;
    scheduler_.finished(entry.vm, ran);
    events_.on_event(RequestRun{
        .request = info, .count = count, .waited = waited, .ran = ran, .exec_time_us = 0});
    queue.traffic = true;
    if (other_taken) {
        take_command(queue, false);
        ++count;
    }
    wake(queue);
    return count;
}

bool Dispatcher::may_follow(const GuestQueue& queue, const Operation& operation) {
    const GuestQueue::Chain& chain = queue.chain;
    if (chain.count == 0 || !chain.open || !can_follow(operation.job.opcode) || !stalled_.empty()) {
        return false;
    }
    const Device& device = devices_[chain.device];
    VmState& vm = *queue.owner->vm;
    const std::size_t pool = *pool_by_id_[info_of(queue).pool];
    return !device.failed_at && queue_of(vm, pool).device == chain.device &&
           std::all_of(device.queues.begin(), device.queues.end(),
                       [&](auto waiting) { return scheduler_.depth(waiting) == 0; }) &&
           vm.limits.may_start(clock_.now()) == VmLimits::Verdict::kAllowed;
}

void Dispatcher::place_in_region(Request& request, std::size_t device_index) {
    GuestQueues& queues = *request.queues;
    Executor& executor = *devices_[device_index].executor;
    Job& job = request.operation.job;
    if (executor.immediate(job)) {
        return;
    }
    GuestQueue& queue = *request.queue;
    GuestQueue::Command& command = queue.command(request.index);
    const ring::Layout& layout = queues.memory->layout();
    if (can_follow(job.opcode)) {
        job.chain = queue.id + 1;
        if (queue.timeline_run_over && queue.commands.size() == 1) {
            queue.timeline_run_over = false;
            ++queue.timeline_run;
        }
        if (executor.writes_timeline() && !queue.timeline_run_over &&
            queue.all_before_by_device()) {
            // The guest may see the completion before the mediator does: write its reply first.
            command.by_device = true;
            job.timeline =
                layout.control_offset(queue.index) + offsetof(vgpu_queue_control, completed);
            job.timeline_value = request.index;
            job.timeline_run = queue.timeline_run;
            Outcome success;
            success.result_count = request.operation.result_words;
            queue.write_reply(command.header, success);
            if (request.operation.result_words > 0) {
                job.heap_result = command.header.reply_offset + sizeof(vgpu_queue_reply);
            }
        }
    }
    if (job.heap_operands == 0 && job.heap_data == 0 && job.timeline == 0) {
        return;
    }
    job.region = queues.region;
    const auto again = queues.attach_again.find(device_index);
    if (std::find(queues.devices.begin(), queues.devices.end(), device_index) ==
            queues.devices.end() &&
        (again == queues.attach_again.end() || again->second <= clock_.now())) {
        queues.devices.push_back(device_index);
        executor.attach_region(attach_token(queues.region), queues.region, queues.memory->fd(),
                               layout.size);
    }
}

std::chrono::nanoseconds Dispatcher::leave_chain(Request& request, std::chrono::nanoseconds used) {
    GuestQueue::Chain& chain = request.queue->chain;
    const auto now = clock_.now();
    // The reported time of a command that waited behind others on the device includes theirs.
    used = std::min(used, now - chain.last_end);
    chain.last_end = now;
    chain.used += used;
    assert(chain.count > 0);
    if (--chain.count == 0) {
        --devices_[chain.device].running;
        request.vm->running = false;
        scheduler_.finished(chain.vm, chain.used);
        chain = {};
    }
    return used;
}

void Dispatcher::drop_head(GuestQueue& queue, std::string_view why, bool answer) {
    const GuestQueue::Head head = *std::exchange(queue.head, std::nullopt);
    if (!head.operation || !head.in_scheduler) {
        say_accepted(head);
    }
    events_.on_event(RequestDropped{.request = head.info, .why = why, .answered = answer});
    if (answer) {
        queue.end(queue.consumer.taken(),
                  Outcome::failure(VGPU_ERR_MEDIATOR_UNAVAILABLE, std::string(why)));
    }
}

void Dispatcher::note_ended(GuestQueue& queue) {
    GuestQueues& queues = *queue.owner;
    queue.synchronizing = false;
    wake(queue);
    if (--queues.running == 0 && (queues.closed || queues.resets > 0)) {
        drained_.push_back(queues.shared_from_this());
    }
}

}  // namespace vgpu
