// SPDX-License-Identifier: MIT
//
// What the mediator sends on a worker's socket: wakes, of one byte, and regions, each with its
// descriptor. The one place that sends and receives descriptors.
#pragma once

#include <cstdint>

#include "base/fd.h"
#include "executor/operation.h"

namespace vgpu::worker {

// A region, on the socket with its descriptor: for the next Order::kAttach of this region.
struct RegionMessage {
    static constexpr std::uint32_t kMagic = 0x76475252;

    std::uint32_t magic;
    std::uint32_t reserved;
    RegionId region;
};

// Never wait. 0, or the errno. No room is no failure of a wake: enough are under way.
void send_wake(int socket);
int send_region(int socket, RegionId region, int fd);

struct Received {
    enum class Kind : std::uint8_t {
        kNothing,  // for now
        kEnd,      // the other side is gone
        kWake,
        kRegion,
        kNonsense,  // what the mediator does not send; its descriptors have been closed
    };
    Kind kind = Kind::kNothing;
    RegionId region = 0;  // kRegion
    Fd fd;                // kRegion; close-on-exec; empty if no descriptor was free for it
};

// The next message. Never waits.
Received receive(int socket);

}  // namespace vgpu::worker
