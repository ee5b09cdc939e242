// SPDX-License-Identifier: MIT
//
// GuestQueues: the queues of one device's shared memory and their commands in flight. The commands
// of a queue complete in the order in which they were taken, whatever their devices do: an early
// completion is held until all earlier commands have ended.
//
//   ring ── take ──▶ head command: waits for the scheduler ──▶ runs; with its followers on the same
//                                                              device: a chain ──▶ ended, in order
//
// Only the head command is taken before the scheduler has dequeued it; the rest stays in the ring,
// which applies backpressure to the guest.
//
// Plain data and the ring's codec; QueuePump and MemoryRegistry (core/) make the decisions. Control
// loop only.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "executor/executor.h"
#include "executor/job.h"
#include "mediator/events/events.h"
#include "mediator/requests/decoding.h"
#include "mediator/session/session.h"
#include "mediator/shm/guest_memory.h"
#include "mediator/shm/interrupter.h"
#include "mediator/vms/vm_state.h"
#include "ring/consumer.h"
#include "sched/scheduler.h"

namespace vgpu {

class GuestQueues;

// One queue.
struct GuestQueue {
    // A command that was taken and waits for the scheduler.
    struct Head {
        RequestInfo info;
        std::size_t level = 0;                 // scheduler priority level
        std::chrono::nanoseconds taken_at{0};  // may precede the enqueue in the scheduler
        bool in_scheduler = false;
        std::optional<Operation> operation;  // none: NOP
    };
    // A command that was taken and has not been published as completed.
    struct Command {
        vgpu_record header{};
        bool ended = false;
        bool by_device = false;  // on success, the device itself advances the timeline
        bool stored = false;     // the device has advanced the timeline
    };
    // Commands of this queue that run back to back on one device.
    struct Chain {
        std::size_t count = 0;  // commands; 0: no chain
        bool open = false;      // further commands may join
        std::size_t device = 0;
        Scheduler::VmIndex vm = 0;
        std::chrono::nanoseconds used{0};      // by the commands that have ended
        std::chrono::nanoseconds last_end{0};  // end of the last command, or start of the first

        // Removes a command that ended now and reports to have used the device for this long.
        // Returns its own share: the reported time includes that of the commands it waited behind.
        std::chrono::nanoseconds leave(std::chrono::nanoseconds reported,
                                       std::chrono::nanoseconds now);
    };

    GuestQueue(GuestQueues& its_owner, std::uint32_t its_index, std::uint64_t its_id);

    // Returns the command with this timeline number. Precondition: it is in flight.
    [[nodiscard]] Command& command(std::uint64_t number) {
        return commands[number - consumer.completed() - 1];
    }
    // Returns true if the device stores the timeline for all commands before the last one taken.
    [[nodiscard]] bool all_before_by_device() const;
    // Returns true if it cannot make progress until an in-flight command completes. `most`:
    // commands in flight at once.
    [[nodiscard]] bool blocked(std::size_t most) const {
        return head || synchronizing || commands.size() >= most ||
               (consumer.state() == VGPU_QUEUE_RESETTING && !commands.empty());
    }
    // Ends a command: writes its reply unless the device has advanced the timeline, and publishes
    // completions.
    void end(std::uint64_t number, const Outcome& outcome);
    // Publishes ended commands as completed, in order; interrupts the guest if it waits for that.
    void publish_ended();
    // Fills in the shared-memory fields of a job of this queue: chain, timeline and region, which
    // is attached to the device if necessary. A command that lets the device complete it gets its
    // reply now. Precondition: the job is not immediate.
    void prepare(Operation& operation, std::uint64_t number, std::size_t device, Executor& executor,
                 std::chrono::nanoseconds now);
    // Writes only the reply.
    void write_reply(const vgpu_record& header, const Outcome& outcome) const;
    void interrupt() const;

    GuestQueues* owner;
    std::uint32_t index;
    std::uint64_t id;  // in Doorbells
    ring::Consumer consumer;
    std::deque<Command> commands;  // in flight, oldest first
    std::optional<Head> head;
    Chain chain;
    // Job::timeline_run of its jobs. Over once the device has failed to store a value.
    std::uint32_t timeline_run = 0;
    bool timeline_run_over = false;
    bool synchronizing = false;                // a SYNCHRONIZE of this queue is pending
    bool fault_counted = false;                // for the error that stopped the queue
    bool awake = false;                        // in the owner's list of polled queues
    bool traffic = false;                      // traffic since the last empty poll
    std::chrono::nanoseconds last_traffic{0};  // time of the first empty poll after traffic
};

class GuestQueues : public std::enable_shared_from_this<GuestQueues> {
  public:
    // Call begin_generation() next. `ids`: of the queues (Doorbells). `header`: of the hello; its
    // pool and priority apply to all commands. Borrows `interrupter`.
    GuestQueues(std::shared_ptr<GuestMemory> memory, std::shared_ptr<Session> session,
                std::shared_ptr<VmState> vm, RegionId region, std::vector<std::uint64_t> ids,
                const vgpu_msg_header& header, Interrupter& interrupter);
    GuestQueues(const GuestQueues&) = delete;
    GuestQueues& operator=(const GuestQueues&) = delete;

    // Attaches the memory to a device for the jobs that follow, unless it is attached or has
    // recently failed to attach.
    void attach_to(std::size_t device, Executor& executor, std::chrono::nanoseconds now);
    // Records that a device failed to attach the memory. Jobs submitted in the meantime fail; those
    // after a pause retry.
    void attach_failed(std::size_t device, std::chrono::nanoseconds now);

    // Begins a generation: initializes the layout of the memory, and recreates every queue,
    // stopped. Precondition: nothing is in flight.
    void begin_generation();

    std::shared_ptr<GuestMemory> memory;
    std::shared_ptr<Session> session;
    std::shared_ptr<VmState> vm;
    RegionId region;
    std::uint64_t generation = 0;
    std::optional<Scheduler::FlowIndex> flow;
    std::deque<GuestQueue> queues;
    vgpu_msg_header header;
    std::vector<std::uint64_t> ids;
    std::vector<std::size_t> devices;  // devices that the region was attached to
    // Devices that failed to attach the region, with the time of the next attempt; commands that
    // need the region before then fail.
    std::map<std::size_t, std::chrono::nanoseconds> attach_again;
    std::size_t running = 0;    // commands on a device, and pending SYNCHRONIZEs
    std::size_t resets = 0;     // requested by the device and not answered
    std::size_t detaching = 0;  // devices that have not detached the region yet
    bool closed = false;        // disconnected: nothing is written any more
    Interrupter& interrupter;
    // Queues polled without a doorbell, and the index of the next one to poll.
    std::vector<GuestQueue*> awake;
    std::size_t next_awake = 0;
    bool listed = false;  // in the pump's list of awake or throttled devices
    // Of MemoryGuard: peak GuestMemory::blocks() while accesses were measured, and whether the
    // connection is being closed for what it found.
    std::int64_t most_blocks = 0;
    bool blamed = false;
};

}  // namespace vgpu
