// SPDX-License-Identifier: MIT
#include "ipc/message.h"

#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <string>

namespace vgpu {
namespace {

using Bytes = std::vector<std::byte>;

vgpu_msg_header header_of(std::uint32_t type, std::uint32_t request_id = 7) {
    vgpu_msg_header header{};
    header.magic = VGPU_MSG_MAGIC;
    header.msg_type = type;
    header.vm_id = 3;
    header.request_id = request_id;
    header.pool_id = 'A';
    header.priority = 1;
    return header;
}

Bytes message_of(std::uint32_t type, const std::string& payload, std::uint32_t request_id = 7) {
    Bytes bytes;
    const std::array pieces{std::as_bytes(std::span(payload))};
    append_message(bytes, header_of(type, request_id), pieces);
    return bytes;
}

// A header with an arbitrary payload_len.
Bytes lying_header(vgpu_msg_header header, std::uint16_t payload_len) {
    header.payload_len = payload_len;
    const auto bytes = std::as_bytes(std::span(&header, 1));
    return {bytes.begin(), bytes.end()};
}

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::optional<Violation> violation_in(const Bytes& bytes) {
    MessageReader reader;
    EXPECT_EQ(reader.feed(bytes), bytes.size());
    const auto step = reader.next();
    const auto* const violation = std::get_if<Violation>(&step);
    return violation == nullptr ? std::nullopt : std::optional(*violation);
}

TEST(MessageReader, GivesAMessageFedAtOnce) {
    MessageReader reader;
    reader.feed(message_of(VGPU_MSG_REQUEST, "hello", 42));
    const auto step = reader.next();
    const auto& message = std::get<MessageView>(step);
    EXPECT_EQ(message.header.request_id, 42U);
    EXPECT_EQ(message.header.vm_id, 3U);
    EXPECT_EQ(message.header.pool_id, 'A');
    EXPECT_EQ(text_of(message.payload), "hello");
    EXPECT_TRUE(std::holds_alternative<NeedMore>(reader.next()));
    EXPECT_FALSE(reader.partial());
}

TEST(MessageReader, GivesAMessageFedByteByByte) {
    MessageReader reader;
    const Bytes bytes = message_of(VGPU_MSG_RESPONSE, "slow");
    for (std::size_t i = 0; i + 1 < bytes.size(); ++i) {
        reader.feed(std::span(bytes).subspan(i, 1));
        ASSERT_TRUE(std::holds_alternative<NeedMore>(reader.next())) << "after byte " << i;
        ASSERT_TRUE(reader.partial());
    }
    reader.feed(std::span(bytes).last(1));
    EXPECT_EQ(text_of(std::get<MessageView>(reader.next()).payload), "slow");
}

TEST(MessageReader, GivesManyMessagesInOrderAcrossItsWholeBuffer) {
    MessageReader reader;
    Bytes stream;
    for (std::uint32_t id = 0; id < 100; ++id) {
        const Bytes one =
            message_of(VGPU_MSG_REQUEST,
                       std::string(std::size_t{id} * 10, static_cast<char>('a' + id % 26)), id);
        stream.insert(stream.end(), one.begin(), one.end());
    }
    std::span<const std::byte> left(stream);
    std::uint32_t expected = 0;
    while (expected < 100) {
        left = left.subspan(reader.feed(left));
        for (;;) {
            const auto step = reader.next();
            const auto* const message = std::get_if<MessageView>(&step);
            if (message == nullptr) {
                ASSERT_TRUE(std::holds_alternative<NeedMore>(step));
                ASSERT_FALSE(reader.prepare().empty());
                break;
            }
            ASSERT_EQ(message->header.request_id, expected);
            ASSERT_EQ(message->payload.size(), std::size_t{expected} * 10);
            ++expected;
        }
    }
    EXPECT_TRUE(left.empty());
}

TEST(MessageReader, LacksNoByteOfTheMessageAfterTheNext) {
    Bytes bytes = message_of(VGPU_MSG_REQUEST, "first");
    const std::size_t first = bytes.size();
    const Bytes second = message_of(VGPU_MSG_PING, "");
    bytes.insert(bytes.end(), second.begin(), second.end());
    MessageReader reader;
    std::size_t fed = 0;
    while (std::holds_alternative<NeedMore>(reader.next())) {
        ASSERT_LE(fed + reader.missing(), first);
        fed += reader.feed(std::span(bytes).subspan(fed, reader.missing()));
    }
    EXPECT_EQ(fed, first);
    EXPECT_FALSE(reader.partial());
}

TEST(MessageReader, TakesTheLargestPayload) {
    MessageReader reader;
    reader.feed(message_of(VGPU_MSG_REQUEST, std::string(VGPU_MSG_MAX_PAYLOAD, 'x')));
    EXPECT_EQ(std::get<MessageView>(reader.next()).payload.size(), VGPU_MSG_MAX_PAYLOAD);
}

TEST(MessageReader, NamesAWrongMagicAsSoonAsItIsThere) {
    Bytes bytes = message_of(VGPU_MSG_REQUEST, "");
    bytes[0] ^= std::byte{1};
    EXPECT_EQ(violation_in(bytes), Violation::kBadMagic);
    bytes.resize(4);
    EXPECT_EQ(violation_in(bytes), Violation::kBadMagic);
    bytes.resize(3);
    EXPECT_EQ(violation_in(bytes), std::nullopt);
}

TEST(MessageReader, NamesAnUnknownType) {
    EXPECT_EQ(violation_in(lying_header(header_of(0), 0)), Violation::kUnknownType);
    EXPECT_EQ(violation_in(lying_header(header_of(7), 0)), Violation::kUnknownType);
    EXPECT_EQ(violation_in(lying_header(header_of(VGPU_MSG_EXTENSION_FIRST - 1), 0)),
              Violation::kUnknownType);
    EXPECT_EQ(violation_in(lying_header(header_of(VGPU_MSG_SHM_RESET_DONE + 1), 0)),
              Violation::kUnknownType);
}

TEST(MessageReader, NamesAPayloadOverTheLimitFromTheHeaderAlone) {
    EXPECT_EQ(violation_in(lying_header(header_of(VGPU_MSG_REQUEST), 1025)),
              Violation::kPayloadTooLong);
    EXPECT_EQ(violation_in(lying_header(header_of(VGPU_MSG_REQUEST), 65535)),
              Violation::kPayloadTooLong);
    EXPECT_EQ(violation_in(lying_header(header_of(VGPU_MSG_REQUEST), 1024)), std::nullopt);
}

TEST(MessageReader, NamesAPingWithAPayload) {
    EXPECT_EQ(violation_in(message_of(VGPU_MSG_PING, "x")), Violation::kUnexpectedPayload);
    EXPECT_EQ(violation_in(message_of(VGPU_MSG_PING, "")), std::nullopt);
}

TEST(MessageReader, StaysAtAViolation) {
    MessageReader reader;
    reader.feed(lying_header(header_of(99), 0));
    EXPECT_TRUE(std::holds_alternative<Violation>(reader.next()));
    reader.feed(message_of(VGPU_MSG_REQUEST, "good"));
    EXPECT_TRUE(std::holds_alternative<Violation>(reader.next()));
}

}  // namespace
}  // namespace vgpu
