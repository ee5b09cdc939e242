// SPDX-License-Identifier: MIT
#include "ipc/message.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace vgpu {
namespace {

std::uint32_t word_at(const std::byte* at) {
    std::uint32_t value = 0;
    std::memcpy(&value, at, sizeof value);
    return value;
}

}  // namespace

std::string_view describe(Violation violation) {
    switch (violation) {
        case Violation::kBadMagic:
            return "wrong magic number in a message header";
        case Violation::kUnknownType:
            return "unknown message type";
        case Violation::kPayloadTooLong:
            return "payload over the limit of 1024 bytes";
        case Violation::kUnexpectedPayload:
            return "payload in a PING or PONG";
    }
    return "unknown violation";
}

std::size_t MessageReader::feed(std::span<const std::byte> bytes) {
    const std::span<std::byte> room = prepare();
    const std::size_t count = std::min(room.size(), bytes.size());
    if (count != 0) {
        std::memcpy(room.data(), bytes.data(), count);
        commit(count);
    }
    return count;
}

std::span<std::byte> MessageReader::prepare() {
    if (begin_ == end_) {
        begin_ = end_ = 0;
    } else if (begin_ > 0) {
        std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
    }
    return std::span(buffer_).subspan(end_);
}

void MessageReader::commit(std::size_t count) {
    assert(count <= buffer_.size() - end_);
    end_ += count;
}

std::variant<MessageView, NeedMore, Violation> MessageReader::next() {
    const std::byte* const start = buffer_.data() + begin_;
    const std::size_t available = end_ - begin_;
    if (available >= offsetof(vgpu_msg_header, msg_type) &&
        word_at(start + offsetof(vgpu_msg_header, magic)) != VGPU_MSG_MAGIC) {
        return Violation::kBadMagic;
    }
    if (available >= offsetof(vgpu_msg_header, vm_id)) {
        const std::uint32_t type = word_at(start + offsetof(vgpu_msg_header, msg_type));
        const bool version_1 = type >= VGPU_MSG_REQUEST && type <= VGPU_MSG_QUARANTINED;
        if (!version_1 && (type < VGPU_MSG_HELLO || type > VGPU_MSG_SHM_RESET_DONE)) {
            return Violation::kUnknownType;
        }
    }
    if (available < sizeof(vgpu_msg_header)) {
        return NeedMore{};
    }
    MessageView message{};
    std::memcpy(&message.header, start, sizeof message.header);
    const std::size_t length = message.header.payload_len;
    if (length > VGPU_MSG_MAX_PAYLOAD) {
        return Violation::kPayloadTooLong;
    }
    const std::uint32_t type = message.header.msg_type;
    if (length != 0 && (type == VGPU_MSG_PING || type == VGPU_MSG_PONG)) {
        return Violation::kUnexpectedPayload;
    }
    if (available - sizeof message.header < length) {
        return NeedMore{};
    }
    message.payload = {start + sizeof message.header, length};
    begin_ += sizeof message.header + length;
    return message;
}

std::size_t MessageReader::missing() const {
    const std::size_t available = end_ - begin_;
    vgpu_msg_header header{};
    if (available < sizeof header) {
        return sizeof header - available;
    }
    std::memcpy(&header, buffer_.data() + begin_, sizeof header);
    return sizeof header + header.payload_len - available;
}

void append_message(std::vector<std::byte>& out, vgpu_msg_header header,
                    std::span<const std::span<const std::byte>> pieces) {
    std::size_t length = 0;
    for (const auto& piece : pieces) {
        length += piece.size();
    }
    assert(length <= VGPU_MSG_MAX_PAYLOAD);
    header.payload_len = static_cast<std::uint16_t>(length);
    const auto bytes = std::as_bytes(std::span(&header, 1));
    out.insert(out.end(), bytes.begin(), bytes.end());
    for (const auto& piece : pieces) {
        out.insert(out.end(), piece.begin(), piece.end());
    }
}

}  // namespace vgpu
