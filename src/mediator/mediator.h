// SPDX-License-Identifier: MIT
//
// Mediator: listeners, sessions and the control loop. One thread does all of it:
//
//   ready sockets -> read, parse, queue -> start what can start, answer what ended -> write
//
// in one turn, then sleep, unless a device is at work and its completion is expected any moment: it
// is then looked for without sleeping for the configured time.
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

#include "base/fd.h"
#include "ipc/unix_listener.h"
#include "mediator/dispatcher.h"
#include "mediator/events.h"
#include "mediator/session.h"
#include "mediator/settings.h"

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

  private:
    struct Listener {
        std::optional<UnixListener> socket;                // none once it listens no more
        boost::asio::posix::stream_descriptor descriptor;  // a duplicate, for the event loop
        boost::asio::steady_timer retry;
    };

    bool on_identified(Session& session) override;
    void on_request(Session& session, const vgpu_msg_header& header,
                    std::span<const std::byte> payload) override;
    void on_hello(Session& session, OfferedMemory offered) override;
    void on_shm_reset(Session& session) override;
    void on_idle(Session& session) override;
    void on_output(Session& session) override;
    void on_closed(Session& session, CloseReason reason, std::string_view detail) override;

    void wait_for_connection(Listener& listener);
    void accept_all(Listener& listener);
    void wait_for_wake();
    void wait_for_device(std::size_t device);
    void wait_for_doorbells();
    void flush_sessions();
    // Looks for completions and at queues until there is something, for a bounded time. Whether
    // there is.
    bool look();
    // Whether sockets have to be looked at although queues are.
    [[nodiscard]] bool time_to_poll() const;
    // Waits for those descriptors that nobody waits for just now.
    void watch();
    void sleep();
    // Makes the control loop wake up when the dispatcher has something to do by the clock.
    void set_alarm();
    void give_up(std::string_view why);
    void finish_if_drained();

    boost::asio::io_context& io_;
    Settings settings_;
    EventSink& events_;
    Fd wake_fd_;  // an eventfd that the executors write
    boost::asio::posix::stream_descriptor wake_descriptor_;
    // By device, those that have a wake_descriptor().
    std::map<std::size_t, boost::asio::posix::stream_descriptor> device_wakes_;
    boost::asio::posix::stream_descriptor doorbells_;  // the dispatcher's, for the event loop
    bool watch_doorbells_ = true;                      // nobody waits for it just now
    std::chrono::nanoseconds polled_at_{0};            // when the sockets were looked at
    std::vector<std::size_t> to_watch_;  // devices whose descriptor nobody waits for just now
    std::vector<std::unique_ptr<Listener>> listeners_;
    std::unordered_map<SessionId, std::shared_ptr<Session>> sessions_;
    std::unordered_map<std::uint32_t, std::vector<SessionId>> sessions_by_vm_;
    std::vector<std::shared_ptr<Session>> to_flush_;
    std::vector<std::shared_ptr<Session>> to_read_;
    SessionId last_talker_ = 0;  // whose request came last
    bool several_talk_ = false;  // requests came from more than one since sockets were looked at
    SessionId next_session_ = 1;
    boost::asio::steady_timer drain_timer_;
    const Clock& clock_;
    boost::asio::steady_timer alarm_;
    std::optional<std::chrono::nanoseconds> alarm_at_;  // by clock_
    bool stopping_ = false;
    bool given_up_ = false;
    bool finished_ = false;
    Dispatcher dispatcher_;  // last: its threads stop before what they use goes
};

}  // namespace vgpu
