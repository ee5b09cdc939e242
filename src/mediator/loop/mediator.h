// SPDX-License-Identifier: MIT
//
// Mediator: listeners, sessions and the control loop. One thread runs the loop, in turns:
//
//   completions, start what can start --> write --> queues --> events: read, parse, queue
//        ^                                                        |
//        +--------------------------------------------------------+   or sleep
//
// Each kind of source is served in bounded time. In every turn: completions, and starts of up to 64
// commands; queues one poll (kRecordsPerPoll) or, while polls are empty, kEventsEvery. In every
// turn without queue work, else every kEventsEvery: events (sockets, connections, doorbells,
// timers, signals, the admin API), one handler or kEventSlice (kLongEventSlice with no queue
// awake), whichever is longer, in the order in which they became ready. A handler does bounded
// work, too: it accepts one connection, or handles a few messages of one peer. Nothing that the
// loop calls can block; blocking work is done by Disposers, the log's thread, or executors. (The
// exception is access to shared memory; see TouchWatch.) LoopLatency measures the resulting delays.
//
// The loop sleeps when there is nothing to do. While a device is at work and its completion is
// imminent, the loop polls for the configured time instead.
//
// There is no global state, and nothing that a peer does ends the loop.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/disposer.h"
#include "base/fd.h"
#include "ipc/unix_listener.h"
#include "mediator/config/settings.h"
#include "mediator/core/dispatcher.h"
#include "mediator/events/events.h"
#include "mediator/events/shortages.h"
#include "mediator/loop/give_way.h"
#include "mediator/loop/loop_latency.h"
#include "mediator/session/processes.h"
#include "mediator/session/session.h"
#include "sched/token_bucket.h"

namespace vgpu {

class Mediator final : private SessionHandler {
  public:
    // Borrows io, events and clock. While run() runs, nothing else may drive `io`. Precondition:
    // each pool's device is an index into `backends`.
    Mediator(boost::asio::io_context& io, Settings settings,
             std::vector<std::unique_ptr<Backend>> backends, EventSink& events, const Clock& clock);
    ~Mediator() override;

    // Starts accepting connections from this listener.
    void add_listener(UnixListener listener);
    // Serves a connected stream socket. `name` identifies its origin in events.
    void adopt(Fd fd, const std::string& name);

    // Runs the control loop until shutdown.
    void run();

    // Sets the process of the file gateway; 0: none. Its connections have the ids of the VMs that
    // it acts for, beside the connections of their devices, and are not throttled as one process.
    void set_file_gateway(pid_t pid) { file_gateway_ = pid; }

    // Applies new settings. Preconditions: same pools, devices and spin. Control loop only.
    void apply(const Settings& settings);
    // Releases a VM from quarantine. Returns false if it is in none. Control loop only.
    bool release(std::uint32_t vm_id) { return dispatcher_.limits().release(vm_id); }
    [[nodiscard]] const Settings& settings() const { return settings_; }
    // Puts a VM into quarantine. Returns false if it is there already. Control loop only.
    bool quarantine(std::uint32_t vm_id) { return dispatcher_.limits().quarantine(vm_id); }

    // First call: stops accepting connections and requests, drains queued work for at most
    // drain_timeout, then ends. Second call: answers the rest with an error and ends. Control loop
    // only (from other threads, use boost::asio::post).
    void begin_shutdown();

    [[nodiscard]] const DeviceInfo& device(std::size_t index) const {
        return dispatcher_.devices()[index].executor->info();
    }

    // For monitoring; control loop only.
    [[nodiscard]] const Dispatcher& dispatcher() const { return dispatcher_; }
    [[nodiscard]] bool stopping() const { return stopping_; }
    [[nodiscard]] std::size_t connections() const { return sessions_.size(); }
    [[nodiscard]] std::size_t connections_of(std::uint32_t vm_id) const;
    [[nodiscard]] std::vector<std::uint32_t> connected_vms() const;
    [[nodiscard]] const LoopLatency& latency() const { return latency_; }
    // Number of this VM's requests through the file gateway, since the start.
    [[nodiscard]] std::uint64_t file_requests_of(std::uint32_t vm_id) const;

  private:
    struct Listener {
        std::optional<UnixListener> socket;                // none once closed
        boost::asio::posix::stream_descriptor descriptor;  // a duplicate, for the event loop
        boost::asio::steady_timer retry;
    };

    // Returns true if a device, or another program than the file gateway, has this VM id.
    [[nodiscard]] bool has_device(std::uint32_t vm_id) const;
    // Closes the connections that the file gateway has for this VM.
    void close_old_files(std::uint32_t vm_id);
    // Charges this VM's rejections to the process of its newest device, too. Precondition: the VM
    // has a connection.
    void charge_process(std::uint32_t vm_id);
    void on_identified(Session& session) override;
    void on_request(Session& session, const vgpu_msg_header& header,
                    std::span<const std::byte> payload) override;
    // Answers the requests of a connection with an error instead of serving it.
    void answer_with_error(Session& session, CloseReason reason);
    void refuse(Session& session, const vgpu_msg_header& header,
                std::span<const std::byte> payload);
    void close_refused(std::uint32_t vm_id);
    void on_hello(Session& session, OfferedMemory offered) override;
    void on_ping(Session& session) override;
    void on_shm_reset(Session& session) override;
    void on_idle(Session& session) override;
    void on_output(Session& session) override;
    void on_closed(Session& session, CloseReason reason, std::string_view detail) override;

    void wait_for_connection(Listener& listener);
    void accept_one(Listener& listener);
    void accept_later(Listener& listener, std::chrono::milliseconds pause);
    void wait_for_device(std::size_t device);
    void wait_for_doorbells();
    void flush_sessions();
    // Gives the session its next turn, now or once it is no longer throttled.
    void read_when_due(std::shared_ptr<Session> session);
    // Gives sessions that are no longer throttled their turn.
    void release_held();
    // Counts a connection of a process. Returns true if it has to be closed at once.
    bool connects_too_often(Processes::Process& process, pid_t pid);
    // Polls completions and queues at least once, until something is found or a time limit expires.
    // Returns true if something was found.
    bool poll();
    // Serves ready sockets and other event sources for one event slice.
    void serve_events();
    // Returns true if events are due although queues have work.
    [[nodiscard]] bool time_for_events() const;
    // Yields the core briefly if woken peers may need it.
    void give_way();
    [[nodiscard]] std::uint64_t woken() const {
        return flushes_ + dispatcher_.interrupter().interrupts();
    }
    void polled(LoopSource source) {
        dispatcher_.guard().late_by(latency_.polled(source, dispatcher_.now()));
    }
    // Re-arms the descriptors that are not being waited for.
    void watch();
    void sleep();
    // Arms a timer for the next timed work of the dispatcher or of throttled sessions.
    void set_alarm();
    void give_up(std::string_view why);
    void finish_if_drained();

    Disposer memories_;  // for shared memory
    Disposer foreign_;   // for everything else that peers have passed
    boost::asio::io_context& io_;
    Settings settings_;
    EventSink& events_;
    Shortages shortages_;
    std::vector<boost::asio::posix::stream_descriptor> device_wakes_;  // by device
    boost::asio::posix::stream_descriptor doorbells_;  // the dispatcher's, for the event loop
    bool watch_doorbells_ = true;                      // doorbells_ has to be re-armed
    std::chrono::nanoseconds served_at_{0};            // when events were last served
    bool events_left_ = false;                         // the last slice left ready events
    bool round_marked_ = false;  // a handler that marks the end of the round is queued
    LoopLatency latency_;
    GiveWay give_way_;
    std::uint64_t flushes_ = 0;          // of sessions; each may have woken a peer
    std::vector<std::size_t> to_watch_;  // devices whose descriptor has to be re-armed
    std::vector<std::unique_ptr<Listener>> listeners_;
    std::unordered_map<SessionId, std::shared_ptr<Session>> sessions_;
    std::unordered_map<std::uint32_t, std::vector<SessionId>> sessions_by_vm_;
    // Connections whose VM id is in use by another one, and whether that was logged.
    // Connections that are answered with an error, and why.
    struct Refused {
        CloseReason reason = CloseReason::kVmIdInUse;  // or kVmNotAllowed
        bool told = false;                             // the log
    };
    std::map<SessionId, Refused> refused_;
    std::vector<std::shared_ptr<Session>> to_flush_;
    std::vector<std::shared_ptr<Session>> to_read_;
    // Throttled sessions, by the end of throttling.
    std::multimap<std::chrono::nanoseconds, std::shared_ptr<Session>> held_;
    Processes processes_;
    pid_t file_gateway_ = 0;
    std::size_t file_sessions_ = 0;                                   // of it
    std::unordered_map<std::uint32_t, std::uint64_t> file_requests_;  // by VM
    SessionId last_talker_ = 0;                                       // sender of the last request
    bool several_talk_ = false;  // several sessions sent requests since the last sleep
    SessionId next_session_ = 1;
    TokenBucket accepts_;  // rate limit of accepted connections
    boost::asio::steady_timer drain_timer_;
    std::optional<std::chrono::nanoseconds> drained_at_;  // drained but for unsent responses
    const Clock& clock_;
    boost::asio::steady_timer alarm_;
    std::optional<std::chrono::nanoseconds> alarm_at_;  // in the time of clock_
    bool stopping_ = false;
    bool given_up_ = false;
    bool finished_ = false;
    Dispatcher dispatcher_;  // last: its threads stop before what they use is destroyed
};

}  // namespace vgpu
