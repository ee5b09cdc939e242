// SPDX-License-Identifier: MIT
//
// The registers of the fast path and the handshake's state machine, without QEMU.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>

#include "vgpu-hello.h"
#include "vgpu-regs.h"
#include "vgpu-wire.h"

namespace vgpu {
namespace {

class ShmRegsTest : public testing::Test {
  protected:
    explicit ShmRegsTest(std::uint32_t queues = 5) {
        vgpu_regs_init(&regs_, 'A', VGPU_PRIORITY_MEDIUM, 7);
        vgpu_regs_init_shm(&regs_, std::uint64_t{1} << 32, queues, 1 + queues);
        vgpu_regs_connected(&regs_);
    }
    std::uint32_t write(std::uint64_t offset, std::uint64_t value, unsigned size = 4) {
        return vgpu_regs_write(&regs_, offset, value, size, 1);
    }
    std::uint32_t read(std::uint64_t offset, unsigned size = 4) {
        return static_cast<std::uint32_t>(vgpu_regs_read(&regs_, offset, size, &effect_));
    }
    bool notified() { return vgpu_regs_take_notify(&regs_); }

    vgpu_regs regs_{};
    std::uint32_t effect_ = 0;
};

TEST_F(ShmRegsTest, ReadWhatTheDeviceIs) {
    EXPECT_EQ(read(VGPU_REG_SHM_SIZE_LO), 0U);
    EXPECT_EQ(read(VGPU_REG_SHM_SIZE_HI), 1U);
    EXPECT_EQ(read(VGPU_REG_QUEUE_COUNT), 5U);
    EXPECT_EQ(read(VGPU_REG_MSIX_VECTORS), 6U);
    EXPECT_EQ(read(VGPU_REG_CAPABILITIES), 0xFU);
    EXPECT_EQ(read(VGPU_REG_SHM_STATE), 0U);
    regs_.attached = true;
    EXPECT_EQ(read(VGPU_REG_SHM_STATE), VGPU_SHM_ATTACHED);
}

TEST_F(ShmRegsTest, EveryAccessDoesWhatItMay) {
    for (std::uint32_t offset = VGPU_RESERVED_BEGIN; offset < VGPU_BAR0_SIZE + 16; offset++) {
        for (const unsigned size : {1U, 2U, 4U, 8U}) {
            const bool wrong = size != 4 || offset % 4 != 0;
            const bool doorbell =
                offset >= VGPU_REG_QUEUE_DOORBELL && offset < VGPU_QUEUE_DOORBELL_END;
            const bool rings = doorbell && offset < VGPU_REG_QUEUE_DOORBELL + 4 * 5;
            std::uint32_t expected = 0;
            if (wrong || offset <= VGPU_REG_MSIX_VECTORS || (doorbell && !rings)) {
                expected = VGPU_REGS_GUEST_ERROR;
            } else if (rings) {
                expected = VGPU_REGS_QUEUE_RUNG;
                EXPECT_EQ(vgpu_regs_doorbell_queue(offset), (offset - VGPU_REG_QUEUE_DOORBELL) / 4);
            } else if (offset == VGPU_REG_QUEUE_IRQ_LO || offset == VGPU_REG_QUEUE_IRQ_HI) {
                expected = VGPU_REGS_IRQ_CHANGED;
            }
            ASSERT_EQ(write(offset, 0, size), expected) << offset << ", " << size;
            read(offset, size);
            ASSERT_EQ(effect_ == VGPU_REGS_GUEST_ERROR, wrong) << offset;
        }
    }
}

TEST_F(ShmRegsTest, MessagesAreDueAsOftenAsSomethingHappens) {
    vgpu_regs_queue_interrupt(&regs_, 0);
    vgpu_regs_shm_state_changed(&regs_);
    EXPECT_FALSE(notified()) << "not asked for";
    write(VGPU_REG_IRQ_CTRL, VGPU_IRQ_QUEUE);
    EXPECT_TRUE(notified()) << "waiting already";
    vgpu_regs_queue_interrupt(&regs_, 0);
    EXPECT_TRUE(notified());
    vgpu_regs_queue_interrupt(&regs_, 4);
    EXPECT_TRUE(notified());
    vgpu_regs_shm_state_changed(&regs_);
    EXPECT_FALSE(notified());
    write(VGPU_REG_IRQ_CTRL, 0xFFFFFFFF);
    EXPECT_EQ(read(VGPU_REG_IRQ_CTRL), 7U);
    EXPECT_FALSE(notified()) << "it was not 0 before";
    vgpu_regs_shm_state_changed(&regs_);
    EXPECT_TRUE(notified());
}

TEST_F(ShmRegsTest, LevelFollowsWhatIsSetAndAskedFor) {
    vgpu_regs_queue_interrupt(&regs_, 3);
    vgpu_regs_shm_state_changed(&regs_);
    EXPECT_EQ(read(VGPU_REG_IRQ_STATUS), VGPU_IRQ_QUEUE | VGPU_IRQ_SHM_STATE);
    EXPECT_FALSE(vgpu_regs_irq_level(&regs_));
    write(VGPU_REG_IRQ_CTRL, VGPU_IRQ_QUEUE);
    EXPECT_TRUE(vgpu_regs_irq_level(&regs_));
    write(VGPU_REG_QUEUE_IRQ_LO, 1U << 3);
    EXPECT_FALSE(vgpu_regs_irq_level(&regs_));
    EXPECT_EQ(read(VGPU_REG_IRQ_STATUS), VGPU_IRQ_SHM_STATE);
    write(VGPU_REG_IRQ_STATUS, VGPU_IRQ_SHM_STATE);
    EXPECT_EQ(read(VGPU_REG_IRQ_STATUS), 0U);
}

TEST_F(ShmRegsTest, ResetClearsWhatTheGuestSees) {
    regs_.attached = true;
    vgpu_regs_queue_interrupt(&regs_, 3);
    vgpu_regs_shm_state_changed(&regs_);
    write(VGPU_REG_IRQ_CTRL, 7);
    EXPECT_TRUE(vgpu_regs_reset(&regs_));
    for (const std::uint32_t offset :
         {VGPU_REG_IRQ_CTRL, VGPU_REG_IRQ_STATUS, VGPU_REG_QUEUE_IRQ_LO, VGPU_REG_SHM_STATE}) {
        EXPECT_EQ(read(offset), 0U);
    }
    EXPECT_EQ(read(VGPU_REG_QUEUE_COUNT), 5U);
    EXPECT_FALSE(notified());
}

TEST_F(ShmRegsTest, LoadedStateIsJudged) {
    EXPECT_TRUE(vgpu_regs_valid(&regs_));
    regs_.irq_ctrl = 7;
    regs_.irq_status = VGPU_IRQ_COMPLETION | VGPU_IRQ_SHM_STATE;
    regs_.queue_irq = 0x1F;
    EXPECT_TRUE(vgpu_regs_valid(&regs_));
    regs_.queue_irq = 0x20;
    EXPECT_FALSE(vgpu_regs_valid(&regs_)) << "no such queue";
    regs_.queue_irq = 0;
    regs_.irq_status = VGPU_IRQ_QUEUE;
    EXPECT_FALSE(vgpu_regs_valid(&regs_)) << "follows from queue_irq";
    regs_.irq_status = 0;
    regs_.irq_ctrl = 8;
    EXPECT_FALSE(vgpu_regs_valid(&regs_));
    regs_.irq_ctrl = 7;
    regs_.queue_count = 64;
    regs_.queue_irq = UINT64_MAX;
    EXPECT_TRUE(vgpu_regs_valid(&regs_));
    vgpu_regs plain{};
    vgpu_regs_init(&plain, 'A', VGPU_PRIORITY_LOW, 1);
    EXPECT_TRUE(vgpu_regs_valid(&plain));
    plain.irq_ctrl = VGPU_IRQ_QUEUE;
    EXPECT_FALSE(vgpu_regs_valid(&plain));
    plain.irq_ctrl = 0;
    plain.queue_irq = 1;
    EXPECT_FALSE(vgpu_regs_valid(&plain));
}

TEST_F(ShmRegsTest, HeldRequestOwesNoAnswer) {
    const auto hold = [this] {
        write(VGPU_REG_REQUEST_ID, 9);
        write(VGPU_REG_REQUEST_LEN, 32);
        ASSERT_EQ(write(VGPU_REG_DOORBELL, 1), VGPU_REGS_SUBMIT);
        regs_.held = true;
    };
    hold();
    EXPECT_EQ(vgpu_regs_refused(&regs_, 9, VGPU_ERR_RATE_LIMITED, 1), VGPU_REGS_UNKNOWN);
    EXPECT_EQ(regs_.status, VGPU_STATUS_BUSY);
    EXPECT_TRUE(vgpu_regs_timeout(&regs_, 1));
    EXPECT_EQ(regs_.abandoned_count, 0U);
    EXPECT_FALSE(regs_.held);
    hold();
    EXPECT_TRUE(vgpu_regs_reset(&regs_));
    EXPECT_EQ(regs_.abandoned_count, 0U);
    EXPECT_FALSE(regs_.held);
    hold();
    EXPECT_TRUE(vgpu_regs_disconnected(&regs_, 1));
    EXPECT_FALSE(regs_.held);
    EXPECT_EQ(regs_.error_code, VGPU_ERR_MEDIATOR_UNAVAILABLE);
}

class HelloStateTest : public testing::Test {
  protected:
    HelloStateTest() {
        hello_.shm_size = 1 << 20;
        hello_.queue_count = 3;
    }
    vgpu_hello_verdict answer(std::uint32_t type, const vgpu_msg_hello_reply& reply) {
        std::array<std::uint8_t, sizeof reply> bytes{};
        std::memcpy(bytes.data(), &reply, sizeof reply);
        const char* reason = nullptr;
        const auto verdict = vgpu_hello_answer(&hello_, type, bytes.data(), &reason);
        EXPECT_EQ(verdict == VGPU_HELLO_BAD, reason != nullptr);
        return verdict;
    }
    static constexpr vgpu_msg_hello_reply kTaken{
        VGPU_HELLO_TAKEN, VGPU_SHM_LAYOUT_VERSION, VGPU_HELLO_FEATURES, 5, {0, 0}};
    static constexpr vgpu_msg_hello_reply kRefused{VGPU_HELLO_NOT_OFFERED, 0, 0, 0, {0, 0}};

    vgpu_hello hello_{};
};

TEST_F(HelloStateTest, MessagesAreThoseOfTheProtocol) {
    vgpu_msg_header identity{};
    identity.vm_id = 7;
    identity.pool_id = 'C';
    identity.priority = 2;
    identity.request_id = 99;
    ASSERT_EQ(vgpu_hello_messages(&hello_), 4U);
    for (std::uint32_t index = 0; index < 4; index++) {
        std::array<std::uint8_t, VGPU_HELLO_MESSAGE_MAX> bytes{};
        const std::size_t length = vgpu_hello_encode(&hello_, &identity, index, bytes.data());
        vgpu_msg_header header{};
        std::memcpy(&header, bytes.data(), sizeof header);
        EXPECT_EQ(header.magic, VGPU_MSG_MAGIC);
        EXPECT_EQ(header.vm_id, 7U);
        EXPECT_EQ(header.request_id, 0U);
        EXPECT_EQ(header.pool_id, 'C');
        EXPECT_EQ(header.priority, 2U);
        EXPECT_EQ(length, sizeof header + header.payload_len);
        if (index == 0) {
            EXPECT_EQ(header.msg_type, VGPU_MSG_HELLO);
            EXPECT_EQ(header.payload_len, sizeof(vgpu_msg_hello));
        } else {
            EXPECT_EQ(header.msg_type, VGPU_MSG_HELLO_QUEUE);
            EXPECT_EQ(bytes.at(sizeof header), index - 1);
        }
    }
}

TEST_F(HelloStateTest, NoHelloWithoutMemoryOrDescriptors) {
    EXPECT_FALSE(vgpu_hello_connected(&hello_, false, true));
    EXPECT_EQ(hello_.phase, VGPU_HELLO_VERSION_1);
    vgpu_hello_disconnected(&hello_);
    EXPECT_TRUE(vgpu_hello_connected(&hello_, true, true)) << "it was no hello that failed";
    hello_ = {};
    EXPECT_FALSE(vgpu_hello_connected(&hello_, true, true));
}

TEST_F(HelloStateTest, LeftOutOnceAfterOneThatCameToNothing) {
    EXPECT_TRUE(vgpu_hello_connected(&hello_, true, true));
    vgpu_hello_disconnected(&hello_);
    vgpu_hello_disconnected(&hello_);  // reported twice: dropped, then closed
    EXPECT_FALSE(vgpu_hello_connected(&hello_, true, true));
    vgpu_hello_disconnected(&hello_);
    EXPECT_TRUE(vgpu_hello_connected(&hello_, true, true));
    EXPECT_EQ(answer(VGPU_MSG_HELLO_REPLY, kRefused), VGPU_HELLO_SETTLED);
    vgpu_hello_disconnected(&hello_);
    EXPECT_TRUE(vgpu_hello_connected(&hello_, true, true))
        << "a refusal may have another answer later";
}

TEST_F(HelloStateTest, SaidWhenTheGuestHasMappedTheMemory) {
    EXPECT_FALSE(vgpu_hello_connected(&hello_, true, false));
    EXPECT_EQ(hello_.phase, VGPU_HELLO_UNSEEN);
    EXPECT_FALSE(vgpu_hello_reset(&hello_)) << "no mediator serves it";
    EXPECT_EQ(vgpu_hello_mapped(&hello_), VGPU_HELLO_SAY);
    EXPECT_EQ(hello_.phase, VGPU_HELLO_WAITING);
    EXPECT_EQ(vgpu_hello_mapped(&hello_), VGPU_HELLO_KEEP) << "once";
    EXPECT_EQ(answer(VGPU_MSG_HELLO_REPLY, kTaken), VGPU_HELLO_ATTACH);
    EXPECT_EQ(vgpu_hello_mapped(&hello_), VGPU_HELLO_KEEP) << "mapped again, after a reset";
    EXPECT_TRUE(vgpu_hello_reset(&hello_));
}

TEST_F(HelloStateTest, OvertakenByARequestItNeedsAnotherConnection) {
    EXPECT_FALSE(vgpu_hello_connected(&hello_, true, false));
    vgpu_hello_overtaken(&hello_);
    EXPECT_EQ(hello_.phase, VGPU_HELLO_VERSION_1);
    EXPECT_EQ(vgpu_hello_mapped(&hello_), VGPU_HELLO_RENEW);
    EXPECT_EQ(vgpu_hello_mapped(&hello_), VGPU_HELLO_RENEW) << "until it has been done";
    vgpu_hello_disconnected(&hello_);
    EXPECT_EQ(vgpu_hello_mapped(&hello_), VGPU_HELLO_KEEP);
    EXPECT_TRUE(vgpu_hello_connected(&hello_, true, true)) << "it was no hello that failed";
    vgpu_hello_overtaken(&hello_);
    EXPECT_EQ(hello_.phase, VGPU_HELLO_WAITING) << "what is sent then waits behind the hello";
}

TEST_F(HelloStateTest, MappingChangesNothingWhereNoHelloIsDue) {
    EXPECT_TRUE(vgpu_hello_connected(&hello_, true, true));
    vgpu_hello_disconnected(&hello_);
    EXPECT_FALSE(vgpu_hello_connected(&hello_, true, false)) << "after one that came to nothing";
    vgpu_hello_overtaken(&hello_);
    EXPECT_EQ(vgpu_hello_mapped(&hello_), VGPU_HELLO_KEEP);
    vgpu_hello_disconnected(&hello_);
    EXPECT_FALSE(vgpu_hello_connected(&hello_, false, false)) << "descriptors do not pass";
    EXPECT_EQ(vgpu_hello_mapped(&hello_), VGPU_HELLO_KEEP);
}

// For any replies of the mediator and any resets by the guest: the memory is attached only by
// replies to all outstanding requests, and never after a rejection.
TEST_F(HelloStateTest, RandomLivesKeepTheRules) {
    std::mt19937 random(4);
    for (int life = 0; life < 2000; life++) {
        hello_ = {};
        hello_.shm_size = 1 << 20;
        hello_.queue_count = 3;
        bool asked = vgpu_hello_connected(&hello_, true, true);
        ASSERT_TRUE(asked);
        std::uint32_t owed = 0;
        bool refused = false;
        for (int step = 0; step < 40; step++) {
            if (random() % 3 == 0) {
                owed += vgpu_hello_reset(&hello_) ? 1 : 0;
                continue;
            }
            const std::uint32_t type =
                random() % 2 == 0 ? VGPU_MSG_HELLO_REPLY : VGPU_MSG_SHM_RESET_DONE;
            const bool taken = random() % 4 != 0;
            const bool expected = type == VGPU_MSG_HELLO_REPLY ? asked : owed > 0;
            const auto verdict = answer(type, taken ? kTaken : kRefused);
            ASSERT_EQ(verdict != VGPU_HELLO_BAD, expected);
            if (!expected) {
                break;  // the connection is dropped
            }
            if (type == VGPU_MSG_HELLO_REPLY) {
                asked = false;
            } else {
                owed--;
            }
            refused = refused || !taken;
            owed += verdict == VGPU_HELLO_SEND_RESET ? 1 : 0;
            ASSERT_EQ(verdict == VGPU_HELLO_ATTACH, !refused && owed == 0);
        }
    }
}

TEST(ShmWire, AnswersAreKnownWithSharedMemoryOnly) {
    vgpu_msg_header header{};
    header.magic = VGPU_MSG_MAGIC;
    for (std::uint32_t type = 0; type < 0x40; type++) {
        for (std::uint32_t length = 0; length < 0x10000; length += 1 + length / 64) {
            header.msg_type = type;
            header.payload_len = static_cast<std::uint16_t>(length);
            const bool answer = type == VGPU_MSG_HELLO_REPLY || type == VGPU_MSG_SHM_RESET_DONE;
            const bool plain = vgpu_wire_judge(&header, 0, false) == nullptr;
            const bool shm = vgpu_wire_judge(&header, 0, true) == nullptr;
            ASSERT_EQ(shm, answer ? length == sizeof(vgpu_msg_hello_reply) : plain) << type;
            ASSERT_FALSE(answer && plain);
        }
    }
}

}  // namespace
}  // namespace vgpu
