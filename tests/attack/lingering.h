// SPDX-License-Identifier: MIT
//
// Lingering: TCP sockets on this host whose last close(2) blocks for ten seconds, because their
// peer never reads the unsent data. The kernel blocks even if the socket is non-blocking.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>

#include "base/fd.h"

namespace vgpu::attack {

class Lingering {
  public:
    // Throws std::system_error.
    Lingering();

    // Creates another socket. Blocks while the maximum number of sockets may still block. Throws
    // std::system_error.
    Fd make();
    // Closes a socket without blocking.
    static void forget(Fd& fd);

  private:
    struct Peer {
        Fd fd;
        std::chrono::steady_clock::time_point made;
    };

    void drop_old_peers();

    Fd listener_;
    std::uint16_t port_ = 0;
    std::deque<Peer> peers_;  // not reading, oldest first
};

// Closes on a separate thread, because this may be the last close.
void close_elsewhere(Fd fd);

}  // namespace vgpu::attack
