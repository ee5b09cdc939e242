// SPDX-License-Identifier: MIT
#include "mediator/shm/guest_queues.h"

#include <sys/random.h>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <iterator>
#include <random>
#include <span>
#include <utility>

#include "mediator/requests/tokens.h"
#include "ring/reply.h"

namespace vgpu {
namespace {

// Pause before another attempt to attach memory to a device.
constexpr std::chrono::seconds kAttachAgain{1};

// Never 0. Random, so that a restarted mediator does not repeat a generation.
std::uint64_t new_generation() {
    std::uint64_t number = 0;
    if (::getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number) {
        number = std::random_device()();
    }
    return std::max<std::uint64_t>(number, 1);
}

ring::QueueView memory_of(const GuestQueues& queues, std::uint32_t index) {
    return queues.memory->layout().queue(queues.memory->base(), index);
}

}  // namespace

GuestQueue::GuestQueue(GuestQueues& its_owner, std::uint32_t its_index, std::uint64_t its_id)
    : owner(&its_owner),
      index(its_index),
      id(its_id),
      consumer(memory_of(its_owner, its_index), its_owner.memory->layout()) {}

bool GuestQueue::all_before_by_device() const {
    return std::all_of(commands.begin(), std::prev(commands.end()),
                       [](const Command& one) { return one.by_device; });
}

std::chrono::nanoseconds GuestQueue::Chain::leave(std::chrono::nanoseconds reported,
                                                  std::chrono::nanoseconds now) {
    const auto own = std::min(reported, now - last_end);
    last_end = now;
    used += own;
    assert(count > 0);
    --count;
    return own;
}

void GuestQueue::prepare(Operation& operation, std::uint64_t number, std::size_t device,
                         Executor& executor, std::chrono::nanoseconds now) {
    Job& job = operation.job;
    if (can_follow(job.opcode)) {
        job.chain = id + 1;
        if (timeline_run_over && commands.size() == 1) {
            timeline_run_over = false;
            ++timeline_run;
        }
        if (executor.writes_timeline() && !timeline_run_over && all_before_by_device()) {
            // The guest may see the completion before the mediator does: write its reply first.
            Command& own = command(number);
            own.by_device = true;
            job.timeline = owner->memory->layout().control_offset(index) +
                           offsetof(vgpu_queue_control, completed);
            job.timeline_value = number;
            job.timeline_run = timeline_run;
            Outcome success;
            success.result_count = operation.result_words;
            write_reply(own.header, success);
            if (operation.result_words > 0) {
                job.heap_result = own.header.reply_offset + sizeof(vgpu_queue_reply);
            }
        }
    }
    if (job.heap_operands != 0 || job.heap_data != 0 || job.timeline != 0) {
        job.region = owner->region;
        owner->attach_to(device, executor, now);
    }
}

void GuestQueue::interrupt() const {
    owner->interrupter.interrupt(owner->memory->interrupt(index));
}

void GuestQueue::write_reply(const vgpu_record& header, const Outcome& outcome) const {
    if (header.reply_offset == 0) {
        return;
    }
    const auto results =
        outcome.status == VGPU_ERR_NONE ? outcome.result_words() : std::span<const std::uint32_t>();
    const std::uint64_t fixed = ring::reply_size(results.size(), 0);
    // Commands whose results do not fit have been rejected; the text is truncated to fit.
    const std::size_t room = header.reply_capacity > fixed ? header.reply_capacity - fixed : 0;
    const auto text =
        std::as_bytes(std::span(outcome.data)).first(std::min(room, outcome.data.size()));
    static_cast<void>(ring::write_reply(owner->memory->base(), header, outcome.status,
                                        outcome.exec_time_us, results, text));
}

void GuestQueue::end(std::uint64_t number, const Outcome& outcome) {
    if (owner->closed) {
        return;
    }
    Command& ending = command(number);
    ending.ended = true;
    // A failed device may have stored the value before: the guest may have consumed the reply and
    // reused its memory, which must not be written any more. (If the guest itself stored the value,
    // it only loses its own reply.)
    vgpu_queue_control& control = *memory_of(*owner, index).control;
    ending.stored =
        outcome.timeline_written ||
        (ending.by_device && ring::SharedMemory::load_acquire(control.completed) >= number);
    // If the device has advanced the timeline, the reply was written before.
    if (!ending.stored) {
        write_reply(ending.header, outcome);
        timeline_run_over = timeline_run_over || ending.by_device;
    }
    publish_ended();
}

void GuestQueue::publish_ended() {
    // A failing device may have stored the values of later commands. The count must not fall behind
    // those, so they are published together.
    const bool device_done = std::all_of(commands.begin(), commands.end(), [](const Command& one) {
        return one.ended || !one.by_device;
    });
    std::uint64_t count = 0;
    bool all_stored = true;
    while (!commands.empty() && commands.front().ended) {
        const Command& front = commands.front();
        if (front.by_device && !front.stored && !device_done) {
            break;
        }
        all_stored = all_stored && front.stored;
        commands.pop_front();
        ++count;
    }
    if (count > 0 && (all_stored ? consumer.note_completed(count) : consumer.complete(count))) {
        interrupt();
    }
}

GuestQueues::GuestQueues(std::shared_ptr<GuestMemory> its_memory,
                         std::shared_ptr<Session> its_session, std::shared_ptr<VmState> its_vm,
                         RegionId its_region, std::vector<std::uint64_t> its_ids,
                         const vgpu_msg_header& its_header, Interrupter& its_interrupter)
    : memory(std::move(its_memory)),
      session(std::move(its_session)),
      vm(std::move(its_vm)),
      region(its_region),
      header(its_header),
      ids(std::move(its_ids)),
      interrupter(its_interrupter) {}

void GuestQueues::attach_to(std::size_t device, Executor& executor, std::chrono::nanoseconds now) {
    const auto again = attach_again.find(device);
    if (std::find(devices.begin(), devices.end(), device) == devices.end() &&
        (again == attach_again.end() || again->second <= now)) {
        devices.push_back(device);
        executor.attach_region(attach_token(region), region, memory->fd(), memory->layout().size);
    }
}

void GuestQueues::attach_failed(std::size_t device, std::chrono::nanoseconds now) {
    std::erase(devices, device);
    attach_again[device] = now + kAttachAgain;
}

void GuestQueues::begin_generation() {
    // Run numbers do not restart: devices remember which runs are over.
    std::uint32_t first_run = 0;
    for (const GuestQueue& queue : queues) {
        first_run = std::max(first_run, queue.timeline_run + 1);
    }
    queues.clear();
    for (std::uint32_t index = 0; index < memory->layout().queue_count; ++index) {
        queues.emplace_back(*this, index, ids[index]).timeline_run = first_run;
    }
    generation = new_generation();
    memory->layout().write_header(memory->base(), generation);
}

}  // namespace vgpu
