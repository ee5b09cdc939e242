// SPDX-License-Identifier: MIT
//
// Hellos: connections of one thread that pass descriptors in handshakes as fast as the mediator
// reads them. No handshake succeeds: it announces more queues than there may be.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "support/memory_peer.h"

namespace vgpu::attack {

// Connects without waiting; the socket is non-blocking. Returns an empty Fd if the mediator's
// backlog is full or it does not listen any more. Throws std::system_error if there is no socket.
Fd try_connect(const std::string& path);

class Hellos {
  public:
    struct Options {
        std::size_t connections = 4;
        std::uint32_t queue_count = UINT32_MAX;  // that each HELLO announces
        std::chrono::milliseconds pause{0};      // from one connection to the next in its place
    };

    Hellos(std::string socket, const Options& options);

    // Sends what the connections take now, and reopens those that are closed or have their
    // rejection, each time under a new VM id. Returns the number of messages sent. Throws
    // std::system_error.
    std::uint64_t step();

  private:
    using Clock = std::chrono::steady_clock;

    struct Peer {
        test::WirePeer wire = test::WirePeer::adopt(Fd());
        std::uint32_t queues_sent = 0;
        bool hello_sent = false;
        Clock::time_point reopen_at;
    };

    // Returns false if there is no connection yet.
    bool open(Peer& peer);
    bool send_next(Peer& peer) const;
    std::uint64_t send_some(Peer& peer) const;

    std::string socket_;
    Options options_;
    test::MemoryPeer model_;  // of the memory and the descriptors that all of them offer
    std::vector<Peer> peers_;
    std::uint32_t next_vm_;
};

}  // namespace vgpu::attack
