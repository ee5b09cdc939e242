// SPDX-License-Identifier: MIT
//
// The host's side of the ways that vgpu is compared with. No GPU and no mediator behind them: they
// answer at once, so what is measured is the way alone, to the advantage of these.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace vgpu::bench {

// The old file protocol as the old system's mediator spoke it: looks into every vmN of `directory`
// each `interval`, computes the sum itself, writes it into response.txt and clears request.txt
// before that. What is no request is cleared and not answered.
class FileServer {
  public:
    explicit FileServer(std::string directory) : directory_(std::move(directory)) {}

    // One look at every VM. Returns the number of requests that were answered. Throws
    // std::system_error if the directory cannot be read.
    std::size_t look() const;
    // Until SIGTERM or SIGINT.
    [[noreturn]] void serve(std::chrono::milliseconds interval) const;

  private:
    std::string directory_;
};

// The line of an answer to the line of a request, "pool:priority:vm:a:b"; empty if it is none.
std::string answer_line(const std::string& request);

// Sends back what comes, on every connection, one after the other, until the process is ended.
// `port` of 0 means any. Prints "listening on PORT", or "listening on PATH". Throw
// std::system_error.
[[noreturn]] void serve_tcp_echo(std::uint16_t port);
[[noreturn]] void serve_unix_echo(const std::string& path);

}  // namespace vgpu::bench
