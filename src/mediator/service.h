// SPDX-License-Identifier: MIT
//
// The mediator as a service of systemd: the sockets that systemd opened for it (sd_listen_fds(3)),
// and the states that it reports (the protocol of sd_notify(3)). Started by another program, it
// has no such sockets and its reports go nowhere.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "ipc/unix_listener.h"

namespace vgpu {

// Sockets that the mediator did not open itself.
class InheritedSockets {
  public:
    // Takes the sockets from the environment, and removes its variables, so that no child process
    // takes them too.
    static Result<InheritedSockets> create();

    // Returns the inherited socket of `path` if there is one, else a new one that belongs to
    // `group`, if the group exists; see UnixListener::create(). An inherited one keeps the mode
    // and the group that its creator gave it.
    struct Wanted {
        std::string path;
        std::string option;
        mode_t mode = UnixListener::kMode;
        std::string group{};  // empty: the process's own
    };
    Result<UnixListener> open(const Wanted& wanted);

    // Fails if a socket has not been opened: connections to it would wait for ever.
    [[nodiscard]] Result<void> expect_none_left() const;

  private:
    std::vector<UnixListener> sockets_;
};

// Control loop only. Does not block: a report that the service manager does not accept at once is
// dropped.
class ServiceManager {
  public:
    // Borrows io. Reads the environment.
    explicit ServiceManager(boost::asio::io_context& io);

    // The mediator serves. Starts the keep-alive messages that WatchdogSec= asks for.
    void ready(std::string_view status);
    // The mediator reloads; ready() ends that.
    void reloading();
    // The mediator drains. `limit`: the longest time until it exits.
    void stopping(std::chrono::milliseconds limit);

  private:
    void send(const std::string& message) const;
    void keep_alive();

    boost::asio::steady_timer timer_;
    std::chrono::microseconds interval_{0};  // of keep-alive messages; 0: none are wanted
    bool kept_alive_ = false;
    Fd socket_;  // empty: no service manager
    sockaddr_un address_{};
    socklen_t address_length_ = 0;
};

}  // namespace vgpu
