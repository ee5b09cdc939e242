// SPDX-License-Identifier: MIT
//
// QueuePump: takes commands out of the queues in shared memory (guest_queues.h) and starts them.
//
//   poll() ── takes heads ──▶ scheduler ──▶ start_head(): inline batch or chain ──▶ completion
//
// One command of each queue, its head command, waits in the scheduler. Once dequeued, a NOP is
// executed on the control loop with the NOPs behind it in the ring, up to a bound (an inline
// batch); a device command is followed by those behind it on the same device while nothing else
// waits for that device (a chain). The scheduler counts either as one execution.
//
// A queue is polled continuously while there is traffic and for Settings::spin after that; then its
// doorbell is armed, and polling resumes when the doorbell rings. Devices with awake queues share
// each poll equally, however many queues each has; a rejected command counts like a served one. A
// VM with too many rejections or resets is throttled: its queues are not polled until
// VmState::held_until().
//
// The work that guests can cause in one poll is bounded: at most one record is taken per awake
// queue, all queues of a device together take at most its share of kRecordsPerPoll, and commands
// executed on the control loop share the bound of those of the sessions.
//
// Control loop only.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/job.h"
#include "mediator/core/admission.h"
#include "mediator/core/context.h"
#include "mediator/core/execution.h"
#include "mediator/devices/device_set.h"
#include "mediator/devices/placement.h"
#include "mediator/requests/decoding.h"
#include "mediator/shm/doorbells.h"
#include "mediator/shm/guest_queues.h"
#include "mediator/shm/memory_guard.h"
#include "ring/record.h"
#include "sched/scheduler.h"

namespace vgpu {

class QueuePump final : public CommandListener {
  public:
    // Borrows all arguments.
    QueuePump(Context& context, DeviceSet& devices, Placement& placement, Admission& admission,
              Execution& execution, Doorbells& doorbells, MemoryGuard& guard)
        : context_(context),
          devices_(devices),
          placement_(placement),
          admission_(admission),
          execution_(execution),
          doorbells_(doorbells),
          guard_(guard) {}

    // Polls the queue until it is idle again. No effect while its memory is closed or being reset.
    void wake(GuestQueue& queue);
    // Stops all queues and drops commands that have not started.
    void stop(GuestQueues& queues, std::string_view why);
    // Takes commands from awake queues, and executes them in place if nothing waits and no other
    // queue is awake. Returns true if there is something to start or to settle.
    bool poll();
    // Resumes polling the queues of VMs that are no longer throttled.
    void release_held();
    // Starts the dequeued head command with this token. Returns the number of commands executed,
    // about `most` at most.
    std::size_t start_head(std::size_t device, const Scheduler::Entry& entry, std::size_t most);
    // Enqueues the head commands that found the scheduler full.
    void retry_stalled();
    // Drops the dequeued head command with this token.
    void drop_head(std::uint64_t token, std::string_view why);
    void drop_stalled(std::string_view why);

    [[nodiscard]] bool any_awake() const { return !awake_.empty(); }
    [[nodiscard]] bool any_stalled() const { return !stalled_.empty(); }
    // Time at which release_held() has work; none: no VM is throttled.
    [[nodiscard]] std::optional<std::chrono::nanoseconds> next_due() const;
    // Returns the next memory, closed or being reset, of which nothing is in flight any more; null:
    // there is none.
    std::shared_ptr<GuestQueues> take_drained();
    [[nodiscard]] bool any_drained() const { return !drained_.empty(); }
    // Adds to those, if nothing of it is in flight.
    void note_if_drained(GuestQueues& queues);

    void on_command_ended(GuestQueue& queue) override;

  private:
    // Polls the awake queues of a device for at most `most` records. Returns true if it took any.
    bool poll_device(GuestQueues& queues, std::size_t most);
    // Polls one queue. Returns true if it took something.
    bool poll_queue(GuestQueue& queue);
    // Handles an empty poll. Returns true if polling continues without the doorbell.
    bool keeps_polling(GuestQueue& queue);
    [[nodiscard]] bool blocked(const GuestQueue& queue) const {
        return queue.blocked(context_.settings.queues_pipeline);
    }
    // Handles the command just taken into record_. `may_run`: a NOP may be executed in place.
    void take_command(GuestQueue& queue, bool may_run);
    void refuse(GuestQueue& queue, std::uint64_t index, const RequestInfo& info,
                const Outcome& outcome);
    // Executes the NOP just taken and those behind it, if the scheduler would start it immediately.
    // Returns false if nothing was done.
    bool run_at_once(GuestQueue& queue, const RequestInfo& info, std::size_t level);
    // Enqueues the head command, or puts the queue into stalled_ until the scheduler has room.
    void enqueue_head(GuestQueue& queue);
    std::size_t start_head_of(GuestQueue& queue, std::size_t device, const Scheduler::Entry& entry,
                              std::size_t most);
    // Executes the NOP at the head and those behind it as an inline batch. Returns their number,
    // plus one if it took another command.
    std::size_t run(GuestQueue& queue, const Scheduler::Entry& entry, const RequestInfo& info,
                    std::chrono::nanoseconds waited, std::size_t most);
    // Allocates a slot for a device command or a SYNCHRONIZE.
    std::uint64_t make_request(GuestQueue& queue, std::uint64_t index, const RequestInfo& info,
                               Operation operation);
    void synchronize(GuestQueue& queue, const RequestInfo& info, Operation operation);
    // Returns true if a command may join the queue's chain.
    [[nodiscard]] bool may_follow(const GuestQueue& queue, const RequestInfo& info,
                                  const Operation& operation);
    void drop_head_of(GuestQueue& queue, std::string_view why, bool answer);
    void report_accepted(const RequestInfo& info) {
        context_.events.on_event(RequestAccepted{.request = info});
    }

    Context& context_;
    DeviceSet& devices_;
    Placement& placement_;
    Admission& admission_;
    Execution& execution_;
    Doorbells& doorbells_;
    MemoryGuard& guard_;
    std::vector<GuestQueues*> awake_;   // with queues polled without a doorbell
    std::size_t awake_queues_ = 0;      // in awake_ and held_
    std::vector<GuestQueues*> held_;    // as awake_, of throttled VMs
    std::vector<GuestQueue*> stalled_;  // whose head commands found the scheduler full
    std::deque<std::shared_ptr<GuestQueues>> drained_;
    ring::Record record_;          // the command taken last
    std::size_t empty_polls_ = 0;  // since the clock was read
};

}  // namespace vgpu
