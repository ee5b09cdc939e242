// SPDX-License-Identifier: MIT
//
// Framing of the stream between device and mediator: bytes in, messages out.
//
// MessageReader knows no socket; its caller feeds it bytes (tests/fuzz reaches it through a
// mediator's sockets). It looks at each header field as soon as its bytes are there and names what
// is wrong; it never allocates, never waits, and never hands out a byte that was not fed. After a
// violation the stream has lost its frame: the only right thing left is to close the connection.
//
//   feed() or prepare()/commit()            next()
//   bytes of any size  -------->  [ header | payload | header | pay… ]  -------->  MessageView
//                                                                                  NeedMore
//                                                                                  Violation
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "vgpu_protocol.h"

namespace vgpu {

// One message. `payload` lies in the reader's buffer: valid until the reader is used again.
struct MessageView {
    vgpu_msg_header header;
    std::span<const std::byte> payload;
};

struct NeedMore {};

// Why a stream of bytes is not a stream of messages.
enum class Violation : std::uint8_t {
    kBadMagic,
    kUnknownType,
    kPayloadTooLong,
    kUnexpectedPayload,  // PING or PONG with a payload
};

// A clause for the log, e.g. "wrong magic number".
std::string_view describe(Violation violation);

class MessageReader {
  public:
    // Adds bytes. Returns how many were taken: fewer than given only when the buffer is full, and
    // then next() yields something other than NeedMore.
    std::size_t feed(std::span<const std::byte> bytes);

    // The same without a copy: fill the front of prepare() and say how much with commit().
    // prepare() is never empty once next() has returned NeedMore.
    std::span<std::byte> prepare();
    // Precondition: count <= size of the span prepare() gave.
    void commit(std::size_t count);

    // The next message, or that more bytes are needed, or what is wrong with those that came.
    std::variant<MessageView, NeedMore, Violation> next();

    // A message has begun and is not complete.
    [[nodiscard]] bool partial() const { return begin_ != end_; }

  private:
    static constexpr std::size_t kCapacity =
        4 * (sizeof(vgpu_msg_header) + std::size_t{VGPU_MSG_MAX_PAYLOAD});

    std::array<std::byte, kCapacity> buffer_;
    std::size_t begin_ = 0;  // first byte not yet handed out
    std::size_t end_ = 0;    // one past the last byte fed
};

// Appends header and payload (given in pieces) to `out`; payload_len is set here.
// Precondition: the pieces are at most VGPU_MSG_MAX_PAYLOAD bytes together.
void append_message(std::vector<std::byte>& out, vgpu_msg_header header,
                    std::span<const std::span<const std::byte>> pieces);

}  // namespace vgpu
