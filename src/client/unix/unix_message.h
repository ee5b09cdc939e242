// SPDX-License-Identifier: MIT
//
// Sends and receives the messages of section 8 of docs/protocol.md over a socket, with file
// descriptors. A framing error ends the connection.
#pragma once

#include <time.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "client/core/transport.h"
#include "ipc/message.h"
#include "vgpu_protocol.h"

namespace vgpu::client {

// Returns the monotonic time, to which the deadlines of this file refer.
Nanoseconds steady_now();
// Clamps to the range from 0 to one day.
timespec to_timespec(Nanoseconds time);

// Sends header, payload (at most VGPU_MSG_MAX_PAYLOAD bytes) and descriptors (at most 2, with the
// first byte), and sets payload_len. Returns false if the peer disconnected, or at the deadline.
bool send_message(int socket, vgpu_msg_header header, std::span<const std::byte> payload,
                  std::span<const int> descriptors, Nanoseconds deadline);

enum class Received : std::uint8_t {
    kMessage,
    kNothing,  // no complete message by the deadline; a partial one is kept
    kEnded,    // the peer disconnected
    kBroken,   // framing error
};

// `payload` is valid until the next receive().
struct ReceivedMessage {
    Received what = Received::kNothing;
    vgpu_msg_header header{};
    std::span<const std::byte> payload;
};

// Reassembles the messages of one connection.
class MessageInbox {
  public:
    // Polls once if the deadline has passed.
    ReceivedMessage receive(int socket, Nanoseconds deadline);

  private:
    MessageReader reader_;
};

}  // namespace vgpu::client
