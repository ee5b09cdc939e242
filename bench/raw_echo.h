// SPDX-License-Identifier: MIT
//
// RawEcho: the baseline of every figure of the socket path. A second process only answers
// messages of one size with messages of another over Unix stream sockets and blocks in between.
// Nothing that uses such a socket can be faster on the same machine.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <vector>

#include "base/fd.h"

namespace vgpu::bench {

class RawEcho {
  public:
    // Forks a process that serves `connections` sockets: it answers each `request_size` bytes with
    // `reply_size` bytes. It blocks in recv(2) with one connection and in epoll_wait(2) with more.
    // It ends when this object is destroyed or when this process ends. Sizes: 1 to 4096 bytes.
    // Throws std::system_error if the system is out of processes or descriptors.
    RawEcho(std::size_t request_size, std::size_t reply_size, std::size_t connections = 1);
    RawEcho(const RawEcho&) = delete;
    RawEcho& operator=(const RawEcho&) = delete;
    ~RawEcho();

    // This process's end of a connection; borrowed.
    [[nodiscard]] int fd(std::size_t connection = 0) const { return ends_.at(connection).get(); }
    [[nodiscard]] pid_t pid() const { return pid_; }
    [[nodiscard]] std::size_t request_size() const { return request_size_; }
    [[nodiscard]] std::size_t reply_size() const { return reply_size_; }

    // One message and its reply on a connection. Throws std::system_error on failure.
    void round_trip(std::size_t connection = 0);

  private:
    std::size_t request_size_;
    std::size_t reply_size_;
    std::vector<Fd> ends_;
    pid_t pid_ = -1;
};

}  // namespace vgpu::bench
