// SPDX-License-Identifier: MIT
//
// Mediator: listeners, sessions and the control loop. One thread does all of it, in turns:
//
//   completions, start what can start --> write --> queues --> events: read, parse, queue
//        ^                                                        |
//        +--------------------------------------------------------+   or sleep
//
// Each turn serves every kind of source, in bounded work: completions and starts up to 64 commands,
// queues one look (Dispatcher::kRecordsPerLook) or, while they find nothing, kEventsEvery; events
// (sockets, connections, doorbells, timers, signals, the admin API) one handler or kEventSlice,
// whichever is more, in the order in which they became ready. A handler does bounded work, too: one
// connection accepted, or a few messages of one peer. Nothing that the loop calls can block; what
// can is done by Disposers, by the log's thread, or by executors. (Touching shared memory is the
// exception; see TouchWatch.) LoopLatency measures what comes of it.
//
// The loop sleeps when nothing is to do, unless a device is at work and its completion is expected
// any moment: it is then looked for without sleeping for the configured time.
//
// Nothing here is global, and nothing a peer does ends the loop.
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
    // Borrows io, events and clock. `io` is driven by run() and by nothing else meanwhile.
    // Precondition: each pool's device is an index into `backends`.
    Mediator(boost::asio::io_context& io, Settings settings,
             std::vector<std::unique_ptr<Backend>> backends, EventSink& events, const Clock& clock);
    ~Mediator() override;

    // Takes connections from this listener from now on.
    void add_listener(UnixListener listener);
    // Serves this connected stream socket. `name` says in events where it came from.
    void adopt(Fd fd, const std::string& name);

    // Runs the control loop until shut down.
    void run();

    // From now on these settings. Preconditions: pools, devices and spin are as before.
    // Control loop only.
    void apply(const Settings& settings);
    // Lets a VM out of quarantine. False: it is in none. Control loop only.
    bool release(std::uint32_t vm_id) { return dispatcher_.release(vm_id); }
    [[nodiscard]] const Settings& settings() const { return settings_; }
    // Puts a VM into quarantine. False: it is there already. Control loop only.
    bool quarantine(std::uint32_t vm_id) { return dispatcher_.quarantine(vm_id); }

    // First call: takes no connection and no request any more, goes on with what is queued for at
    // most drain_timeout, then ends. Second call: answers the rest with an error and ends.
    // Control loop only (boost::asio::post gets there from elsewhere).
    void begin_shutdown();

    [[nodiscard]] const DeviceInfo& device(std::size_t index) const {
        return dispatcher_.device(index);
    }

    // For those who look on; control loop only.
    [[nodiscard]] const Dispatcher& dispatcher() const { return dispatcher_; }
    [[nodiscard]] bool stopping() const { return stopping_; }
    [[nodiscard]] std::size_t connections() const { return sessions_.size(); }
    [[nodiscard]] std::size_t connections_of(std::uint32_t vm_id) const;
    // Those with a connection.
    [[nodiscard]] std::vector<std::uint32_t> connected_vms() const;
    [[nodiscard]] const LoopLatency& latency() const { return latency_; }

  private:
    struct Listener {
        std::optional<UnixListener> socket;                // none once it listens no more
        boost::asio::posix::stream_descriptor descriptor;  // a duplicate, for the event loop
        boost::asio::steady_timer retry;
    };

    void on_identified(Session& session) override;
    void on_request(Session& session, const vgpu_msg_header& header,
                    std::span<const std::byte> payload) override;
    void refuse(Session& session, const vgpu_msg_header& header,
                std::span<const std::byte> payload);
    void close_refused(std::uint32_t vm_id);
    void on_hello(Session& session, OfferedMemory offered) override;
    void on_shm_reset(Session& session) override;
    void on_idle(Session& session) override;
    void on_output(Session& session) override;
    void on_closed(Session& session, CloseReason reason, std::string_view detail) override;

    void wait_for_connection(Listener& listener);
    void accept_one(Listener& listener);
    void accept_later(Listener& listener, std::chrono::milliseconds pause);
    void wait_for_wake();
    void wait_for_device(std::size_t device);
    void wait_for_doorbells();
    void flush_sessions();
    // Gives the session its next turn, now or once it is not held back any more.
    void read_when_due(std::shared_ptr<Session> session);
    // Gives sessions their turn that were held back and are not any more.
    void release_held();
    // That a connection was taken, and closed at once for this.
    void turn_away(Fd fd, SessionId id, CloseReason reason, std::string_view detail);
    // Looks for completions and at queues, once at least, until there is something, for a bounded
    // time. Whether there is.
    bool look();
    // Serves what is ready of sockets and the like, for kEventSlice.
    void serve_events();
    // Whether events have to be served although queues have work.
    [[nodiscard]] bool time_for_events() const;
    // Sleeps for a moment, if peers that have been woken may need this core.
    void give_way();
    [[nodiscard]] std::uint64_t woken() const { return flushes_ + dispatcher_.interrupts(); }
    void looked(LoopSource source) {
        dispatcher_.late_by(latency_.looked(source, dispatcher_.now()));
    }
    // Waits for those descriptors that nobody waits for just now.
    void watch();
    void sleep();
    // Makes the control loop wake up when the dispatcher has something to do by the clock.
    void set_alarm();
    void give_up(std::string_view why);
    void finish_if_drained();

    Disposer memories_;  // of shared memory
    Disposer foreign_;   // of everything else that peers have passed
    boost::asio::io_context& io_;
    Settings settings_;
    EventSink& events_;
    Shortages shortages_;
    Fd wake_fd_;  // an eventfd that the executors write
    boost::asio::posix::stream_descriptor wake_descriptor_;
    // By device, those that have a wake_descriptor().
    std::map<std::size_t, boost::asio::posix::stream_descriptor> device_wakes_;
    boost::asio::posix::stream_descriptor doorbells_;  // the dispatcher's, for the event loop
    bool watch_doorbells_ = true;                      // nobody waits for it just now
    std::chrono::nanoseconds served_at_{0};            // when events were served
    bool events_left_ = false;                         // more were ready than there was time for
    bool round_marked_ = false;  // a handler waits behind them that notes the end of the round
    LoopLatency latency_;
    GiveWay give_way_;
    std::uint64_t flushes_ = 0;          // of sessions: each may have woken a peer
    std::vector<std::size_t> to_watch_;  // devices whose descriptor nobody waits for just now
    std::vector<std::unique_ptr<Listener>> listeners_;
    std::unordered_map<SessionId, std::shared_ptr<Session>> sessions_;
    std::unordered_map<std::uint32_t, std::vector<SessionId>> sessions_by_vm_;
    // Connections whose VM id another one has, and whether the log has it.
    std::map<SessionId, bool> refused_;
    std::vector<std::shared_ptr<Session>> to_flush_;
    std::vector<std::shared_ptr<Session>> to_read_;
    // That are held back, by the time until which they are.
    std::multimap<std::chrono::nanoseconds, std::shared_ptr<Session>> held_;
    Processes processes_;
    SessionId last_talker_ = 0;  // whose request came last
    bool several_talk_ = false;  // requests came from more than one since sockets were looked at
    SessionId next_session_ = 1;
    TokenBucket accepts_;  // how many connections may be taken now
    boost::asio::steady_timer drain_timer_;
    std::optional<std::chrono::nanoseconds> drained_at_;  // with answers left to be sent
    const Clock& clock_;
    boost::asio::steady_timer alarm_;
    std::optional<std::chrono::nanoseconds> alarm_at_;  // by clock_
    bool stopping_ = false;
    bool given_up_ = false;
    bool finished_ = false;
    Dispatcher dispatcher_;  // last: its threads stop before what they use goes
};

}  // namespace vgpu
