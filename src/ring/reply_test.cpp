// SPDX-License-Identifier: MIT
//
// Replies: the guest reads what the host wrote, and rejects an inconsistent reply.
#include "ring/reply.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "ring/testing/test_memory.h"

namespace vgpu::ring {
namespace {

class ReplyTest : public testing::Test {
  protected:
    ReplyTest() {
        command.cookie = 42;
        command.reply_offset = memory.layout().heap_offset + 8;
        command.reply_capacity = 64;
    }
    [[nodiscard]] std::span<std::byte> place() const {
        return {memory.base() + command.reply_offset, command.reply_capacity};
    }
    vgpu_queue_reply& header() { return *reinterpret_cast<vgpu_queue_reply*>(place().data()); }

    TestMemory memory;
    vgpu_record command{};
    std::array<std::uint32_t, 2> results{300, 7};
    std::string_view text = "a device";
};

TEST_F(ReplyTest, IsReadAsItWasWritten) {
    ASSERT_TRUE(write_reply(memory.base(), command, VGPU_ERR_NONE, 12, results,
                            std::as_bytes(std::span(text))));
    const auto reply = read_reply(place());
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->header.cookie, 42U);
    EXPECT_EQ(reply->header.status, VGPU_ERR_NONE);
    EXPECT_EQ(reply->header.exec_time_us, 12U);
    EXPECT_EQ(reply->header.size, 32U + 8 + 8);
    ASSERT_EQ(reply->header.result_count, 2U);
    EXPECT_EQ(reply->result(0), 300U);
    EXPECT_EQ(reply->result(1), 7U);
    EXPECT_TRUE(std::ranges::equal(reply->data, std::as_bytes(std::span(text))));
}

TEST_F(ReplyTest, FitsToTheLastByteAndNotBeyond) {
    command.reply_capacity = 48;
    memory.base()[command.reply_offset + 48] = std::byte{0xAA};
    ASSERT_TRUE(write_reply(memory.base(), command, 0, 0, results, std::as_bytes(std::span(text))));
    EXPECT_TRUE(read_reply(place()));
    EXPECT_EQ(memory.base()[command.reply_offset + 48], std::byte{0xAA});

    command.reply_capacity = 47;
    header() = {};
    EXPECT_FALSE(
        write_reply(memory.base(), command, 0, 0, results, std::as_bytes(std::span(text))));
    EXPECT_EQ(header().size, 0U) << "something was written all the same";
    EXPECT_FALSE(read_reply(place())) << "what was never written is no reply";

    command.reply_capacity = 32;
    EXPECT_TRUE(write_reply(memory.base(), command, VGPU_ERR_CUDA, 0, {}, {}));
    EXPECT_EQ(read_reply(place())->header.status, VGPU_ERR_CUDA);
}

TEST_F(ReplyTest, CommandThatWantsNoneGetsNone) {
    command.reply_offset = 0;
    command.reply_capacity = 0;
    const vgpu_shm_header before = *reinterpret_cast<vgpu_shm_header*>(memory.base());
    EXPECT_TRUE(write_reply(memory.base(), command, 0, 0, results, {}));
    EXPECT_EQ(std::memcmp(&before, memory.base(), sizeof before), 0);
}

TEST_F(ReplyTest, ContradictionIsNoReply) {
    ASSERT_TRUE(write_reply(memory.base(), command, 0, 0, results, {}));
    const vgpu_queue_reply right = header();
    ASSERT_TRUE(read_reply(place()));
    EXPECT_FALSE(read_reply(place().first(39))) << "larger than its place";
    EXPECT_FALSE(read_reply(place().first(31))) << "a place without room for the header";
    EXPECT_FALSE(read_reply({}));
    for (const std::uint32_t wrong :
         {std::uint32_t{0}, std::uint32_t{39}, std::uint32_t{41}, std::uint32_t{0xFFFFFFFF}}) {
        header() = right;
        header().size = wrong;
        EXPECT_FALSE(read_reply(place())) << "size " << wrong;
        header() = right;
        header().result_count = wrong;
        EXPECT_FALSE(read_reply(place())) << "result_count " << wrong;
        if (wrong != 0) {
            header() = right;
            header().data_length = wrong;
            EXPECT_FALSE(read_reply(place())) << "data_length " << wrong;
        }
    }
    header() = right;
    header().result_count = 0x40000000;  // 4 * this is 0 in 32 bits
    header().size = 32;
    EXPECT_FALSE(read_reply(place())) << "a sum that wraps around";
}

}  // namespace
}  // namespace vgpu::ring
