// SPDX-License-Identifier: MIT
#include "ipc/request.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <functional>

#include "ipc/message.h"

namespace vgpu {
namespace {

using Bytes = std::vector<std::byte>;

// A request of `size` bytes in total, customised by `change`.
Bytes request_of(std::size_t size, const std::function<void(vgpu_request&)>& change) {
    vgpu_request fixed{};
    fixed.version = VGPU_PROTOCOL_VERSION;
    change(fixed);
    Bytes bytes(size, std::byte{0xEE});
    std::memcpy(bytes.data(), &fixed, std::min(size, sizeof fixed));
    return bytes;
}

std::uint32_t code_of(const Bytes& bytes) {
    const auto decoded = decode_request(bytes);
    if (decoded) {
        return VGPU_ERR_NONE;
    }
    EXPECT_FALSE(decoded.error().message.empty());
    return decoded.error().code;
}

TEST(DecodeRequest, GivesParamsAndData) {
    const Bytes bytes = request_of(48, [](auto& fixed) {
        fixed.param_count = 2;
        fixed.data_offset = 42;
        fixed.data_length = 6;
    });
    Bytes copy = bytes;
    const std::array<std::uint32_t, 2> params{11, 22};
    std::memcpy(copy.data() + 32, params.data(), 8);
    const auto request = decode_request(copy);
    ASSERT_TRUE(request);
    EXPECT_EQ(request->param(0), 11U);
    EXPECT_EQ(request->param(1), 22U);
    EXPECT_EQ(request->data.data(), copy.data() + 42);
    EXPECT_EQ(request->data.size(), 6U);
}

TEST(DecodeRequest, AnEmptyRequestIsAnInvalidLength) {
    EXPECT_EQ(code_of({}), VGPU_ERR_INVALID_LENGTH);
}

TEST(DecodeRequest, AShortRequestIsInvalid) {
    for (std::size_t size = 1; size < sizeof(vgpu_request); ++size) {
        EXPECT_EQ(code_of(request_of(size, [](auto&) {})), VGPU_ERR_INVALID_REQUEST) << size;
    }
    EXPECT_EQ(code_of(request_of(32, [](auto&) {})), VGPU_ERR_NONE);
}

TEST(DecodeRequest, ChecksVersionReservedFieldsAndFlags) {
    EXPECT_EQ(code_of(request_of(32, [](auto& f) { f.version = 0x00020000; })),
              VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(code_of(request_of(32, [](auto& f) { f.version = 0; })), VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(code_of(request_of(32, [](auto& f) { f.reserved[0] = 1; })),
              VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(code_of(request_of(32, [](auto& f) { f.reserved[1] = 1; })),
              VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(code_of(request_of(32, [](auto& f) { f.flags = 4; })), VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(code_of(request_of(32, [](auto& f) { f.flags = VGPU_FLAGS_KNOWN; })), VGPU_ERR_NONE);
}

TEST(DecodeRequest, ParamsHaveToFitAlsoWhereTheProductWrapsAround) {
    EXPECT_EQ(code_of(request_of(40, [](auto& f) { f.param_count = 2; })), VGPU_ERR_NONE);
    EXPECT_EQ(code_of(request_of(40, [](auto& f) { f.param_count = 3; })),
              VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(code_of(request_of(40, [](auto& f) { f.param_count = 0x40000000; })),
              VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(code_of(request_of(40, [](auto& f) { f.param_count = 0xFFFFFFFF; })),
              VGPU_ERR_INVALID_REQUEST);
}

TEST(DecodeRequest, DataHasToLieBehindTheParamsAndWithinTheRequest) {
    const auto code = [](std::uint32_t offset, std::uint32_t length) {
        return code_of(request_of(64, [&](auto& f) {
            f.param_count = 2;
            f.data_offset = offset;
            f.data_length = length;
        }));
    };
    EXPECT_EQ(code(40, 24), VGPU_ERR_NONE);
    EXPECT_EQ(code(40, 8), VGPU_ERR_NONE);  // trailing bytes are allowed
    EXPECT_EQ(code(40, 25), VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(code(39, 1), VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(code(0, 1), VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(code(64, 1), VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(code(0xFFFFFFFF, 2), VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(code(40, 0xFFFFFFF0), VGPU_ERR_INVALID_REQUEST);
}

TEST(DecodeRequest, WithoutDataItsOffsetHasNoMeaning) {
    for (const std::uint32_t offset : {0U, 31U, 32U, 39U, 40U, 64U, 65U, 0xFFFFFFFFU}) {
        const Bytes bytes = request_of(40, [&](auto& f) {
            f.param_count = 2;
            f.data_offset = offset;
        });
        EXPECT_EQ(code_of(bytes), VGPU_ERR_NONE) << offset;
        const auto request = decode_request(bytes);
        ASSERT_TRUE(request) << offset;
        EXPECT_TRUE(request->data.empty());
        EXPECT_EQ(request->params.size(), 8U);
    }
}

MessageView only_message(MessageReader& reader, const Bytes& bytes) {
    EXPECT_EQ(reader.feed(bytes), bytes.size());
    return std::get<MessageView>(reader.next());
}

TEST(AppendResponse, EchoesTheIdsAndPlacesResultsBeforeData) {
    vgpu_msg_header request{};
    request.magic = VGPU_MSG_MAGIC;
    request.msg_type = VGPU_MSG_REQUEST;
    request.vm_id = 5;
    request.request_id = 6;
    request.pool_id = 'B';
    request.priority = 2;
    Bytes bytes;
    append_response(bytes, request, 0, std::array<std::uint32_t, 2>{8, 9}, "name", 17);
    MessageReader reader;
    const MessageView message = only_message(reader, bytes);
    EXPECT_EQ(message.header.msg_type, VGPU_MSG_RESPONSE);
    EXPECT_EQ(message.header.vm_id, 5U);
    EXPECT_EQ(message.header.request_id, 6U);
    EXPECT_EQ(message.header.pool_id, 'B');
    EXPECT_EQ(message.header.priority, 2);
    ASSERT_EQ(message.payload.size(), 32U + 8 + 4);
    vgpu_response fixed{};
    std::memcpy(&fixed, message.payload.data(), sizeof fixed);
    EXPECT_EQ(fixed.version, VGPU_PROTOCOL_VERSION);
    EXPECT_EQ(fixed.result_count, 2U);
    EXPECT_EQ(fixed.data_offset, 40U);
    EXPECT_EQ(fixed.data_length, 4U);
    EXPECT_EQ(fixed.exec_time_us, 17U);
    EXPECT_EQ(std::memcmp(message.payload.data() + 40, "name", 4), 0);
}

TEST(AppendResponse, CutsDataThatDoesNotFitBetweenCharacters) {
    vgpu_msg_header request{};
    request.magic = VGPU_MSG_MAGIC;
    // 32 + 991 bytes would end within the two bytes of the last character.
    const std::string text = std::string(991, 'x') + "\xC3\xA4 and more";
    Bytes bytes;
    append_response(bytes, request, 1, {}, text, 0);
    MessageReader reader;
    const MessageView message = only_message(reader, bytes);
    EXPECT_EQ(message.payload.size(), 32U + 991);
}

}  // namespace
}  // namespace vgpu
