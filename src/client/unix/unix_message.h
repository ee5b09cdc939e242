// SPDX-License-Identifier: MIT
//
// Messages of section 8 of docs/protocol.md over a socket, for a process of the host: sending one
// whole, with descriptors where it has some, and cutting those that come out of the stream. A
// mediator that breaks the frame is not listened to any longer.
#pragma once

#include <time.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "client/core/transport.h"
#include "vgpu_protocol.h"

namespace vgpu::client {

// The time of a deadline of this file: the monotonic clock's.
Nanoseconds steady_now();
// Never less than nothing, and at most a day.
timespec to_timespec(Nanoseconds time);

// Sends header and payload, whose length is set here; the descriptors go with the first byte. False
// if the peer is gone or does not take it in time. At most VGPU_MSG_MAX_PAYLOAD bytes and 2
// descriptors.
bool send_message(int socket, vgpu_msg_header header, std::span<const std::byte> payload,
                  std::span<const int> descriptors, Nanoseconds deadline);

enum class Received : std::uint8_t {
    kMessage,
    kNothing,  // none by the deadline; what has come of it is kept
    kEnded,    // the peer has closed
    kBroken,   // the stream is no stream of messages
};

// `payload` is valid until the next receive().
struct ReceivedMessage {
    Received what = Received::kNothing;
    vgpu_msg_header header{};
    std::span<const std::byte> payload;
};

// What has come on one connection and is no whole message yet.
class MessageInbox {
  public:
    // A deadline in the past looks once.
    ReceivedMessage receive(int socket, Nanoseconds deadline);

  private:
    std::array<std::byte, sizeof(vgpu_msg_header) + VGPU_MSG_MAX_PAYLOAD> bytes_{};
    std::size_t have_ = 0;
};

}  // namespace vgpu::client
