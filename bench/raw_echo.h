// SPDX-License-Identifier: MIT
//
// RawEcho: the floor under every figure of the socket path. A second process that does nothing but
// answer messages of one size with messages of another over Unix stream sockets, asleep in between.
// Whatever goes through such a socket cannot be faster than this on the same machine.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <vector>

#include "base/fd.h"

namespace vgpu::bench {

class RawEcho {
  public:
    // Forks a process that answers on `connections` sockets: each `request_size` bytes get
    // `reply_size` bytes back. With one connection the process sleeps in recv(2), with more in
    // epoll_wait(2). It ends when this object goes, or with this process. Sizes: 1 to 4096 bytes.
    // Throws std::system_error if there are no more processes or descriptors.
    RawEcho(std::size_t request_size, std::size_t reply_size, std::size_t connections = 1);
    RawEcho(const RawEcho&) = delete;
    RawEcho& operator=(const RawEcho&) = delete;
    ~RawEcho();

    // Our end of a connection; borrowed.
    [[nodiscard]] int fd(std::size_t connection = 0) const { return ends_.at(connection).get(); }
    [[nodiscard]] pid_t pid() const { return pid_; }
    [[nodiscard]] std::size_t request_size() const { return request_size_; }
    [[nodiscard]] std::size_t reply_size() const { return reply_size_; }

    // One message there and back on a connection. Throws std::system_error if it fails.
    void round_trip(std::size_t connection = 0);

  private:
    std::size_t request_size_;
    std::size_t reply_size_;
    std::vector<Fd> ends_;
    pid_t pid_ = -1;
};

}  // namespace vgpu::bench
