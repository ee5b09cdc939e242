// SPDX-License-Identifier: MIT
//
// Lingering: TCP sockets on this host whose last close(2) blocks for ten seconds, because they hold
// data that their peer never reads. The kernel waits in it even if the socket is non-blocking.
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

    // One more. Waits while as many as are allowed at a time may still block. Throws
    // std::system_error.
    Fd make();
    // Closes one without blocking.
    static void forget(Fd& fd);

  private:
    struct Peer {
        Fd fd;
        std::chrono::steady_clock::time_point made;
    };

    void drop_old_peers();

    Fd listener_;
    std::uint16_t port_ = 0;
    std::deque<Peer> peers_;  // that do not read, oldest first
};

// Closes in a thread of its own, because this may turn out to be the last close.
void close_elsewhere(Fd fd);

}  // namespace vgpu::attack
