// SPDX-License-Identifier: MIT
//
// The shared memory, its doorbells and its interrupts, as seen by guest and mediator.
#include <sys/mman.h>

#include <cstring>

#include "qtest/shm_device.h"

namespace vgpu::test {
namespace {

class ShmTest : public ShmDeviceTest {
  protected:
    Mapping map() {
        auto mapping =
            Mapping::create(hello().memory.get(), static_cast<std::size_t>(hello().hello.shm_size),
                            PROT_READ | PROT_WRITE);
        EXPECT_TRUE(mapping);
        return mapping ? std::move(*mapping) : Mapping();
    }
    // Clears the interrupts caused by attaching.
    void clear_interrupts() {
        set(VGPU_REG_IRQ_STATUS, 0xFFFFFFFF);
        set(VGPU_REG_QUEUE_IRQ_LO, 0xFFFFFFFF);
        set(VGPU_REG_QUEUE_IRQ_HI, 0xFFFFFFFF);
        ASSERT_EQ(reg(VGPU_REG_IRQ_STATUS), 0U);
    }
    bool msi_came() {
        const auto value = machine().read(kMessages, 4);
        machine().write(kMessages, 4, 0);
        return value != 0;
    }
};

TEST_F(ShmTest, GuestAndMediatorShareTheMemory) {
    for (const char* const machine_type : {"q35", "pc"}) {
        start_attached(",shm-size=1M,queues=4", {}, machine_type);
        const Mapping memory = map();
        ASSERT_EQ(memory.size(), 1U << 20);
        machine().write(kBar2 + 0x1000, 8, 0x0123456789ABCDEF);
        std::uint64_t value = 0;
        std::memcpy(&value, memory.data() + 0x1000, 8);
        EXPECT_EQ(value, 0x0123456789ABCDEFU);
        const std::uint64_t last = memory.size() - 8;
        value = 0xFEDCBA9876543210;
        std::memcpy(memory.data() + last, &value, 8);
        EXPECT_EQ(machine().read(kBar2 + last, 8), value);
    }
}

TEST_F(ShmTest, DoorbellWakesTheMediator) {
    start_attached();
    for (std::uint32_t queue = 0; queue < 4; queue++) {
        EXPECT_EQ(doorbell(queue), 0U);
        ring(queue);
        for (std::uint32_t other = 0; other < 4; other++) {
            EXPECT_EQ(doorbell(other), other == queue ? 1U : 0U);
        }
        EXPECT_EQ(reg(VGPU_REG_QUEUE_DOORBELL + 4 * queue), 0U) << "reads 0";
    }
    for (const std::uint32_t value : {0U, 2U, 0xFFFFFFFFU}) {
        set(VGPU_REG_QUEUE_DOORBELL, value);
        EXPECT_EQ(doorbell(0), 1U) << "any value rings";
    }
}

TEST_F(ShmTest, WrongDoorbellsAreIgnored) {
    start_attached();
    const auto rung = [this] {
        std::uint64_t count = 0;
        for (std::uint32_t queue = 0; queue < 4; queue++) {
            count += doorbell(queue);
        }
        return count;
    };
    for (const unsigned size : {1U, 2U, 8U}) {
        stub().write(VGPU_REG_QUEUE_DOORBELL, size, 1);
    }
    stub().write(VGPU_REG_QUEUE_DOORBELL + 2, 4, 1);
    for (std::uint32_t offset = VGPU_REG_QUEUE_DOORBELL + 16; offset < VGPU_BAR0_SIZE;
         offset += 4) {
        set(offset, 1);
        EXPECT_EQ(reg(offset), 0U);
    }
    EXPECT_EQ(rung(), 0U);
    ring(3);
    EXPECT_EQ(rung(), 1U);
}

TEST_F(ShmTest, RegistersOfTheFastPathTakeAlignedWordsOnly) {
    start_attached();
    interrupt(0);
    ASSERT_TRUE(wait_bits(VGPU_REG_QUEUE_IRQ_LO, 1));
    for (const unsigned size : {1U, 2U, 8U}) {
        EXPECT_EQ(stub().read(VGPU_REG_QUEUE_COUNT, size), 0U);
        stub().write(VGPU_REG_QUEUE_IRQ_LO, size, 0xFF);
    }
    for (const std::uint32_t offset :
         {VGPU_REG_SHM_SIZE_LO, VGPU_REG_SHM_SIZE_HI, VGPU_REG_QUEUE_COUNT, VGPU_REG_SHM_STATE,
          VGPU_REG_MSIX_VECTORS}) {
        const std::uint32_t before = reg(offset);
        set(offset, ~before);
        EXPECT_EQ(reg(offset), before) << "read-only";
    }
    EXPECT_TRUE(reg(VGPU_REG_QUEUE_IRQ_LO) & 1);
    EXPECT_EQ(reg(0x854), 0U);
    EXPECT_EQ(reg(0x860), 0U);
    EXPECT_EQ(reg(0x8FC), 0U);
}

TEST_F(ShmTest, InterruptIsAMessageOfTheQueuesVector) {
    start_attached();
    clear_interrupts();
    enable_msix();
    for (std::uint32_t queue = 0; queue < 4; queue++) {
        interrupt(queue);
        EXPECT_TRUE(wait_message(1 + queue));
        for (std::uint32_t vector = 0; vector < 5; vector++) {
            EXPECT_FALSE(message_came(vector));
        }
    }
    EXPECT_EQ(reg(VGPU_REG_QUEUE_IRQ_LO), 0U);
}

TEST_F(ShmTest, MaskedVectorStaysPending) {
    start_attached();
    enable_msix();
    mask_vector(3, true);
    interrupt(2);
    interrupt(0);
    EXPECT_TRUE(wait_message(1));
    EXPECT_TRUE(wait_pending(3));
    EXPECT_FALSE(message_came(3));
    mask_vector(3, false);
    EXPECT_TRUE(message_came(3));
    EXPECT_FALSE(vector_pending(3));
}

TEST_F(ShmTest, RegistersInterruptByVectorZero) {
    start_attached();
    clear_interrupts();
    enable_msix();
    set(VGPU_REG_IRQ_CTRL, VGPU_IRQ_COMPLETION | VGPU_IRQ_SHM_STATE | VGPU_IRQ_QUEUE);
    stub().submit(1, make_add(1, 2));
    expect_request(1, make_add(1, 2));
    answer(1, make_response(0));
    ASSERT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
    EXPECT_TRUE(message_came(0));
    stub().submit(2, {});
    EXPECT_TRUE(message_came(0)) << "although IRQ_STATUS was not cleared in between";
    set(VGPU_REG_IRQ_STATUS, VGPU_IRQ_COMPLETION);
    interrupt(0);
    EXPECT_TRUE(wait_message(1));
    EXPECT_FALSE(message_came(0)) << "a queue has its own";
}

TEST_F(ShmTest, InterruptSetsItsBitAndThePin) {
    start_attached();
    machine().intercept_interrupts();
    clear_interrupts();
    set(VGPU_REG_IRQ_CTRL, VGPU_IRQ_QUEUE);
    EXPECT_FALSE(machine().interrupt_raised());
    interrupt(2);
    EXPECT_TRUE(machine().wait_interrupt(true));
    EXPECT_EQ(reg(VGPU_REG_QUEUE_IRQ_LO), 1U << 2);
    EXPECT_EQ(reg(VGPU_REG_IRQ_STATUS), VGPU_IRQ_QUEUE);
    set(VGPU_REG_IRQ_STATUS, VGPU_IRQ_QUEUE);
    EXPECT_EQ(reg(VGPU_REG_IRQ_STATUS), VGPU_IRQ_QUEUE) << "it follows QUEUE_IRQ";
    set(VGPU_REG_QUEUE_IRQ_LO, ~(1U << 2));
    EXPECT_EQ(reg(VGPU_REG_IRQ_STATUS), VGPU_IRQ_QUEUE) << "0 bits clear nothing";
    set(VGPU_REG_QUEUE_IRQ_LO, 1U << 2);
    EXPECT_EQ(reg(VGPU_REG_IRQ_STATUS), 0U);
    EXPECT_TRUE(machine().wait_interrupt(false));
}

TEST_F(ShmTest, QueuesFrom32OnHaveTheHighRegister) {
    start_attached(",shm-size=2M,queues=64");
    clear_interrupts();
    interrupt(63);
    interrupt(32);
    EXPECT_TRUE(wait_bits(VGPU_REG_QUEUE_IRQ_HI, 1U << 31 | 1));
    EXPECT_EQ(reg(VGPU_REG_QUEUE_IRQ_LO), 0U);
    set(VGPU_REG_QUEUE_IRQ_LO, 0xFFFFFFFF);
    EXPECT_EQ(reg(VGPU_REG_QUEUE_IRQ_HI), 1U << 31 | 1);
    set(VGPU_REG_QUEUE_IRQ_HI, 1U << 31);
    EXPECT_EQ(reg(VGPU_REG_QUEUE_IRQ_HI), 1U);
    EXPECT_EQ(reg(VGPU_REG_IRQ_STATUS), VGPU_IRQ_QUEUE);
}

TEST_F(ShmTest, InterruptIsAnMsiWithoutMsix) {
    start_attached();
    clear_interrupts();
    stub().enable_msi(kMessages, 0x77);
    interrupt(0);
    ASSERT_TRUE(wait_bits(VGPU_REG_QUEUE_IRQ_LO, 1));
    EXPECT_FALSE(msi_came()) << "IRQ_CTRL is 0";
    set(VGPU_REG_IRQ_CTRL, VGPU_IRQ_QUEUE);
    EXPECT_TRUE(msi_came()) << "switched on while one waits";
    interrupt(1);
    ASSERT_TRUE(wait_bits(VGPU_REG_QUEUE_IRQ_LO, 2));
    EXPECT_TRUE(msi_came()) << "another queue, although the first is not cleared";
}

TEST_F(ShmTest, SwitchingMsixOffGoesBackToTheRegister) {
    start_attached();
    clear_interrupts();
    enable_msix();
    disable_msix();
    interrupt(1);
    EXPECT_TRUE(wait_bits(VGPU_REG_QUEUE_IRQ_LO, 2));
    EXPECT_FALSE(message_came(2));
    enable_msix();
    interrupt(1);
    EXPECT_TRUE(wait_message(2));
}

TEST_F(ShmTest, AttachingAndLosingTheMediatorInterruptsEveryQueue) {
    start_shm();
    machine().intercept_interrupts();
    set(VGPU_REG_IRQ_CTRL, VGPU_IRQ_SHM_STATE);
    take_hello();
    EXPECT_TRUE(machine().wait_interrupt(true));
    EXPECT_EQ(reg(VGPU_REG_IRQ_STATUS), VGPU_IRQ_SHM_STATE | VGPU_IRQ_QUEUE);
    EXPECT_EQ(reg(VGPU_REG_QUEUE_IRQ_LO), 0xFU);
    clear_interrupts();
    peer().close();
    EXPECT_TRUE(machine().wait_interrupt(true));
    EXPECT_EQ(reg(VGPU_REG_SHM_STATE), 0U);
    EXPECT_EQ(reg(VGPU_REG_IRQ_STATUS), VGPU_IRQ_SHM_STATE | VGPU_IRQ_QUEUE);
    EXPECT_EQ(reg(VGPU_REG_QUEUE_IRQ_LO), 0xFU);

    // The same with MSI-X messages.
    clear_interrupts();
    set(VGPU_REG_IRQ_CTRL, VGPU_IRQ_SHM_STATE);
    enable_msix();
    connect();
    take_hello();
    for (std::uint32_t vector = 0; vector < 5; vector++) {
        EXPECT_TRUE(message_came(vector)) << vector;
    }
    peer().close();
    ASSERT_TRUE(wait_attached(false));
    for (std::uint32_t vector = 0; vector < 5; vector++) {
        EXPECT_TRUE(message_came(vector)) << vector;
    }
}

TEST_F(ShmTest, NextMediatorGetsTheSameMemory) {
    start_attached();
    Hello before = std::move(*hello_);
    machine().write(kBar2 + 0x80000, 8, 0xAB);
    peer().close();
    ASSERT_TRUE(wait_attached(false));
    EXPECT_EQ(machine().read(kBar2 + 0x80000, 8), 0xABU);
    connect();
    take_hello();
    const Mapping memory = map();
    std::uint64_t value = 0;
    std::memcpy(&value, memory.data() + 0x80000, 8);
    EXPECT_EQ(value, 0xABU);
    // Its doorbells are the same too: a ring is visible through both descriptors.
    ring(1);
    EXPECT_EQ(doorbell(1), 1U);
    std::swap(before, *hello_);
    EXPECT_EQ(doorbell(1), 0U) << "read already";
}

TEST_F(ShmTest, RequestsThroughTheRegistersWorkBesides) {
    start_attached();
    for (std::uint32_t id = 1; id < 20; id++) {
        stub().submit(id, make_add(id, id));
        expect_request(id, make_add(id, id));
        interrupt(0);
        ring(0);
        answer(id, make_response(0));
        EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
    }
    EXPECT_EQ(doorbell(0), 19U);
}

// A mediator that floods interrupts: each costs at most one main loop iteration.
TEST_F(ShmTest, FloodOfInterruptsLeavesTheMachineAnswering) {
    start_attached();
    enable_msix();
    for (int i = 0; i < 2000; i++) {
        for (std::uint32_t queue = 0; queue < 4; queue++) {
            interrupt(queue);
        }
    }
    EXPECT_EQ(reg(VGPU_REG_QUEUE_COUNT), 4U);
    sync();
    // A saturated counter blocks neither side.
    const std::uint64_t full = 0xFFFFFFFFFFFFFFFE;
    ASSERT_EQ(::write(hello().doorbells.at(0).get(), &full, 8), 8);
    ring(0);
    ring(0);
    EXPECT_EQ(doorbell(0), full);
}

}  // namespace
}  // namespace vgpu::test
