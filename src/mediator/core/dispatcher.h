// SPDX-License-Identifier: MIT
//
// Dispatcher: a request's way from a session through the scheduler to a device and back.
//
//   submit() --checks--> queue of its pool and priority --a slot is free--> device --> answer()
//        |
//        +--> answered with an error at once
//
// Checks, in this order: length and header fields, pool, operation and params, queue. Whatever
// happens, each request gets one answer, or its connection is gone. An asynchronous one gets it
// when it is queued; SYNCHRONIZE is not queued, but waits in its VM's VmOrder.
//
// A pool has a queue for each of its devices. A VM gets one of them with its first request there: a
// device it is on already, or else the one with the fewest VMs; and keeps it while it is connected.
//
// A VM has at most one request on a device, whatever the slots: its requests see each other's work.
// When its last connection is gone and nothing of it runs, its buffers are freed.
//
// Queues in shared memory (guest_queues.h) come in beside the sessions. Of each queue one command,
// its head, waits in the scheduler. When it is called and can be done on the control loop, those
// behind it in the ring that can be too are done with it, up to a bound (a run); when it is for a
// device, those behind it follow it there while nobody else waits for that device (a chain). To the
// scheduler either is one execution.
//
//   look_at_queues() ── takes heads ──▶ scheduler ──▶ run, or chain ──▶ GuestQueue::end()
//
// A queue is looked at without pause while there is traffic and for Settings::spin after that; then
// its doorbell is armed, and it is looked at again when that has rung. The devices with such queues
// share each look, however many queues one has; what is refused counts as what is served. A VM of
// which too much is refused or reset is held back: its queues and sockets are not looked at until
// VmState::held_until().
//
// What waits for a device that has failed goes on waiting, up to Settings::recovery_wait from the
// failure on, and is answered with VGPU_ERR_CUDA after that.
//
// Control loop only.
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
    // Borrows settings, events and clock. `wake` makes the control loop call turn(); it is called
    // from the threads of those executors that have one.
    Dispatcher(const Settings& settings, std::vector<std::unique_ptr<Backend>> backends,
               EventSink& events, const Clock& clock, const std::function<void()>& wake);

    // The control loop begins another piece of work, or is about to sleep: see WorkClock.
    void begin_work() { clock_.next(); }
    // The time of the piece of work that the control loop is in.
    [[nodiscard]] std::chrono::nanoseconds now() const { return clock_.now(); }

    // Sets session.flow. Precondition: session.vm_id() is set.
    void open_flow(Session& session);
    // Drops what the session has queued; what runs of it ends unanswered. Clears session.flow.
    void close_flow(Session& session);

    // Takes a request or answers it with an error. Precondition: session.flow is set.
    void submit(Session& session, const vgpu_msg_header& header,
                std::span<const std::byte> payload);

    // Serves this shared memory for an identified session, whose answer_hello() is called when it
    // is: at once, or when what an earlier connection had in the same memory has ended.
    void attach(Session& session, std::shared_ptr<GuestMemory> memory,
                const vgpu_msg_header& header);
    // The device was reset: its queues are stopped and begin anew, then answer_reset() is called.
    // Precondition: its memory was attached.
    void reset_queues(Session& session);
    // Takes what has come in the queues that are awake, and executes it where nothing waits and no
    // other queue is awake. True: there is something to do for turn(). Bounded work: see
    // kRecordsPerLook.
    bool look_at_queues();
    // Readable when a queue's doorbell has rung; then on_doorbells(), which takes note of up to 64
    // queues. The dispatcher's.
    [[nodiscard]] int doorbell_descriptor() const { return doorbells_.get(); }
    void on_doorbells();
    // Whether guests can be interrupted: see Interrupter::works().
    [[nodiscard]] bool can_interrupt() const { return interrupter_.works(); }
    // How often a guest was interrupted.
    [[nodiscard]] std::uint64_t interrupts() const { return interrupter_.interrupts(); }
    // The control loop came this late to something.
    void late_by(std::chrono::nanoseconds time) { touches_.late_by(time, clock_.now()); }
    // Whether memory of this session's VM may be served: not for a time after a connection was
    // closed because touching its memory made the control loop wait.
    [[nodiscard]] bool may_share_memory(const Session& session) const;
    // Nothing of this VM is to be looked at before this time. Precondition: it has a connection.
    [[nodiscard]] std::chrono::nanoseconds held_until(std::uint32_t vm_id) const {
        return vms_.at(vm_id)->held_until();
    }

    // The settings have changed: policies, limits, shares. The pools are the same.
    void apply_settings();
    // Something that this VM did beside its requests was a fault.
    void count_fault(std::uint32_t vm_id) { limits_.count_fault(vm_id); }
    bool release(std::uint32_t vm_id) { return limits_.release(vm_id); }

    // From now on every new request is answered with VGPU_ERR_MEDIATOR_UNAVAILABLE.
    void refuse_new() { refusing_ = true; }
    // Answers everything queued and running with VGPU_ERR_MEDIATOR_UNAVAILABLE.
    void give_up(std::string_view why);

    // Answers what has ended and starts what can start. Bounded work; true if there is more to do
    // at once.
    bool turn();

    // Nothing queued, nothing running.
    [[nodiscard]] bool idle() const {
        return scheduler_.depth() == 0 && running_ == 0 && stalled_.empty();
    }
    // Whether it pays to look for completions and requests without sleeping: a device had to do
    // within the last `spin`. What is done on the control loop itself does not count, because
    // whoever asks for it may need this core to go on.
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

    // When turn() has something to do although nothing came and nothing ended; none: never.
    [[nodiscard]] std::optional<std::chrono::nanoseconds> next_due() const;

    struct DeviceState {
        bool working = true;
        std::size_t running = 0;  // requests
        std::size_t slots = 1;
        std::size_t vms = 0;           // that wait and run there
        std::uint64_t recoveries = 0;  // since the start
    };
    [[nodiscard]] DeviceState device_state(std::size_t index) const;
    // Whether this VM could be served in this pool without losing sight of its buffers.
    // Precondition: the pool is served.
    [[nodiscard]] bool can_move(std::uint32_t vm_id, char pool) const;
    // For those who look on. `vm`: null unless it has a connection.
    struct Load {
        std::size_t queued = 0;
        std::size_t running = 0;
    };
    [[nodiscard]] Load load() const { return {scheduler_.depth(), running_}; }
    [[nodiscard]] std::unordered_map<std::uint32_t, Load> load_by_vm() const;
    // Requests that run, by pool as it is served.
    [[nodiscard]] std::unordered_map<char, std::size_t> running_by_pool() const;
    // Requests that wait in a pool at one level. Precondition: the pool is served.
    [[nodiscard]] std::size_t queued(char pool, std::size_t priority) const;
    [[nodiscard]] std::size_t device_count() const { return devices_.size(); }
    // Time that the device has executed: in all, and over the last seconds.
    [[nodiscard]] const BusyTime& busy(std::size_t index) const { return devices_[index].busy; }
    // Bytes of shared memory that a processor has copied in a device's place.
    [[nodiscard]] std::uint64_t bytes_copied_by_processor() const;
    // Shared memory that is served: devices with any, and their bytes.
    struct Shared {
        std::size_t devices = 0;
        std::uint64_t bytes = 0;
    };
    [[nodiscard]] Shared shared() const;
    // Bytes that VMs have allocated there.
    [[nodiscard]] std::uint64_t memory_used_on(std::size_t index) const;
    [[nodiscard]] const VmState* vm(std::uint32_t vm_id) const;
    [[nodiscard]] const VmTable& limits() const { return limits_; }
    // False: it is in quarantine already.
    bool quarantine(std::uint32_t vm_id) { return limits_.quarantine(vm_id); }

  private:
    struct Request {
        std::shared_ptr<Session> session;  // null: the slot is free
        Session::Ticket ticket = 0;
        RequestInfo info;
        Operation operation;
        std::shared_ptr<VmState> vm;
        std::shared_ptr<GuestQueues> queues;  // a queue's command; else null
        GuestQueue* queue = nullptr;
        std::uint64_t index = 0;     // of the command in its timeline
        VmOrder::Number number = 0;  // within the VM; none for SYNCHRONIZE
        std::size_t device = 0;      // where it runs
        std::chrono::nanoseconds accepted_at{0};
        Scheduler::VmIndex scheduled_vm = 0;  // once it runs
        std::chrono::nanoseconds waited{0};
        std::chrono::nanoseconds started_at{0};
        std::optional<std::multimap<std::chrono::nanoseconds, std::uint64_t>::iterator> watched;
        bool overran = false;  // and has been reported
        bool running = false;
        bool answered = false;  // asynchronous, or given up
        bool dropped = false;   // given up
    };
    struct Device {
        std::unique_ptr<Executor> executor;
        std::size_t running = 0;
        std::vector<Scheduler::PoolIndex> queues;
        std::size_t next_queue = 0;  // whose turn it is among them
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
    // Looks at each of a device's queues that are awake, and takes no more than `most` records.
    // True if it took something.
    bool look_at_device(GuestQueues& queues, std::size_t most);
    // Looks at one queue; true if it took something.
    bool look_at(GuestQueue& queue);
    // A look has found nothing: whether the queue is looked at again without its doorbell.
    bool goes_on(GuestQueue& queue);
    // Lets the queues of VMs be looked at that were held back and are not any more.
    void release_held();
    // A request of this VM was refused, or it has reset something.
    void count_refusal(VmState& vm) {
        if (!refusing_) {
            vm.count(&HoldBack::count_refusal, clock_.now());
        }
    }
    // Whether there is no use in looking at it before something of it has ended.
    [[nodiscard]] bool blocked(const GuestQueue& queue) const;
    void wake(GuestQueue& queue);
    // Deals with the command that was just taken, which stands in record_. `may_run`: a NOP may be
    // executed at once.
    void take_command(GuestQueue& queue, bool may_run);
    [[nodiscard]] RequestInfo info_of(const GuestQueue& queue) const;
    void refuse_command(GuestQueue& queue, std::uint64_t index, const RequestInfo& info,
                        const Outcome& outcome);
    // Executes the NOP just taken and those behind it, if that is what the scheduler would have
    // done at once. False: nothing was done.
    bool run_at_once(GuestQueue& queue, const RequestInfo& info, std::size_t level);
    // Hands the head to the scheduler, or puts it aside until that has room.
    void enqueue_head(GuestQueue& queue);
    void retry_stalled();
    // The scheduler has called the head. Gives how many commands were executed.
    std::size_t start_head(std::size_t device, const Scheduler::Entry& entry, std::size_t most);
    std::size_t start_head_now(std::size_t device, const Scheduler::Entry& entry, std::size_t most);
    // This device's memory has just been touched: closes its connection if that made the loop wait.
    void judge_touches(GuestQueues& queues);
    // Executes the NOP at the head and those behind it. Gives how many, and one more if it has
    // dealt with a command that is none.
    std::size_t run(GuestQueue& queue, const Scheduler::Entry& entry, const RequestInfo& info,
                    std::chrono::nanoseconds waited, std::size_t most);
    // A slot for a command that a device or a SYNCHRONIZE is to have.
    std::uint64_t make_request(GuestQueue& queue, std::uint64_t index, const RequestInfo& info,
                               Operation operation);
    void synchronize_command(GuestQueue& queue, const RequestInfo& info, Operation operation);
    // Whether a command may follow those that the queue's chain has on its device.
    [[nodiscard]] bool may_follow(const GuestQueue& queue, const Operation& operation);
    // Fills in what a job on shared memory needs.
    void place_in_region(Request& request, std::size_t device);
    // A command of a chain has ended on its device; gives what it is charged with.
    std::chrono::nanoseconds leave_chain(Request& request, std::chrono::nanoseconds used);
    // The last that a device or a SYNCHRONIZE had of these queues has ended.
    void drained(GuestQueues& queues);
    // Serves queues that have just been laid out.
    void begin_again(GuestQueues& queues);
    // Stops all queues and drops what has not begun.
    void stop_queues(GuestQueues& queues, std::string_view why);
    void detach(Session& session);
    void drop_head(GuestQueue& queue, std::string_view why, bool answer);
    void say_accepted(const GuestQueue::Head& head);
    void note_ended(GuestQueue& queue);
    void settle_drained();
    // Devices that have let go of a region.
    // A device could not take a region.
    void attach_failed(RegionId region, std::size_t device, std::string_view why);
    void region_detached(RegionId region);
    void finish_attaching();
    void serve(Session& session, std::shared_ptr<GuestMemory> memory,
               const vgpu_msg_header& header);
    // Takes the doorbells of the first `count` queues out of the epoll instance.
    void forget_doorbells(const GuestMemory& memory, std::uint32_t count);

    void answer(Request& request, Outcome outcome);
    void refuse(Session& session, Session::Ticket ticket, const RequestInfo& info,
                std::uint32_t status, std::string sentence);
    // The queue of a VM in a pool; gives it one if it has none.
    const Queue& queue_of(VmState& vm, std::size_t pool);
    [[nodiscard]] bool is_full(const Pool& pool) const;
    void set_policies();
    [[nodiscard]] VmShare share_of(std::uint32_t vm_id) const;
    // Answers what may not start any more. False: it may.
    bool held_back(const Scheduler::Entry& entry);
    void take_change(std::size_t device_index, const Completion& completion);
    // Reports what has run for too long by now.
    void report_overruns();
    void report_overrun(Request& request);
    // Charges a VM for what it has used.
    void account(Request& request, const Outcome& outcome);
    void synchronize(std::uint64_t token);
    void start(std::size_t device_index, const Scheduler::Entry& entry);
    // Has a request, which counts as running, done by its device.
    void execute(std::size_t device_index, std::uint64_t token);
    // A device is done with a request.
    void complete(std::uint64_t token, const Outcome& outcome);
    // The last of a request: its event, its answer, its slot.
    void finish(std::uint64_t token, const Outcome& outcome);
    // The request is over for its VM; finishes the SYNCHRONIZEs that waited for it. `failure`: null
    // unless it was asynchronous and failed.
    void end_in_order(VmState& vm, VmOrder::Number number, const Outcome* failure);
    // Has all buffers freed if the VM has no connection left and nothing running.
    void free_memory_of(VmState& vm);
    // Frees some of what is to be freed. Whether there is more.
    bool free_some();
    void drop(Request& request, std::string_view why, bool answer);
    void drop_queued(std::uint64_t token, std::string_view why, bool answer);
    std::optional<Scheduler::Entry> next_for(Device& device);
    // Starts what can start. True if there is more to do at once.
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
    std::multimap<std::chrono::nanoseconds, std::uint64_t> watched_;  // running, by when too long
    bool refusing_ = false;

    // A hello that waits for what an earlier connection left in the same memory.
    struct Attaching {
        std::shared_ptr<Session> session;
        std::shared_ptr<GuestMemory> memory;
        vgpu_msg_header header{};
    };
    std::deque<HandleTable::Buffer> to_free_;
    Fd doorbells_;  // an epoll instance that holds the doorbells of all queues
    Interrupter interrupter_;
    TouchWatch touches_;
    // Until when memory is refused, of a VM, and of a user whose processes have done it often.
    struct Blocked {
        std::chrono::nanoseconds until{0};
        unsigned times = 0;
    };
    std::map<std::uint32_t, Blocked> blocked_vms_;
    std::map<uid_t, Blocked> blocked_users_;
    std::unordered_map<SessionId, std::shared_ptr<GuestQueues>> memories_;
    std::vector<std::shared_ptr<GuestQueues>> ending_;  // closed, and a device still has them
    std::vector<Attaching> attaching_;
    std::vector<GuestQueue*> queue_by_id_;  // null: the id is free
    std::vector<std::uint64_t> free_queue_ids_;
    std::vector<GuestQueues*> awake_;   // with queues that are looked at without a doorbell
    std::size_t awake_queues_ = 0;      // of all of them
    std::vector<GuestQueues*> held_;    // the same of VMs that are held back
    std::vector<GuestQueue*> stalled_;  // whose heads the scheduler had no room for
    std::vector<std::shared_ptr<GuestQueues>> drained_;  // nothing of them is under way
    RegionId next_region_ = 1;
    ring::Record record_;            // what was taken last
    std::size_t empty_looks_ = 0;    // at queues, since the clock was read
    std::vector<Completion> ended_;  // kept for its memory
    std::vector<Device> devices_;    // last: its threads stop first
};

}  // namespace vgpu
