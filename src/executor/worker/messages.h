// SPDX-License-Identifier: MIT
//
// Messages that the mediator sends on a worker's socket: one-byte wake-ups, and regions, each with
// its descriptor. The only code that sends and receives descriptors.
#pragma once

#include <cstdint>

#include "base/fd.h"
#include "executor/job.h"

namespace vgpu::worker {

// A region, sent with its descriptor. Consumed by the next Order::kAttach of this region.
struct RegionMessage {
    static constexpr std::uint32_t kMagic = 0x76475252;

    std::uint32_t magic;
    std::uint32_t reserved;
    RegionId region;
};

// Never block. send_region() returns 0 or errno. EAGAIN on a wake-up is ignored: one is pending.
void send_wake(int socket);
int send_region(int socket, RegionId region, int fd);

struct WorkerMessage {
    enum class Kind : std::uint8_t {
        kNothing,  // no message is pending
        kEnd,      // the peer has disconnected
        kWake,
        kRegion,
        kNonsense,  // an invalid message; its descriptors have been closed
    };
    Kind kind = Kind::kNothing;
    RegionId region = 0;  // kRegion
    Fd fd;                // kRegion; close-on-exec; empty if the descriptor limit was reached
};

// Returns the next message. Never blocks.
WorkerMessage receive(int socket);

}  // namespace vgpu::worker
