// SPDX-License-Identifier: MIT
//
// GuestQueues: the queues of one device's shared memory, and what of each is under way. A queue's
// commands end in the order in which they were taken, whatever their devices do: an end that comes
// early waits for those before it.
//
//   ring ── take ──▶ head: waits for the scheduler ──▶ runs: with those that follow it on the same
//                                                      device, a chain ──▶ ended, in order
//
// No more than the head is taken before the scheduler has called: the rest stays in the ring, which
// is how a guest is slowed down.
//
// Plain data and the ring's codec; who decides what happens is the Dispatcher. Control loop only.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "executor/operation.h"
#include "mediator/events/events.h"
#include "mediator/requests/operations.h"
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
        std::size_t level = 0;                 // of the scheduler
        std::chrono::nanoseconds taken_at{0};  // the scheduler may take it later
        bool in_scheduler = false;
        std::optional<Operation> operation;  // none: NOP
    };
    // A command that was taken and has not ended.
    struct Command {
        vgpu_record header{};
        bool ended = false;
        bool by_device = false;  // the device is to store the timeline when it succeeds
        bool stored = false;     // and has
    };
    // What runs on a device for this queue, one behind the other.
    struct Chain {
        std::size_t count = 0;  // commands; 0: there is none
        bool open = false;      // others may follow
        std::size_t device = 0;
        Scheduler::VmIndex vm = 0;
        std::chrono::nanoseconds used{0};      // by those that have ended
        std::chrono::nanoseconds last_end{0};  // when the last one ended, or the first began
    };

    GuestQueue(GuestQueues& its_owner, std::uint32_t its_index, std::uint64_t its_id);

    // The command with this number in the timeline. Precondition: it was taken and has not ended.
    [[nodiscard]] Command& command(std::uint64_t number) {
        return commands[number - consumer.completed() - 1];
    }
    // Whether the end of each command under way is stored by the device.
    // For the last one that was taken: of all before it.
    [[nodiscard]] bool all_before_by_device() const;
    // Writes the reply of a command and counts it, and those behind it that have ended, as
    // completed; interrupts the guest if it waits for that.
    void end(std::uint64_t number, const Outcome& outcome);
    // Counts those that have ended, in order, as completed.
    void publish_ended();
    // The reply alone, as `outcome` has it.
    void write_reply(const vgpu_record& header, const Outcome& outcome) const;
    // Interrupts the guest.
    void interrupt() const;

    GuestQueues* owner;
    std::uint32_t index;
    std::uint64_t id;  // the dispatcher's
    ring::Consumer consumer;
    std::deque<Command> commands;  // those under way, the oldest first
    std::optional<Head> head;
    Chain chain;
    // Job::timeline_run of its jobs; over once one that the device was to store has not been.
    std::uint32_t timeline_run = 0;
    bool timeline_run_over = false;
    bool synchronizing = false;                // a SYNCHRONIZE of this queue waits
    bool fault_counted = false;                // for the error that it is stopped with
    bool awake = false;                        // in its owner's list of those that are looked at
    bool traffic = false;                      // something has come since a look that found nothing
    std::chrono::nanoseconds last_traffic{0};  // when the looks began to find nothing
};

class GuestQueues : public std::enable_shared_from_this<GuestQueues> {
  public:
    // Lays out the memory, generation and all. `ids`: the dispatcher's, one for each queue.
    // `header` is the hello's: pool and priority are those of all commands. Borrows `interrupter`.
    GuestQueues(std::shared_ptr<GuestMemory> memory, std::shared_ptr<Session> session,
                std::shared_ptr<VmState> vm, RegionId region, std::vector<std::uint64_t> ids,
                const vgpu_msg_header& header, Interrupter& interrupter);
    GuestQueues(const GuestQueues&) = delete;
    GuestQueues& operator=(const GuestQueues&) = delete;

    // Another generation: every queue begins anew, stopped. Precondition: nothing is under way.
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
    std::vector<std::size_t> devices;  // that the region was attached to
    // Devices that could not take it, and when they are asked again; a command that needs it before
    // then ends with an error.
    std::map<std::size_t, std::chrono::nanoseconds> attach_again;
    std::size_t running = 0;    // commands that a device or a SYNCHRONIZE has
    std::size_t resets = 0;     // asked for by the device and not answered
    std::size_t detaching = 0;  // devices that have not let go of it yet
    bool closed = false;        // its connection is gone: nothing is written any more
    Interrupter& interrupter;
    // Queues that are looked at without a doorbell, and which of them is the next.
    std::vector<GuestQueue*> awake;
    std::size_t next_awake = 0;
    std::int64_t most_blocks = 0;  // of the memory, while its touches were measured
    bool listed = false;           // stands in the dispatcher's list of those with any
};

}  // namespace vgpu
