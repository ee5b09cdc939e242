// SPDX-License-Identifier: MIT
//
// AdminClient: HTTP/1.1 over the mediator's admin socket. One connection per call, every call with
// a time-out, so that a hung mediator causes an error text and not a hung program. While the
// socket's backlog is full, the call waits for a place in it. Does not interpret requests or
// responses.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace vgpu::ctl {

struct Reply {
    unsigned status = 0;  // HTTP
    std::string body;
};

class AdminClient {
  public:
    // `socket`: path of the mediator's admin socket.
    AdminClient(std::string socket, std::chrono::milliseconds limit)
        : socket_(std::move(socket)), limit_(limit) {}

    // Sends `body` as JSON unless it is empty. The error is one of transport: no mediator answers,
    // the call timed out, or the response is not HTTP. A response with any status is a reply.
    [[nodiscard]] Result<Reply> call(std::string_view method, const std::string& target,
                                     const std::string& body = {}) const;

    // Reads a response that does not end by itself, piece by piece, until the mediator ends it or
    // SIGINT or SIGTERM arrives; both are success. A status other than 200 is returned with its
    // body, without calling on_piece. on_piece returns false to stop.
    [[nodiscard]] Result<Reply> follow(const std::string& target,
                                       const std::function<bool(std::string_view)>& on_piece) const;

    [[nodiscard]] const std::string& socket() const { return socket_; }

  private:
    std::string socket_;
    std::chrono::milliseconds limit_;
};

}  // namespace vgpu::ctl
