// SPDX-License-Identifier: MIT
//
// Dispatcher: routes a request from a session through the scheduler to a device and back.
//
//   submit() --checks--> queue of its pool and priority --a slot is free--> device --> answer()
//        |
//        +--> answered with an error at once
//
// Checks, in this order (docs/protocol.md, section 5): the mediator is stopping, limits of the VM,
// length and header fields, priority, pool, operation and params, queue. Each request gets exactly
// one response, unless its connection is closed first. An asynchronous one gets it when it is
// queued; SYNCHRONIZE is not queued, but waits in its VM's VmOrder.
//
// A pool has one queue per device. With its first request there, a VM is assigned one of them: a
// device that it already uses, or else the one with the fewest VMs. It keeps it while connected.
//
// A VM has at most one request on a device, regardless of the slots: its requests see each other's
// effects. After its last disconnect, once nothing of it runs, its buffers are freed.
//
// Queues in shared memory (guest_queues.h) are served beside the sessions. One command of each
// queue, its head command, waits in the scheduler. Once dequeued, a NOP is executed on the control
// loop with the NOPs behind it in the ring, up to a bound (an inline batch); a device command is
// followed by those behind it on the same device while nothing else waits for that device (a
// chain). The scheduler counts either as one execution.
//
//   look_at_queues() ── takes heads ──▶ scheduler ──▶ inline batch or chain ──▶ completion
//
// A queue is polled continuously while there is traffic and for Settings::spin after that; then its
// doorbell is armed, and polling resumes when the doorbell rings. Devices with awake queues share
// each poll equally, however many queues each has; a rejected command counts like a served one. A
// VM with too many rejections or resets is throttled: its queues and sockets are not polled until
// VmState::held_until().
//
// Requests for a failed device keep waiting, for up to Settings::recovery_wait after the failure,
// and are then answered with VGPU_ERR_CUDA.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/thread_checker.h"
#include "executor/executor.h"
#include "ipc/request.h"
#include "mediator/config/settings.h"
#include "mediator/devices/busy_time.h"
#include "mediator/events/events.h"
#include "mediator/events/shortages.h"
#include "mediator/requests/operations.h"
#include "mediator/session/session.h"
#include "mediator/shm/guest_queues.h"
#include "mediator/shm/interrupter.h"
#include "mediator/shm/touch_watch.h"
#include "mediator/vms/vm_state.h"
#include "mediator/vms/vm_table.h"
#include "sched/clock.h"
#include "sched/scheduler.h"

namespace vgpu {

class Dispatcher {
  public:
    // Borrows settings, events and clock. `wake` makes the control loop call turn(); executors that
    // have a thread call it from there.
    Dispatcher(const Settings& settings, std::vector<std::unique_ptr<Backend>> backends,
               EventSink& events, const Clock& clock, const std::function<void()>& wake);

    // Marks the start of a unit of work, or that the control loop is about to sleep: see WorkClock.
    void begin_work() { clock_.next(); }
    // Time of the current unit of work.
    [[nodiscard]] std::chrono::nanoseconds now() const { return clock_.now(); }

    // Sets session.flow. Precondition: session.vm_id() is set.
    void open_flow(Session& session);
    // Drops the session's queued requests; running ones end unanswered. Clears session.flow.
    void close_flow(Session& session);

    // Accepts a request or answers it with an error. Precondition: session.flow is set.
    void submit(Session& session, const vgpu_msg_header& header,
                std::span<const std::byte> payload);

    // Serves this shared memory for an identified session, then calls its answer_hello(): at once,
    // or when the work of an earlier connection in the same memory has ended.
    void attach(Session& session, std::shared_ptr<GuestMemory> memory,
                const vgpu_msg_header& header);
    // Handles a device reset: stops its queues, begins a generation, then calls answer_reset().
    // Precondition: its memory was attached.
    void reset_queues(Session& session);
    // Takes commands from awake queues, and executes them in place if nothing waits and no other
    // queue is awake. Returns true if turn() has work to do. Bounded work: see kRecordsPerLook.
    bool look_at_queues();
    // Readable when a doorbell has rung; then call on_doorbells(), which handles up to 64 queues.
    // Owned by the dispatcher.
    [[nodiscard]] int doorbell_descriptor() const { return doorbells_.get(); }
    void on_doorbells();
    // Returns true if guests can be interrupted: see Interrupter::works().
    [[nodiscard]] bool can_interrupt() const { return interrupter_.works(); }
    // Number of guest interrupts.
    [[nodiscard]] std::uint64_t interrupts() const { return interrupter_.interrupts(); }
    // Records that the control loop was late by `time`.
    void late_by(std::chrono::nanoseconds time) { touches_.late_by(time, clock_.now()); }
    // Returns false while memory of this session's VM or user is rejected: for a time after
    // accesses to its memory blocked the control loop.
    [[nodiscard]] bool may_share_memory(const Session& session) const;
    // Counts a PING as a rejected request. Precondition: the VM has a connection.
    void count_ping(std::uint32_t vm_id) { count_refusal(*vms_.at(vm_id)); }
    // Charges rejections and PINGs of this VM to this process, too; null: to none. Precondition:
    // the VM has a connection.
    void set_process(std::uint32_t vm_id, std::shared_ptr<HoldBack> process) {
        vms_.at(vm_id)->process = std::move(process);
    }
    // Returns the time until which this VM is throttled. Precondition: it has a connection.
    [[nodiscard]] std::chrono::nanoseconds held_until(std::uint32_t vm_id) const {
        return vms_.at(vm_id)->held_until();
    }

    // Applies changed settings: policies, limits, shares. The pools are unchanged.
    void apply_settings();
    // Counts a fault that this VM caused outside its requests.
    void count_fault(std::uint32_t vm_id) { limits_.count_fault(vm_id); }
    bool release(std::uint32_t vm_id) { return limits_.release(vm_id); }

    // From now on, answers every new request with VGPU_ERR_MEDIATOR_UNAVAILABLE.
    void refuse_new() { refusing_ = true; }
    // Answers everything queued and running with VGPU_ERR_MEDIATOR_UNAVAILABLE.
    void give_up(std::string_view why);

    // Handles completions and starts waiting requests. Bounded work; returns true if more is ready.
    bool turn();

    // Returns true if nothing is queued or running.
    [[nodiscard]] bool idle() const {
        return scheduler_.depth() == 0 && running_ == 0 && stalled_.empty();
    }
    // Returns true if polling pays off compared with sleeping: queues are awake, or a device was
    // active within the last `spin`. Work on the control loop itself does not count, because the
    // requester may need this core to proceed.
    [[nodiscard]] bool worth_looking() const {
        return !awake_.empty() || clock_.now() - last_device_activity_ < settings_.spin;
    }
    [[nodiscard]] bool queues_awake() const { return !awake_.empty(); }
    [[nodiscard]] bool running() const { return running_ > 0; }
    [[nodiscard]] bool has_completions();
    // See Executor::set_control_waiting(), wake_descriptor() and on_wake().
    void set_control_waiting(bool waiting);
    [[nodiscard]] int wake_descriptor(std::size_t device) const {
        return devices_[device].executor->wake_descriptor();
    }
    void on_wake(std::size_t device) { devices_[device].executor->on_wake(); }

    [[nodiscard]] const DeviceInfo& device(std::size_t index) const {
        return devices_[index].executor->info();
    }

    // Time at which turn() has work without new input or completions; none: never.
    [[nodiscard]] std::optional<std::chrono::nanoseconds> next_due() const;

    struct DeviceState {
        bool working = true;
        std::size_t running = 0;  // requests
        std::size_t slots = 1;
        std::size_t vms = 0;           // assigned to it
        std::uint64_t recoveries = 0;  // since start-up
    };
    [[nodiscard]] DeviceState device_state(std::size_t index) const;
    // Returns true if this VM could be served in this pool without losing access to its buffers.
    // Precondition: the pool is served.
    [[nodiscard]] bool can_move(std::uint32_t vm_id, char pool) const;
    // For monitoring. vm() returns null unless the VM has a connection.
    struct Load {
        std::size_t queued = 0;
        std::size_t running = 0;
    };
    [[nodiscard]] Load load() const { return {scheduler_.depth(), running_}; }
    [[nodiscard]] std::unordered_map<std::uint32_t, Load> load_by_vm() const;
    // Running requests by effective pool.
    [[nodiscard]] std::unordered_map<char, std::size_t> running_by_pool() const;
    // Requests waiting in a pool at one priority level. Precondition: the pool is served.
    [[nodiscard]] std::size_t queued(char pool, std::size_t priority) const;
    [[nodiscard]] std::size_t device_count() const { return devices_.size(); }
    // Execution time of the device: total, and over the last seconds.
    [[nodiscard]] const BusyTime& busy(std::size_t index) const { return devices_[index].busy; }
    // Bytes of shared memory copied by a CPU instead of a device.
    [[nodiscard]] std::uint64_t bytes_copied_by_processor() const;
    // Served shared memory: number of devices that share any, and total bytes.
    struct Shared {
        std::size_t devices = 0;
        std::uint64_t bytes = 0;
    };
    [[nodiscard]] Shared shared() const;
    // Bytes that VMs have allocated on this device.
    [[nodiscard]] std::uint64_t memory_used_on(std::size_t index) const;
    [[nodiscard]] const VmState* vm(std::uint32_t vm_id) const;
    [[nodiscard]] const VmTable& limits() const { return limits_; }
    // Returns false if it is already in quarantine.
    bool quarantine(std::uint32_t vm_id) { return limits_.quarantine(vm_id); }

  private:
    void check_thread() const { thread_.check("Dispatcher: control loop only"); }

    struct Request {
        std::shared_ptr<Session> session;  // null: the slot is free
        Session::Ticket ticket = 0;
        RequestInfo info;
        Operation operation;
        std::shared_ptr<VmState> vm;
        std::shared_ptr<GuestQueues> queues;  // null unless this is a queue's command
        GuestQueue* queue = nullptr;
        std::uint64_t index = 0;     // number of the command in its timeline
        VmOrder::Number number = 0;  // in VM order; unused for SYNCHRONIZE
        std::size_t device = 0;      // where it runs
        std::chrono::nanoseconds accepted_at{0};
        Scheduler::VmIndex scheduled_vm = 0;  // valid once it runs
        std::chrono::nanoseconds waited{0};
        std::chrono::nanoseconds started_at{0};
        std::optional<std::multimap<std::chrono::nanoseconds, std::uint64_t>::iterator> watched;
        bool overran = false;  // exceeded its time limit, which was reported
        bool running = false;
        bool answered = false;  // asynchronous, or given up
        bool dropped = false;   // given up
    };
    struct Device {
        std::unique_ptr<Executor> executor;
        std::size_t running = 0;
        std::vector<Scheduler::PoolIndex> queues;
        std::size_t next_queue = 0;  // round robin
        std::size_t vms = 0;
        std::optional<std::chrono::nanoseconds> failed_at;
        std::uint64_t recoveries = 0;
        BusyTime busy;
    };
    struct Queue {
        Scheduler::PoolIndex index = 0;  // the scheduler calls it a pool
        std::size_t device = 0;
    };
    using Pool = std::vector<Queue>;  // at least one

    // --- Requests of queues: dispatcher_queues.cpp ---
    // Polls the awake queues of a device for at most `most` records. Returns true if it took any.
    bool look_at_device(GuestQueues& queues, std::size_t most);
    // Polls one queue. Returns true if it took something.
    bool look_at(GuestQueue& queue);
    // Handles an empty poll. Returns true if polling continues without the doorbell.
    bool goes_on(GuestQueue& queue);
    // Resumes polling the queues of VMs that are no longer throttled.
    void release_held();
    // Counts a rejected request, or a reset, against this VM.
    void count_refusal(VmState& vm) {
        if (!refusing_) {
            vm.count(&HoldBack::count_refusal, clock_.now());
        }
    }
    // Returns true if the queue cannot make progress until an in-flight command completes.
    [[nodiscard]] bool blocked(const GuestQueue& queue) const;
    void wake(GuestQueue& queue);
    // Handles the command just taken into record_. `may_run`: a NOP may be executed in place.
    void take_command(GuestQueue& queue, bool may_run);
    [[nodiscard]] RequestInfo info_of(const GuestQueue& queue) const;
    void refuse_command(GuestQueue& queue, std::uint64_t index, const RequestInfo& info,
                        const Outcome& outcome);
    // Executes the NOP just taken and those behind it, if the scheduler would start it immediately.
    // Returns false if nothing was done.
    bool run_at_once(GuestQueue& queue, const RequestInfo& info, std::size_t level);
    // Enqueues the head command, or puts the queue into stalled_ until the scheduler has room.
    void enqueue_head(GuestQueue& queue);
    void retry_stalled();
    // Starts the dequeued head command. Returns the number of commands executed.
    std::size_t start_head(std::size_t device, const Scheduler::Entry& entry, std::size_t most);
    std::size_t start_head_now(std::size_t device, const Scheduler::Entry& entry, std::size_t most);
    // Closes the device's connection if the preceding accesses to its memory blocked the loop.
    void judge_touches(GuestQueues& queues);
    // Executes the NOP at the head and those behind it as an inline batch. Returns their number,
    // plus one if it took another command.
    std::size_t run(GuestQueue& queue, const Scheduler::Entry& entry, const RequestInfo& info,
                    std::chrono::nanoseconds waited, std::size_t most);
    // Allocates a slot for a device command or a SYNCHRONIZE.
    std::uint64_t make_request(GuestQueue& queue, std::uint64_t index, const RequestInfo& info,
                               Operation operation);
    void synchronize_command(GuestQueue& queue, const RequestInfo& info, Operation operation);
    // Returns true if a command may join the queue's chain.
    [[nodiscard]] bool may_follow(const GuestQueue& queue, const Operation& operation);
    // Fills in the shared-memory fields of a job.
    void place_in_region(Request& request, std::size_t device);
    // Removes an ended command from its chain. Returns the time to charge.
    std::chrono::nanoseconds leave_chain(Request& request, std::chrono::nanoseconds used);
    // Completes a reset or teardown once no device command or SYNCHRONIZE of these queues is left.
    void drained(GuestQueues& queues);
    // Starts serving queues whose layout has just been initialized.
    void begin_again(GuestQueues& queues);
    // Stops all queues and drops commands that have not started.
    void stop_queues(GuestQueues& queues, std::string_view why);
    void detach(Session& session);
    void drop_head(GuestQueue& queue, std::string_view why, bool answer);
    void say_accepted(const GuestQueue::Head& head);
    void note_ended(GuestQueue& queue);
    void settle_drained();
    // Handles the failure of a device to attach a region.
    void attach_failed(RegionId region, std::size_t device, std::string_view why);
    void region_detached(RegionId region);
    void finish_attaching();
    void serve(Session& session, std::shared_ptr<GuestMemory> memory,
               const vgpu_msg_header& header);
    // Removes the doorbells of the first `count` queues from the epoll instance.
    void forget_doorbells(const GuestMemory& memory, std::uint32_t count);

    void answer(Request& request, Outcome outcome);
    void refuse(Session& session, Session::Ticket ticket, const RequestInfo& info,
                std::uint32_t status, std::string sentence);
    // Returns the queue of a VM in a pool; assigns one if it has none.
    const Queue& queue_of(VmState& vm, std::size_t pool);
    [[nodiscard]] bool is_full(const Pool& pool) const;
    void set_policies();
    [[nodiscard]] VmShare share_of(std::uint32_t vm_id) const;
    // Answers an entry whose VM's limits no longer let it start. Returns false if it may start.
    bool held_back(const Scheduler::Entry& entry);
    void take_change(std::size_t device_index, const Completion& completion);
    // Reports, and stops if so configured, requests that have exceeded their time limit.
    void report_overruns();
    void report_overrun(Request& request);
    // Releases the device slot of a request and charges its VM for the time used.
    void account(Request& request, const Outcome& outcome);
    void synchronize(std::uint64_t token);
    void start(std::size_t device_index, const Scheduler::Entry& entry);
    // Executes a request on a device; the caller has already taken the device slot.
    void execute(std::size_t device_index, std::uint64_t token);
    // Handles the completion of a request.
    void complete(std::uint64_t token, const Outcome& outcome);
    // Emits the final event of a request, answers it and frees its slot.
    void finish(std::uint64_t token, const Outcome& outcome);
    // Ends a request in VM order and finishes the SYNCHRONIZEs that waited for it. `failure`: null
    // unless it was asynchronous and failed.
    void end_in_order(VmState& vm, VmOrder::Number number, const Outcome* failure);
    // Schedules all buffers of a VM to be freed if it is disconnected or was reset, and idle.
    void free_memory_of(VmState& vm);
    // Submits a bounded number of frees. Returns true if there are more.
    bool free_some();
    void drop(Request& request, std::string_view why, bool answer);
    void drop_queued(std::uint64_t token, std::string_view why, bool answer);
    std::optional<Scheduler::Entry> next_for(Device& device);
    // Starts what can start. Returns true if more is ready.
    bool start_waiting();
    std::uint64_t take_slot();
    void free_slot(std::uint64_t token);

    const Settings& settings_;
    EventSink& events_;
    Shortages shortages_;
    WorkClock clock_;
    Scheduler scheduler_;
    VmTable limits_;
    std::vector<Pool> pools_;
    std::array<std::optional<std::size_t>, 256> pool_by_id_{};
    std::vector<Request> requests_;  // by token
    std::vector<std::uint64_t> free_requests_;
    std::unordered_map<std::uint32_t, std::shared_ptr<VmState>> vms_;  // with a connection
    std::size_t running_ = 0;                                          // started and not finished
    std::chrono::nanoseconds last_device_activity_{0};
    std::multimap<std::chrono::nanoseconds, std::uint64_t> watched_;  // running, by deadline
    bool refusing_ = false;

    // A hello that waits until the work of an earlier connection in the same memory has ended.
    struct Attaching {
        std::shared_ptr<Session> session;
        std::shared_ptr<GuestMemory> memory;
        vgpu_msg_header header{};
    };
    std::deque<HandleTable::Buffer> to_free_;
    Fd doorbells_;  // epoll instance with the doorbells of all queues
    Interrupter interrupter_;
    TouchWatch touches_;
    // Time until which memory of a VM, or of a user with repeated offenses, is rejected.
    struct Blocked {
        std::chrono::nanoseconds until{0};
        unsigned times = 0;
    };
    std::map<std::uint32_t, Blocked> blocked_vms_;
    std::map<uid_t, Blocked> blocked_users_;
    std::unordered_map<SessionId, std::shared_ptr<GuestQueues>> memories_;
    std::vector<std::shared_ptr<GuestQueues>> ending_;  // closed; draining or detaching
    std::vector<Attaching> attaching_;
    std::vector<GuestQueue*> queue_by_id_;  // null: the id is free
    std::vector<std::uint64_t> free_queue_ids_;
    std::vector<GuestQueues*> awake_;   // with queues polled without a doorbell
    std::size_t awake_queues_ = 0;      // in awake_ and held_
    std::vector<GuestQueues*> held_;    // as awake_, of throttled VMs
    std::vector<GuestQueue*> stalled_;  // whose head commands found the scheduler full
    std::vector<std::shared_ptr<GuestQueues>> drained_;  // nothing of them is in flight
    RegionId next_region_ = 1;
    ring::Record record_;            // the command taken last
    std::size_t empty_looks_ = 0;    // since the clock was read
    std::vector<Completion> ended_;  // kept to reuse its memory
    std::vector<Device> devices_;    // last: its threads stop first
    ThreadChecker thread_;
};

}  // namespace vgpu
