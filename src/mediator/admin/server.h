// SPDX-License-Identifier: MIT
//
// AdminServer: the admin API over HTTP/1.1, on a Unix socket and, the metrics alone, on a loopback
// TCP port. It lives on the control loop and may not hold it up:
//
//   - connections, streams, bodies and unsent events are bounded, and silence ends a connection:
//     after a while, or at once if another client comes and there is no room for it. So who
//     connects and says nothing, be it again and again, keeps no operator out; and users who may
//     not use the API have a few places of their own, in which they are told so;
//   - nothing is ever written or read blocking;
//   - all connections together get a bounded share of the loop's time, so that a client which asks
//     without pause, or for much, takes no more than that from the GPUs' work.
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
    struct Options {
        std::vector<uid_t> allowed_users;                // see may_administer()
        std::chrono::milliseconds idle_timeout{30'000};  // for a request, and to take its answer
        // Per listener. Where there are so many, one more takes the place of one that is silent.
        std::size_t max_connections = 32;
        std::size_t max_streams = 16;
        std::size_t event_bytes = std::size_t{1024} * 1024;  // unsent, per stream
        // Time spent on answers: so much in each window, once more what was saved before.
        std::chrono::microseconds answer_time{10'000};
        std::chrono::microseconds answer_window{100'000};
        EventSink* notices = nullptr;  // told what the host lacks; borrowed; may be null
    };

    // Borrows all four.
    AdminServer(boost::asio::io_context& io, AdminApi& api, EventStream& events, const Clock& clock,
                Options options);
    AdminServer(const AdminServer&) = delete;
    AdminServer& operator=(const AdminServer&) = delete;
    // Ends all connections.
    ~AdminServer();  // NOLINT(bugprone-exception-escape): see there

    // Serves the whole API here from now on.
    Result<void> listen(UnixListener listener);
    // Serves the metrics here from now on. The port that it got, if the address says 0.
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
