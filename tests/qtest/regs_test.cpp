// SPDX-License-Identifier: MIT
//
// The register file and message framing, without QEMU: cases that are hard to trigger, or too slow
// to repeat, in a whole emulator.
#include "vgpu-regs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include "vgpu-wire.h"

namespace vgpu {
namespace {

using Bytes = std::vector<std::uint8_t>;

template <typename T>
Bytes bytes_of(const T& value) {
    const auto* const first = reinterpret_cast<const std::uint8_t*>(&value);
    return {first, first + sizeof value};
}

Bytes response(std::uint32_t status, std::size_t size = sizeof(vgpu_response)) {
    vgpu_response head{};
    head.version = VGPU_PROTOCOL_VERSION;
    head.status = status;
    Bytes bytes = bytes_of(head);
    bytes.resize(size, 0x77);
    return bytes;
}

class RegsTest : public testing::Test {
  protected:
    RegsTest() {
        vgpu_regs_init(&regs_, 'A', VGPU_PRIORITY_MEDIUM, 7);
        vgpu_regs_connected(&regs_);
    }
    std::uint32_t ring(std::uint32_t id, std::uint32_t length = 32) {
        write(VGPU_REG_REQUEST_ID, id);
        write(VGPU_REG_REQUEST_LEN, length);
        return write(VGPU_REG_DOORBELL, 1);
    }
    std::uint32_t write(std::uint64_t offset, std::uint64_t value, unsigned size = 4) {
        return vgpu_regs_write(&regs_, offset, value, size, now_);
    }
    std::uint64_t read(std::uint64_t offset, unsigned size = 4) {
        return vgpu_regs_read(&regs_, offset, size, &effect_);
    }
    vgpu_regs_verdict answer(std::uint32_t id, std::uint32_t status = 0) {
        const Bytes bytes = response(status);
        return vgpu_regs_answer(&regs_, id, bytes.data(), static_cast<std::uint32_t>(bytes.size()),
                                now_);
    }

    vgpu_regs regs_{};
    std::uint64_t now_ = 0x123456789ABCDEF0;
    std::uint32_t effect_ = 0;
};

TEST_F(RegsTest, DoorbellSaysWhatToDo) {
    EXPECT_EQ(ring(1), VGPU_REGS_SUBMIT);
    EXPECT_EQ(ring(2), 0U) << "busy";
    EXPECT_EQ(regs_.inflight_id, 1U);
    EXPECT_EQ(answer(1), VGPU_REGS_COMPLETED);
    EXPECT_EQ(ring(3, 0), VGPU_REGS_NOT_TAKEN | VGPU_REGS_IRQ_CHANGED);
}

TEST_F(RegsTest, RequestInFlightIsACopy) {
    write(VGPU_REQUEST_BUF, 0x1111111111111111, 8);
    ring(1, 8);
    write(VGPU_REQUEST_BUF, 0x2222222222222222, 8);
    write(VGPU_REG_REQUEST_LEN, 1024);
    write(VGPU_REG_REQUEST_ID, 99);
    EXPECT_EQ(regs_.inflight_len, 8U);
    EXPECT_EQ(regs_.inflight_id, 1U);
    EXPECT_EQ(Bytes(regs_.inflight, regs_.inflight + 8), Bytes(8, 0x11));
}

TEST_F(RegsTest, TimestampIsSplitOverTwoRegisters) {
    ring(1);
    answer(1);
    EXPECT_EQ(read(VGPU_REG_TIMESTAMP_LO), 0x9ABCDEF0U);
    EXPECT_EQ(read(VGPU_REG_TIMESTAMP_HI), 0x12345678U);
}

TEST_F(RegsTest, AcknowledgingReadIsReportedOnce) {
    ring(1);
    answer(1);
    read(VGPU_REG_RESPONSE_LEN);
    EXPECT_EQ(effect_, VGPU_REGS_ACKNOWLEDGED);
    read(VGPU_REG_RESPONSE_LEN);
    EXPECT_EQ(effect_, 0U);
}

TEST_F(RegsTest, AnswersOfImpossibleLengthChangeNothing) {
    ring(1);
    const Bytes bytes(VGPU_BUF_SIZE + 1);
    for (const std::uint32_t length : {0U, 31U, VGPU_BUF_SIZE + 1, 0xFFFFFFFFU}) {
        EXPECT_EQ(vgpu_regs_answer(&regs_, 1, bytes.data(), length, now_), VGPU_REGS_UNKNOWN);
        EXPECT_EQ(regs_.status, VGPU_STATUS_BUSY);
    }
}

TEST_F(RegsTest, ShortResponseLeavesTheRestOfTheBuffer) {
    ring(1);
    const Bytes full = response(0, VGPU_BUF_SIZE);
    vgpu_regs_answer(&regs_, 1, full.data(), VGPU_BUF_SIZE, now_);
    ring(2);
    answer(2);
    EXPECT_EQ(regs_.response_len, sizeof(vgpu_response));
    EXPECT_EQ(regs_.response[VGPU_BUF_SIZE - 1], 0x77);
}

TEST_F(RegsTest, AbandonedIdsAreCounted) {
    for (std::uint32_t i = 0; i < VGPU_REGS_MAX_ABANDONED; i++) {
        ring(i % 3);
        EXPECT_TRUE(vgpu_regs_timeout(&regs_, now_)) << i;
    }
    ring(1);
    EXPECT_FALSE(vgpu_regs_timeout(&regs_, now_)) << "no room: the connection must go";
    EXPECT_EQ(regs_.status, VGPU_STATUS_ERROR);
    EXPECT_EQ(regs_.error_code, VGPU_ERR_TIMEOUT);
    ring(1);
    for (std::uint32_t i = 0; i < VGPU_REGS_MAX_ABANDONED; i++) {
        EXPECT_EQ(answer(i % 3, 1), VGPU_REGS_LATE) << i;
    }
    EXPECT_EQ(answer(1), VGPU_REGS_COMPLETED);
    EXPECT_EQ(answer(1), VGPU_REGS_UNKNOWN);
}

TEST_F(RegsTest, ResetWhileTooMuchIsOwedAsksForANewConnection) {
    for (std::uint32_t i = 0; i < VGPU_REGS_MAX_ABANDONED; i++) {
        ring(i);
        EXPECT_TRUE(vgpu_regs_reset(&regs_));
    }
    EXPECT_TRUE(vgpu_regs_reset(&regs_)) << "nothing in flight, nothing to give up";
    ring(0);
    EXPECT_FALSE(vgpu_regs_reset(&regs_));
    EXPECT_EQ(regs_.status, VGPU_STATUS_IDLE);
    EXPECT_TRUE(regs_.link_up) << "only vgpu_regs_disconnected() takes the link down";
}

TEST_F(RegsTest, DisconnectionForgetsWhatWasOwed) {
    ring(1);
    vgpu_regs_timeout(&regs_, now_);
    EXPECT_FALSE(vgpu_regs_disconnected(&regs_, now_)) << "nothing was in flight";
    EXPECT_EQ(ring(1), VGPU_REGS_NOT_TAKEN | VGPU_REGS_IRQ_CHANGED);
    EXPECT_EQ(regs_.error_code, VGPU_ERR_MEDIATOR_UNAVAILABLE);
    vgpu_regs_connected(&regs_);
    ring(1);
    EXPECT_EQ(answer(1), VGPU_REGS_COMPLETED);
}

TEST_F(RegsTest, RequestWaitsForAConnectionWhereItMay) {
    regs_.wait_for_link = true;
    vgpu_regs_disconnected(&regs_, now_);
    EXPECT_EQ(ring(1), VGPU_REGS_SUBMIT);
    EXPECT_EQ(regs_.status, VGPU_STATUS_BUSY);
    EXPECT_TRUE(regs_.held);
    EXPECT_EQ(ring(2, 0), 0U) << "busy";
    EXPECT_EQ(answer(1), VGPU_REGS_UNKNOWN) << "nobody has seen it";
    vgpu_regs_connected(&regs_);
    EXPECT_TRUE(regs_.held) << "until the caller sends it";
    EXPECT_FALSE(vgpu_regs_disconnected(&regs_, now_)) << "it waits for the next";
    EXPECT_EQ(regs_.status, VGPU_STATUS_BUSY);
    EXPECT_TRUE(vgpu_regs_fail(&regs_, VGPU_ERR_MEDIATOR_UNAVAILABLE, now_));
    EXPECT_FALSE(regs_.held);
    // A request that was sent ends with its connection.
    vgpu_regs_connected(&regs_);
    EXPECT_EQ(ring(3), VGPU_REGS_SUBMIT);
    EXPECT_FALSE(regs_.held);
    EXPECT_TRUE(vgpu_regs_disconnected(&regs_, now_));
    EXPECT_EQ(regs_.error_code, VGPU_ERR_MEDIATOR_UNAVAILABLE);
    // Lengths are still validated.
    EXPECT_EQ(ring(4, 0), VGPU_REGS_NOT_TAKEN | VGPU_REGS_IRQ_CHANGED);
    EXPECT_EQ(regs_.error_code, VGPU_ERR_INVALID_LENGTH);
}

TEST_F(RegsTest, BasicDeviceNeverInterrupts) {
    vgpu_regs_init_basic(&regs_);
    EXPECT_EQ(read(VGPU_REG_CAPABILITIES), 1U);
    write(VGPU_REG_IRQ_CTRL, 1);
    ring(1);
    answer(1);
    EXPECT_EQ(read(VGPU_REG_IRQ_STATUS), 1U);
    EXPECT_FALSE(vgpu_regs_irq_level(&regs_));
    EXPECT_FALSE(vgpu_regs_take_notify(&regs_));
    EXPECT_TRUE(vgpu_regs_valid(&regs_) || regs_.status == VGPU_STATUS_BUSY);
}

TEST_F(RegsTest, NotificationIsTakenOnce) {
    write(VGPU_REG_IRQ_CTRL, 1);
    EXPECT_FALSE(vgpu_regs_take_notify(&regs_));
    ring(1);
    answer(1);
    EXPECT_TRUE(vgpu_regs_take_notify(&regs_));
    EXPECT_FALSE(vgpu_regs_take_notify(&regs_));
    EXPECT_TRUE(vgpu_regs_irq_level(&regs_));
}

TEST_F(RegsTest, SavedStateIsCheckedBeforeUse) {
    EXPECT_TRUE(vgpu_regs_valid(&regs_));
    const auto rejects = [this](auto change) {
        vgpu_regs changed = regs_;
        change(changed);
        return !vgpu_regs_valid(&changed);
    };
    EXPECT_TRUE(rejects([](vgpu_regs& r) { r.status = VGPU_STATUS_BUSY; }));
    EXPECT_TRUE(rejects([](vgpu_regs& r) { r.status = 4; }));
    EXPECT_TRUE(rejects([](vgpu_regs& r) { r.response_len = VGPU_BUF_SIZE + 1; }));
    EXPECT_TRUE(rejects([](vgpu_regs& r) { r.error_code = 0x100; }));
    EXPECT_TRUE(rejects([](vgpu_regs& r) { r.irq_ctrl = 2; }));
    EXPECT_TRUE(rejects([](vgpu_regs& r) { r.irq_status = 2; }));
    EXPECT_FALSE(rejects([](vgpu_regs& r) { r.request_len = 0xFFFFFFFF; }))
        << "a guest may write any length";
}

// The invariants hold whatever guest and mediator do, in any order. Run with sanitizers, this also
// tests that no access leaves the structure.
TEST_F(RegsTest, InvariantsHoldUnderRandomUse) {
    std::mt19937_64 random(20240229);  // NOLINT(cert-msc32-c,cert-msc51-cpp): a repeatable sequence
    const Bytes bytes = response(0, VGPU_BUF_SIZE);
    for (int i = 0; i < 300000; i++) {
        const std::uint64_t r = random();
        const std::uint64_t offset = r % (VGPU_BAR0_SIZE + 16);
        const unsigned size = 1U << (r >> 16 & 3);
        const auto id = static_cast<std::uint32_t>(r >> 20 & 3);
        const std::uint32_t before = regs_.status;
        switch (r >> 32 & 15) {
            case 0:
            case 1:
            case 2:
                read(offset, size);
                break;
            case 3:
            case 4:
                write(offset, random(), size);
                break;
            case 5:
            case 6:
                ring(id, static_cast<std::uint32_t>(r >> 40 & 0x7FF));
                break;
            case 7:
                answer(id, static_cast<std::uint32_t>(r >> 40 & 0x3FF));
                break;
            case 8:
                vgpu_regs_answer(&regs_, id, bytes.data(),
                                 static_cast<std::uint32_t>(r >> 40 & 0x7FF), now_);
                break;
            case 9:
                vgpu_regs_refused(&regs_, id, VGPU_ERR_RATE_LIMITED, now_);
                break;
            case 10:
                if (!vgpu_regs_timeout(&regs_, now_)) {
                    vgpu_regs_disconnected(&regs_, now_);
                }
                break;
            case 11:
                vgpu_regs_connected(&regs_);
                break;
            case 12:
                if ((r >> 60) == 0) {
                    vgpu_regs_disconnected(&regs_, now_);
                }
                break;
            case 13:
                if ((r >> 60) == 0) {
                    vgpu_regs_reset(&regs_);
                }
                break;
            default:
                read(VGPU_REG_ERROR_CODE);
                break;
        }
        ASSERT_LE(regs_.status, VGPU_STATUS_ERROR);
        ASSERT_LE(regs_.response_len, VGPU_BUF_SIZE);
        ASSERT_LE(regs_.error_code, 0xFFU);
        ASSERT_LE(regs_.abandoned_count, VGPU_REGS_MAX_ABANDONED);
        ASSERT_EQ(regs_.vm_id, 7U);
        if (regs_.status == VGPU_STATUS_BUSY) {
            ASSERT_TRUE(regs_.link_up);
            ASSERT_GE(regs_.inflight_len, 1U);
            ASSERT_LE(regs_.inflight_len, VGPU_BUF_SIZE);
        } else {
            ASSERT_TRUE(vgpu_regs_valid(&regs_));
        }
        if (regs_.status == VGPU_STATUS_DONE && before != VGPU_STATUS_DONE) {
            ASSERT_EQ(regs_.error_code, 0U);
            ASSERT_GE(regs_.response_len, sizeof(vgpu_response));
        }
        if (regs_.status == VGPU_STATUS_ERROR) {
            ASSERT_NE(regs_.error_code, 0U);
        }
    }
}

class WireTest : public testing::Test {
  protected:
    WireTest() { vgpu_wire_restart(&in_, 7, false); }
    static vgpu_msg_header header(std::uint32_t type, std::uint16_t length) {
        vgpu_msg_header h{};
        h.magic = VGPU_MSG_MAGIC;
        h.msg_type = type;
        h.vm_id = 7;
        h.request_id = 5;
        h.pool_id = 'A';
        h.priority = 1;
        h.payload_len = length;
        return h;
    }
    static Bytes message(std::uint32_t type, std::uint16_t length) {
        Bytes bytes = bytes_of(header(type, length));
        bytes.resize(bytes.size() + length, static_cast<std::uint8_t>(type));
        return bytes;
    }

    vgpu_wire_in in_{};
};

TEST_F(WireTest, StreamCutAnywhereGivesTheSameMessages) {
    Bytes stream;
    const std::array<std::pair<std::uint32_t, std::uint16_t>, 6> messages{
        {{VGPU_MSG_RESPONSE, 32},
         {VGPU_MSG_PING, 0},
         {VGPU_MSG_RESPONSE, 1024},
         {VGPU_MSG_BUSY, 0},
         {VGPU_MSG_QUARANTINED, 9},
         {VGPU_MSG_PONG, 0}}};
    for (const auto& [type, length] : messages) {
        const Bytes bytes = message(type, length);
        stream.insert(stream.end(), bytes.begin(), bytes.end());
    }
    for (std::size_t piece = 1; piece <= stream.size(); piece++) {
        std::size_t seen = 0;
        for (std::size_t at = 0; at < stream.size(); at += piece) {
            const std::uint8_t* data = stream.data() + at;
            std::size_t size = std::min(piece, stream.size() - at);
            for (;;) {
                vgpu_msg_header h{};
                const std::uint8_t* payload = nullptr;
                const char* reason = nullptr;
                const auto result = vgpu_wire_feed(&in_, &data, &size, &h, &payload, &reason);
                ASSERT_NE(result, VGPU_WIRE_BAD) << reason;
                if (result == VGPU_WIRE_MORE) {
                    break;
                }
                ASSERT_LT(seen, messages.size());
                EXPECT_EQ(h.msg_type, messages.at(seen).first);
                ASSERT_EQ(h.payload_len, messages.at(seen).second);
                EXPECT_TRUE(std::all_of(payload, payload + h.payload_len,
                                        [&](std::uint8_t b) { return b == h.msg_type; }));
                seen++;
            }
            ASSERT_EQ(size, 0U) << "all input is taken";
        }
        ASSERT_EQ(seen, messages.size()) << "in pieces of " << piece;
    }
}

TEST_F(WireTest, EveryHeaderIsJudged) {
    const auto accepted = [](const vgpu_msg_header& h) {
        return vgpu_wire_judge(&h, 7, false) == nullptr;
    };
    for (std::uint32_t type = 0; type < 0x40; type++) {
        for (std::uint32_t length = 0; length <= 0xFFFF; length += length < 1100 ? 1 : 997) {
            bool expected = false;
            if (type == VGPU_MSG_RESPONSE) {
                expected = length >= 32 && length <= 1024;
            } else if (type == VGPU_MSG_PING || type == VGPU_MSG_PONG) {
                expected = length == 0;
            } else if (type == VGPU_MSG_BUSY || type == VGPU_MSG_QUARANTINED) {
                expected = length <= 1024;
            }
            ASSERT_EQ(accepted(header(type, static_cast<std::uint16_t>(length))), expected)
                << type << ", " << length << " bytes";
        }
    }
    auto other = header(VGPU_MSG_PING, 0);
    other.magic++;
    EXPECT_FALSE(accepted(other));
    other = header(VGPU_MSG_PING, 0);
    other.vm_id = 8;
    EXPECT_FALSE(accepted(other));
}

}  // namespace
}  // namespace vgpu
