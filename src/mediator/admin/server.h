// SPDX-License-Identifier: MIT
//
// AdminServer: the admin API over HTTP/1.1, on a Unix socket and, the metrics alone, on a loopback
// TCP port. Runs on the control loop and must not block it:
//
//   - connections, streams, bodies and unsent events are bounded. An idle connection is closed
//     after a time-out, or earlier if a new client needs its slot, so idle clients cannot lock an
//     operator out, even by reconnecting. Users who may not use the API get a few slots of their
//     own, in which they are rejected;
//   - each listener accepts a limited number of connections per second; further ones wait in its
//     backlog. A client that has left without a request is only closed, which costs less and counts
//     less, so others do not wait long behind it. Users who may not use the API have a smaller
//     limit of their own, above which they are closed at once;
//   - all I/O is non-blocking;
//   - all connections share a bounded fraction of the loop's time, so a client that sends requests
//     without pause, or expensive ones, takes no more than that from the GPUs' work.
#pragma once

#include <sys/types.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "ipc/unix_listener.h"
#include "mediator/admin/api.h"
#include "mediator/admin/event_stream.h"
#include "mediator/config/access.h"
#include "sched/clock.h"

namespace vgpu {

class AdminServer {
  public:
    struct Rate {
        double per_second;  // > 0
        double burst;       // >= 1
    };
    struct Options {
        std::vector<uid_t> allowed_users;                // see may_administer()
        std::chrono::milliseconds idle_timeout{30'000};  // to receive a request, to send a response
        // Per listener. At the limit, a new connection replaces an idle one.
        std::size_t max_connections = 32;
        // Served connections. Serving one costs the loop some 25 us, without a request.
        Rate socket_accepts{.per_second = 1000, .burst = 200};
        Rate metrics_accepts{.per_second = 500, .burst = 100};
        // Those of users who are only rejected; part of socket_accepts.
        Rate stranger_accepts{.per_second = 100, .burst = 100};
        std::size_t max_streams = 16;
        std::size_t event_bytes = std::size_t{1024} * 1024;  // unsent, per stream
        // Time spent on responses: this budget per window, plus at most one budget saved before.
        std::chrono::microseconds answer_time{10'000};
        std::chrono::microseconds answer_window{100'000};
        EventSink* notices = nullptr;  // for resource exhaustion; borrowed; may be null
    };

    // Borrows everything but the options.
    AdminServer(boost::asio::io_context& io, AdminApi& api, EventStream& events, const Clock& clock,
                Options options);
    AdminServer(const AdminServer&) = delete;
    AdminServer& operator=(const AdminServer&) = delete;
    // Closes all connections.
    ~AdminServer();  // NOLINT(bugprone-exception-escape): see there

    // Starts serving the whole API on this listener.
    Result<void> listen(UnixListener listener);
    // Starts serving the metrics. Returns the bound port: the kernel chooses one for port 0.
    Result<std::uint16_t> listen_metrics(const LoopbackAddress& address);

    // Control loop only.
    [[nodiscard]] std::size_t connections() const;

  private:
    struct Shared;
    class Door;
    class Connection;

    std::shared_ptr<Shared> shared_;
    std::vector<std::shared_ptr<Door>> doors_;
};

}  // namespace vgpu
