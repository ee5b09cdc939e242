// SPDX-License-Identifier: MIT
//
// Dispatcher: routes requests of sessions and commands of queues through the scheduler to a device
// and back. It owns the parts that do so, and hands the turns to them:
//
//   submit() ──▶ Admission ──▶ Scheduler ──▶ Execution ──▶ device ──▶ Execution ──▶ answer
//                    ▲                           ▲
//   QueuePump ───────┴───────────────────────────┘     MemoryRegistry: whose queues there are
//
// Each request gets exactly one response, unless its connection is closed first. An asynchronous
// one gets it when it is queued; SYNCHRONIZE is not queued, but waits in its VM's VmOrder.
//
// Requests for a failed device keep waiting, for up to Settings::recovery_wait after the failure,
// and are then answered with VGPU_ERR_CUDA.
//
// Control loop only.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/thread_checker.h"
#include "mediator/config/settings.h"
#include "mediator/core/admission.h"
#include "mediator/core/context.h"
#include "mediator/core/execution.h"
#include "mediator/core/memory_registry.h"
#include "mediator/core/queue_pump.h"
#include "mediator/devices/device_set.h"
#include "mediator/devices/placement.h"
#include "mediator/events/events.h"
#include "mediator/session/session.h"
#include "mediator/shm/doorbells.h"
#include "mediator/shm/interrupter.h"
#include "mediator/shm/memory_guard.h"
#include "mediator/vms/vm_state.h"
#include "sched/clock.h"

namespace vgpu {

class Dispatcher {
  public:
    // Borrows settings, events and clock. Throws std::system_error if a descriptor or a thread is
    // not available.
    Dispatcher(const Settings& settings, std::vector<std::unique_ptr<Backend>> backends,
               EventSink& events, const Clock& clock);

    // Marks the start of a unit of work, or that the control loop is about to sleep: see WorkClock.
    void begin_work() { context_.clock.next(); }
    // The same before the control loop waits for events; woke_at() then returns the first time that
    // was read after the wait.
    void begin_wait() { context_.clock.mark(); }
    [[nodiscard]] std::chrono::nanoseconds woke_at() const { return context_.clock.marked(); }
    // Time of the current unit of work.
    [[nodiscard]] std::chrono::nanoseconds now() const { return context_.clock.now(); }

    // Sets session.flow. Precondition: session.vm_id() is set.
    void open_flow(Session& session);
    // Drops the session's queued requests; running ones end unanswered. Clears session.flow.
    void close_flow(Session& session);

    // Accepts a request or answers it with an error. Precondition: session.flow is set.
    void submit(Session& session, const vgpu_msg_header& header,
                std::span<const std::byte> payload);

    // Handles completions and starts waiting requests. Bounded work; returns true if more is ready.
    bool turn();
    // Polls the queues in shared memory: see QueuePump::poll(). Returns true if turn() has work.
    bool poll_queues() {
        thread_.check(kControlLoopOnly);
        return pump_.poll();
    }
    // The doorbells' descriptor is readable: wakes up to 64 queues.
    void on_doorbells();

    // From now on, answers every new request with VGPU_ERR_MEDIATOR_UNAVAILABLE.
    void refuse_new() { context_.stopping = true; }
    // Answers everything queued and running with VGPU_ERR_MEDIATOR_UNAVAILABLE.
    void give_up(std::string_view why);

    // Applies changed settings: policies, limits, shares. The pools are unchanged.
    void apply_settings();

    // Returns true if nothing is queued or running.
    [[nodiscard]] bool idle() const {
        return context_.scheduler.depth() == 0 && execution_.running() == 0 && !pump_.any_stalled();
    }
    // Returns true if polling pays off compared with sleeping: queues are awake, or a device was
    // active within the last `spin`. Work on the control loop itself does not count, because the
    // requester may need this core to proceed.
    [[nodiscard]] bool worth_polling() const {
        return pump_.any_awake() || now() - devices_.last_activity() < context_.settings.spin;
    }
    [[nodiscard]] bool queues_awake() const { return pump_.any_awake(); }
    [[nodiscard]] bool running() const { return execution_.running() > 0; }
    // Time at which turn() has work without new input or completions; none: never.
    [[nodiscard]] std::optional<std::chrono::nanoseconds> next_due() const;

    // Counts a PING as a rejected request. Precondition: the VM has a connection.
    void count_ping(std::uint32_t vm_id) { context_.count_refusal(*context_.vms.at(vm_id)); }
    // Counts a fault that this VM caused outside its requests.
    void count_fault(std::uint32_t vm_id) { context_.limits.count_fault(vm_id); }
    // Charges rejections and PINGs of this VM to this process, too; null: to none. Precondition:
    // the VM has a connection.
    void set_process(std::uint32_t vm_id, std::shared_ptr<HoldBack> process) {
        context_.vms.at(vm_id)->process = std::move(process);
    }
    // Returns the time until which this VM is throttled. Precondition: it has a connection.
    [[nodiscard]] std::chrono::nanoseconds held_until(std::uint32_t vm_id) const {
        return context_.vms.at(vm_id)->held_until();
    }

    // The parts.
    [[nodiscard]] DeviceSet& devices() { return devices_; }
    [[nodiscard]] const DeviceSet& devices() const { return devices_; }
    [[nodiscard]] const Placement& placement() const { return placement_; }
    [[nodiscard]] VmTable& limits() { return context_.limits; }
    [[nodiscard]] const VmTable& limits() const { return context_.limits; }
    [[nodiscard]] MemoryRegistry& memories() { return memories_; }
    [[nodiscard]] const MemoryRegistry& memories() const { return memories_; }
    [[nodiscard]] MemoryGuard& guard() { return guard_; }
    [[nodiscard]] const Interrupter& interrupter() const { return interrupter_; }
    [[nodiscard]] const Doorbells& doorbells() const { return doorbells_; }

    // For monitoring. vm() returns null unless the VM has a connection.
    [[nodiscard]] const VmState* vm(std::uint32_t vm_id) const;
    struct Load {
        std::size_t queued = 0;
        std::size_t running = 0;
    };
    [[nodiscard]] Load load() const { return {context_.scheduler.depth(), execution_.running()}; }
    [[nodiscard]] std::unordered_map<std::uint32_t, Load> load_by_vm() const;
    // Running requests by effective pool.
    [[nodiscard]] std::unordered_map<char, std::size_t> running_by_pool() const;
    // Bytes that VMs have allocated on this device.
    [[nodiscard]] std::uint64_t memory_used_on(std::size_t device) const;

  private:
    static constexpr const char* kControlLoopOnly = "Dispatcher: control loop only";

    // Answers a request with an error.
    void refuse(Session& session, Session::Ticket ticket, const RequestInfo& info,
                const Outcome& outcome);
    void take_completions(std::size_t device);
    // Starts what can start. Returns true if more is ready.
    bool start_waiting();

    Context context_;
    Placement placement_;
    Admission admission_;
    Doorbells doorbells_;
    Interrupter interrupter_;
    MemoryGuard guard_;
    Execution execution_;
    QueuePump pump_;
    MemoryRegistry memories_;
    std::vector<Completion> ended_;  // kept to reuse its memory
    ThreadChecker thread_;
    DeviceSet devices_;  // last: its threads stop first
};

}  // namespace vgpu
