// SPDX-License-Identifier: MIT
//
// Execution: accepted requests and commands from their start to their answer: on a device or, if
// immediate, in place; in VM order; with time limits, charges, and the buffers of their VM.
//
//   start() ──▶ device ──▶ complete() ──▶ charged, answered, SYNCHRONIZEs behind it end
//
// Each request is answered exactly once, unless its connection is closed first. A VM has at most
// one request or chain on a device: its requests see each other's effects. After its last
// disconnect, once nothing of it runs, its buffers are freed.
//
// Control loop only.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string_view>

#include "executor/job.h"
#include "mediator/core/context.h"
#include "mediator/core/request_table.h"
#include "mediator/devices/device_set.h"
#include "mediator/devices/handle_table.h"
#include "mediator/shm/guest_queues.h"
#include "mediator/shm/memory_guard.h"
#include "mediator/vms/vm_state.h"
#include "sched/scheduler.h"

namespace vgpu {

// Follows the commands of queues.
class CommandListener {
  public:
    CommandListener() = default;
    CommandListener(const CommandListener&) = delete;
    CommandListener& operator=(const CommandListener&) = delete;
    virtual ~CommandListener() = default;

    // A command of this queue has ended, and its slot is free.
    virtual void on_command_ended(GuestQueue& queue) = 0;
};

class Execution {
  public:
    // Borrows all arguments. The listener is not called by the constructor.
    Execution(Context& context, DeviceSet& devices, MemoryGuard& guard, CommandListener& listener)
        : context_(context), devices_(devices), guard_(guard), listener_(listener) {}

    [[nodiscard]] RequestTable& requests() { return requests_; }
    [[nodiscard]] const RequestTable& requests() const { return requests_; }
    // Requests and commands that have started and not finished.
    [[nodiscard]] std::size_t running() const { return running_; }

    // Starts a dequeued request of a session, or answers it if its VM's limits no longer let it
    // start.
    void start(std::size_t device, const Scheduler::Entry& entry);
    // Executes a request on a device. Precondition: its VM holds a slot of the device.
    void execute(std::size_t device, std::uint64_t token);
    // Starts a SYNCHRONIZE, which may end at once.
    void synchronize(std::uint64_t token);
    // Handles the end of a job. Adapts the outcome.
    void ended(Completion& completion);
    // Handles a failure or a recovery of a device.
    void device_changed(std::size_t device, const Completion& completion);

    // Ends a request in VM order and finishes the SYNCHRONIZEs that waited for it. `failure`: null
    // unless it was asynchronous and failed.
    void end_in_order(VmState& vm, VmOrder::Number number, const Outcome* failure);
    // Drops a request that has not started.
    void drop_queued(std::uint64_t token, std::string_view why, bool answer);
    // Answers everything that runs with VGPU_ERR_MEDIATOR_UNAVAILABLE.
    void give_up(std::string_view why);

    // Reports, and stops if so configured, requests that have exceeded their time limit.
    void report_overruns();
    // Time of the next time limit; none: nothing running has one.
    [[nodiscard]] std::optional<std::chrono::nanoseconds> next_overrun() const {
        return watched_.empty() ? std::nullopt : std::optional(watched_.begin()->first);
    }

    // Schedules all buffers of a VM to be freed if it is disconnected or was reset, and idle.
    void free_memory_of(VmState& vm);
    // Submits a bounded number of frees. Returns true if there are more.
    bool free_some();

  private:
    // Returns true, with the request answered, if its VM's limits no longer let it start.
    bool held_back(const Scheduler::Entry& entry);
    void complete(std::uint64_t token, const Outcome& outcome);
    // Releases the device slot of a request and charges its VM for the time used.
    void account(Request& request, const Outcome& outcome);
    // Emits the final event of a request, answers it and frees its slot.
    void finish(std::uint64_t token, const Outcome& outcome);
    void drop(Request& request, std::string_view why, bool answer);
    void answer(Request& request, Outcome outcome);
    void report_overrun(Request& request);

    Context& context_;
    DeviceSet& devices_;
    MemoryGuard& guard_;
    CommandListener& listener_;
    RequestTable requests_;
    std::size_t running_ = 0;
    std::multimap<std::chrono::nanoseconds, std::uint64_t> watched_;  // running, by deadline
    std::deque<HandleTable::Buffer> to_free_;
};

}  // namespace vgpu
