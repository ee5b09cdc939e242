// SPDX-License-Identifier: MIT
//
// Dispatcher: a request's way from a session through the scheduler to a device and back.
//
//   submit() --checks--> queue of its pool and priority --a slot is free--> device --> answer()
//        |
//        +--> answered with an error at once
//
// Checks, in this order: length and header fields, pool, operation and params, queue. Whatever
// happens, each request gets one answer, or its connection is gone.
//
// Control loop only.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "executor/executor.h"
#include "ipc/request.h"
#include "mediator/events.h"
#include "mediator/session.h"
#include "mediator/settings.h"
#include "mediator/vm_table.h"
#include "sched/clock.h"
#include "sched/scheduler.h"

namespace vgpu {

class Dispatcher {
  public:
    // Borrows settings, events and clock. `wake` makes the control loop call turn(); it is called
    // from the executors' threads.
    Dispatcher(const Settings& settings, std::vector<std::unique_ptr<Backend>> backends,
               EventSink& events, const Clock& clock, const std::function<void()>& wake);

    Scheduler::FlowIndex open_flow(std::uint32_t vm_id);
    // Drops what the flow has queued; what runs of it ends unanswered.
    void close_flow(Scheduler::FlowIndex flow);

    // Takes a request or answers it with an error. Precondition: session.flow is set.
    void submit(Session& session, const vgpu_msg_header& header,
                std::span<const std::byte> payload);

    // The settings have changed: policies, limits, shares. The pools are the same.
    // `open_vms`: those that have a flow.
    void apply_settings(const std::vector<std::uint32_t>& open_vms);
    // Something that this VM did beside its requests was a fault.
    void count_fault(std::uint32_t vm_id) { vms_.count_fault(vm_id); }
    bool release(std::uint32_t vm_id) { return vms_.release(vm_id); }

    // From now on every new request is answered with VGPU_ERR_MEDIATOR_UNAVAILABLE.
    void refuse_new() { refusing_ = true; }
    // Answers everything queued and running with VGPU_ERR_MEDIATOR_UNAVAILABLE.
    void give_up(std::string_view why);

    // Answers what has ended and starts what can start. Bounded work; true if there is more to do
    // at once.
    bool turn();

    // Nothing queued, nothing running.
    [[nodiscard]] bool idle() const { return scheduler_.depth() == 0 && running_ == 0; }
    // Whether it pays to look for a completion without sleeping.
    [[nodiscard]] bool worth_looking() const {
        return running_ > 0 && clock_.now() - last_activity_ < settings_.spin;
    }
    [[nodiscard]] bool has_completions() const;
    // See Executor::set_control_waiting().
    void set_control_waiting(bool waiting);

    [[nodiscard]] const DeviceInfo& device(std::size_t index) const {
        return devices_[index].executor->info();
    }

  private:
    struct Request {
        std::shared_ptr<Session> session;  // null: the slot is free
        Session::Ticket ticket = 0;
        RequestInfo info;
        Job job;
        Scheduler::VmIndex vm = 0;  // once it runs
        std::chrono::nanoseconds waited{0};
        std::chrono::nanoseconds started_at{0};
        bool running = false;
        bool answered = false;  // given up while running
    };
    struct Device {
        std::unique_ptr<Executor> executor;
        std::size_t running = 0;
        std::vector<Scheduler::PoolIndex> pools;
        std::size_t next_pool = 0;  // whose turn it is among pools
    };

    void refuse(Session& session, Session::Ticket ticket, const RequestInfo& info,
                std::uint32_t status, std::string sentence);
    void set_share(std::uint32_t vm_id);
    // Answers what may not start any more. False: it may.
    bool held_back(const Scheduler::Entry& entry);
    void start(Device& device, const Scheduler::Entry& entry);
    void finish(std::uint64_t token, Outcome outcome);
    void drop(Request& request, std::string_view why, bool answer);
    std::optional<Scheduler::Entry> next_for(Device& device);
    std::uint64_t take_slot();
    void free_slot(std::uint64_t token);

    const Settings& settings_;
    EventSink& events_;
    const Clock& clock_;
    Scheduler scheduler_;
    VmTable vms_;
    std::array<std::optional<Scheduler::PoolIndex>, 256> pool_by_id_{};
    std::vector<Request> requests_;  // by token
    std::vector<std::uint64_t> free_requests_;
    std::size_t running_ = 0;
    std::chrono::nanoseconds last_activity_{0};
    bool refusing_ = false;
    std::vector<Completion> ended_;  // kept for its memory
    std::vector<Device> devices_;    // last: its threads stop first
};

}  // namespace vgpu
