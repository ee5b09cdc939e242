// SPDX-License-Identifier: MIT
//
// The shared memory, its doorbells and its interrupts, as guest and mediator see them.
#include <poll.h>
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
};

TEST_F(ShmTest, GuestAndMediatorShareTheMemory) {
    start_attached();
    const Mapping memory = map();
    machine().write(kBar2 + 0x1000, 8, 0x0123456789ABCDEF);
    std::uint64_t value = 0;
    std::memcpy(&value, memory.data() + 0x1000, 8);
    EXPECT_EQ(value, 0x0123456789ABCDEFU);
    const std::uint64_t last = memory.size() - 8;
    value = 0xFEDCBA9876543210;
    std::memcpy(memory.data() + last, &value, 8);
    EXPECT_EQ(machine().read(kBar2 + last, 8), value);
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
}

TEST_F(ShmTest, InterruptIsAMessageOfTheQueuesVector) {
    start_attached();
    enable_msix();
    for (std::uint32_t queue = 0; queue < 4; queue++) {
        interrupt(queue);
        EXPECT_TRUE(wait_message(1 + queue));
        for (std::uint32_t vector = 0; vector < 5; vector++) {
            EXPECT_FALSE(message_came(vector));
        }
    }
    EXPECT_EQ(reg(VGPU_REG_QUEUE_IRQ_LO), 0xFU) << "from before MSI-X was enabled";
}

TEST_F(ShmTest, InterruptSetsItsBitAndThePin) {
    start_attached();
    machine().intercept_interrupts();
    set(VGPU_REG_IRQ_STATUS, VGPU_IRQ_SHM_STATE);
    set(VGPU_REG_QUEUE_IRQ_LO, 0xF);
    set(VGPU_REG_IRQ_CTRL, VGPU_IRQ_QUEUE);
    EXPECT_FALSE(machine().interrupt_raised());
    interrupt(2);
    EXPECT_TRUE(machine().wait_interrupt(true));
    EXPECT_EQ(reg(VGPU_REG_QUEUE_IRQ_LO), 1U << 2);
    EXPECT_EQ(reg(VGPU_REG_IRQ_STATUS), VGPU_IRQ_QUEUE);
    set(VGPU_REG_IRQ_STATUS, VGPU_IRQ_QUEUE);
    EXPECT_EQ(reg(VGPU_REG_IRQ_STATUS), VGPU_IRQ_QUEUE) << "it follows QUEUE_IRQ";
    set(VGPU_REG_QUEUE_IRQ_LO, 1U << 2);
    EXPECT_EQ(reg(VGPU_REG_IRQ_STATUS), 0U);
    EXPECT_TRUE(machine().wait_interrupt(false));
}

}  // namespace
}  // namespace vgpu::test
