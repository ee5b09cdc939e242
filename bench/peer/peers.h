// SPDX-License-Identifier: MIT
//
// Host side of the transports that vgpu is compared with. They reply at once, without GPU or
// mediator, so that only the transport is measured, which favours them over vgpu.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace vgpu::bench {

// Server of the old file protocol, implemented like the mediator of the old system: scans every vmN
// of `directory` each `interval`, computes the sum itself, clears request.txt and then writes
// response.txt. Clears an invalid request without a response.
class FileServer {
  public:
    explicit FileServer(std::string directory) : directory_(std::move(directory)) {}

    // Scans every VM once. Returns the number of requests answered. Throws std::system_error if the
    // directory cannot be read.
    std::size_t poll() const;
    // Runs until SIGTERM or SIGINT.
    [[noreturn]] void serve(std::chrono::milliseconds interval) const;

  private:
    std::string directory_;
};

// Returns the response line to a request line, "pool:priority:vm:a:b"; empty if that is invalid.
std::string answer_line(const std::string& request);

// Echo all data, one connection at a time, until the process is terminated. `port` 0 selects any
// free port. Print "listening on PORT" or "listening on PATH". Throw std::system_error.
[[noreturn]] void serve_tcp_echo(std::uint16_t port);
[[noreturn]] void serve_unix_echo(const std::string& path);

}  // namespace vgpu::bench
