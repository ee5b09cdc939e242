// SPDX-License-Identifier: MIT
//
// Framing of the stream between device and mediator: bytes in, messages out.
//
// MessageReader does no I/O; its caller feeds it bytes (tests/fuzz reaches it through a mediator's
// sockets). It checks each header field as soon as its bytes are available and names the violation;
// it never allocates, never blocks, and never returns a byte that was not fed. After a violation
// framing is lost: the connection must be closed.
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

// One message. `payload` points into the reader's buffer: valid until the reader is used again.
struct MessageView {
    vgpu_msg_header header;
    std::span<const std::byte> payload;
};

struct NeedMore {};

// Why a byte stream is not a message stream.
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
    // Adds bytes. Returns how many were consumed: fewer than given only if the buffer is full, and
    // then next() returns something other than NeedMore.
    std::size_t feed(std::span<const std::byte> bytes);

    // Same without a copy: fill the front of prepare() and pass the number of bytes to commit().
    // prepare() is never empty once next() has returned NeedMore.
    std::span<std::byte> prepare();
    // Precondition: count <= size of the span that prepare() returned.
    void commit(std::size_t count);

    // Returns the next message, NeedMore if more bytes are needed, or the violation found.
    std::variant<MessageView, NeedMore, Violation> next();

    // Returns how many bytes the next message lacks, or its header if that is not complete: a
    // caller that feeds no more leaves what follows to another reader. Precondition: next() has
    // returned NeedMore.
    [[nodiscard]] std::size_t missing() const;

    // Returns whether a message has started but is not complete.
    [[nodiscard]] bool partial() const { return begin_ != end_; }

  private:
    static constexpr std::size_t kCapacity =
        4 * (sizeof(vgpu_msg_header) + std::size_t{VGPU_MSG_MAX_PAYLOAD});

    std::array<std::byte, kCapacity> buffer_;
    std::size_t begin_ = 0;  // first byte not yet returned
    std::size_t end_ = 0;    // one past the last byte fed
};

// Appends header and payload (given in pieces) to `out`; sets payload_len. Precondition: the pieces
// are at most VGPU_MSG_MAX_PAYLOAD bytes together.
void append_message(std::vector<std::byte>& out, vgpu_msg_header header,
                    std::span<const std::span<const std::byte>> pieces);

}  // namespace vgpu
