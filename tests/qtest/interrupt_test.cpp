// SPDX-License-Identifier: MIT
//
// IRQ_CTRL, IRQ_STATUS, the interrupt pin and the interrupt message.
#include <utility>

#include "qtest/stub.h"

namespace vgpu::test {
namespace {

constexpr unsigned kPciStatus = 0x06;
constexpr unsigned kPciCommand = 0x04;
constexpr std::uint32_t kInterruptDisable = 0x400;
constexpr std::uint32_t kInterruptPending = 0x08;
constexpr std::uint64_t kMessageAddress = 0x100000;
constexpr std::uint16_t kMessage = 0x4321;

class InterruptTest : public DeviceTest {
  protected:
    void complete(std::uint32_t id, std::uint32_t code = 0) {
        stub().submit(id, make_add(1, 2));
        expect_request(id, make_add(1, 2));
        answer(id, make_response(code));
        ASSERT_NE(stub().wait_done(), VGPU_STATUS_BUSY);
    }
    bool pin() {
        const bool raised = machine().interrupt_raised();
        EXPECT_EQ(raised, (stub().config(kPciStatus, 2) & kInterruptPending) != 0);
        return raised;
    }
    // Returns true if a message has been written since the last call.
    bool message_came() {
        const auto value = machine().read(kMessageAddress, 4);
        machine().write(kMessageAddress, 4, 0);
        EXPECT_TRUE(value == 0 || value == kMessage) << value;
        return value == kMessage;
    }
};

TEST_F(InterruptTest, CompletionIsRecordedWhateverIrqCtrlSays) {
    start();
    machine().intercept_interrupts();
    complete(1);
    EXPECT_EQ(stub().reg(VGPU_REG_IRQ_STATUS), VGPU_IRQ_COMPLETION);
    EXPECT_FALSE(pin());
    stub().response();
    EXPECT_EQ(stub().reg(VGPU_REG_IRQ_STATUS), VGPU_IRQ_COMPLETION)
        << "acknowledging the response does not clear it";
    stub().set(VGPU_REG_IRQ_STATUS, 0xFFFFFFFE);
    EXPECT_EQ(stub().reg(VGPU_REG_IRQ_STATUS), VGPU_IRQ_COMPLETION) << "0 bits clear nothing";
    stub().set(VGPU_REG_IRQ_STATUS, VGPU_IRQ_COMPLETION);
    EXPECT_EQ(stub().reg(VGPU_REG_IRQ_STATUS), 0U);
}

TEST_F(InterruptTest, EveryKindOfCompletionIsRecorded) {
    start(",timeout-ms=1000");
    const auto recorded = [this] {
        const bool set = stub().reg(VGPU_REG_IRQ_STATUS) == VGPU_IRQ_COMPLETION;
        stub().set(VGPU_REG_IRQ_STATUS, VGPU_IRQ_COMPLETION);
        return set && stub().reg(VGPU_REG_IRQ_STATUS) == 0;
    };
    complete(1, VGPU_ERR_CUDA);
    EXPECT_TRUE(recorded()) << "an error response";
    stub().submit(2, {});
    EXPECT_TRUE(recorded()) << "a request that was not taken";
    stub().submit(3, make_add(1, 2));
    expect_request(3, make_add(1, 2));
    EXPECT_EQ(stub().reg(VGPU_REG_IRQ_STATUS), 0U) << "not yet";
    send(VGPU_MSG_BUSY, 3);
    ASSERT_EQ(stub().wait_done(), VGPU_STATUS_ERROR);
    EXPECT_TRUE(recorded()) << "a refusal";
    stub().submit(4, make_add(1, 2));
    machine().clock_step(std::chrono::seconds(2));
    EXPECT_TRUE(recorded()) << "a time-out";
    stub().submit(5, make_add(1, 2));
    expect_request(4, make_add(1, 2));
    expect_request(5, make_add(1, 2));
    peer().close();
    ASSERT_EQ(stub().wait_done(), VGPU_STATUS_ERROR);
    EXPECT_TRUE(recorded()) << "a mediator that went away";
}

TEST_F(InterruptTest, PinFollowsStatusAndControl) {
    start();
    machine().intercept_interrupts();
    stub().set(VGPU_REG_IRQ_CTRL, 1);
    EXPECT_FALSE(pin());
    stub().submit(1, make_add(1, 2));
    expect_request(1, make_add(1, 2));
    EXPECT_FALSE(pin());
    answer(1, make_response(0));
    EXPECT_TRUE(machine().wait_interrupt(true)) << "raised without the guest doing anything";
    EXPECT_TRUE(pin());
    stub().set(VGPU_REG_IRQ_CTRL, 0);
    EXPECT_FALSE(pin());
    stub().set(VGPU_REG_IRQ_CTRL, 1);
    EXPECT_TRUE(pin()) << "still pending";
    stub().set(VGPU_REG_IRQ_STATUS, 1);
    EXPECT_FALSE(pin());
    // Immediately, for a rejected request.
    stub().submit(2, {});
    EXPECT_TRUE(pin());
}

TEST_F(InterruptTest, PinObeysTheCommandRegister) {
    start();
    machine().intercept_interrupts();
    stub().set(VGPU_REG_IRQ_CTRL, 1);
    complete(1);
    EXPECT_TRUE(machine().interrupt_raised());
    stub().set_config(kPciCommand, 2, 0x6 | kInterruptDisable);
    EXPECT_FALSE(machine().interrupt_raised());
    EXPECT_TRUE(stub().config(kPciStatus, 2) & kInterruptPending) << "as uio_pci_generic needs it";
    stub().set_config(kPciCommand, 2, 0x6);
    EXPECT_TRUE(machine().interrupt_raised());
}

// A guest may write only the upper byte of the command register, which holds the bit. QEMU checks
// it only on writes to the lower byte, would count the pin as raised forever, and would abort at
// the next reset.
TEST_F(InterruptTest, PinObeysTheCommandRegistersUpperByteAndSurvivesAReset) {
    start();
    machine().intercept_interrupts();
    const auto disable = [this](bool disabled, unsigned offset, unsigned size) {
        const std::uint32_t command = 0x6 | (disabled ? kInterruptDisable : 0);
        const unsigned shift = 8 * (offset - kPciCommand);
        stub().set_config(offset, size, command >> shift);
    };
    const auto reset = [this] {
        ASSERT_TRUE(machine().qmp("system_reset").contains("return"));
        ASSERT_TRUE(machine().wait_event("RESET"));
        EXPECT_TRUE(machine().wait_interrupt(false));
        stub_.emplace(machine());
    };
    std::uint32_t id = 1;
    for (const auto& [offset, size] : std::initializer_list<std::pair<unsigned, unsigned>>{
             {kPciCommand, 4}, {kPciCommand, 2}, {kPciCommand + 1, 1}, {kPciCommand + 1, 2}}) {
        stub().set(VGPU_REG_IRQ_CTRL, 1);
        complete(id++);
        ASSERT_TRUE(machine().interrupt_raised());
        disable(true, offset, size);
        EXPECT_FALSE(machine().interrupt_raised());
        EXPECT_TRUE(stub().config(kPciStatus, 2) & kInterruptPending);
        disable(false, offset, size);
        EXPECT_TRUE(machine().interrupt_raised());
        disable(true, offset, size);
        reset();
        // Raised while disabled, lowered, enabled, and vice versa.
        disable(true, offset, size);
        stub().set(VGPU_REG_IRQ_CTRL, 1);
        complete(id++);
        EXPECT_FALSE(machine().interrupt_raised());
        disable(false, offset, size);
        EXPECT_TRUE(machine().interrupt_raised());
        stub().set(VGPU_REG_IRQ_STATUS, 1);
        EXPECT_FALSE(machine().interrupt_raised());
        reset();
    }
}

TEST_F(InterruptTest, ResetLowersThePin) {
    start();
    machine().intercept_interrupts();
    stub().set(VGPU_REG_IRQ_CTRL, 1);
    complete(1);
    ASSERT_TRUE(pin());
    ASSERT_TRUE(machine().qmp("system_reset").contains("return"));
    ASSERT_TRUE(machine().wait_event("RESET"));
    EXPECT_TRUE(machine().wait_interrupt(false));
}

TEST_F(InterruptTest, MessageOnCompletion) {
    start();
    machine().intercept_interrupts();
    stub().enable_msi(kMessageAddress, kMessage);
    complete(1);
    EXPECT_FALSE(message_came()) << "IRQ_CTRL is 0";
    stub().set(VGPU_REG_IRQ_CTRL, 1);
    EXPECT_TRUE(message_came()) << "switched on while a completion waits";
    stub().set(VGPU_REG_IRQ_CTRL, 1);
    EXPECT_FALSE(message_came()) << "once";
    stub().set(VGPU_REG_IRQ_STATUS, 1);
    EXPECT_FALSE(message_came());
    complete(2);
    EXPECT_TRUE(message_came());
    complete(3, VGPU_ERR_CUDA);
    EXPECT_TRUE(message_came()) << "although IRQ_STATUS was not cleared in between";
    stub().submit(4, {});
    EXPECT_TRUE(message_came());
    stub().set(VGPU_REG_IRQ_CTRL, 0);
    complete(5);
    EXPECT_FALSE(message_came());
    EXPECT_FALSE(machine().interrupt_raised()) << "the pin stays low while messages are on";
}

TEST_F(InterruptTest, MessageGoesToHighAddressesToo) {
    start("", {"-m", "4096"});
    // RAM above the hole below 4 GiB starts at 4 GiB.
    constexpr std::uint64_t kHigh = 0x100000000ULL + 0x1000;
    stub().enable_msi(kHigh, kMessage);
    stub().set(VGPU_REG_IRQ_CTRL, 1);
    complete(1);
    EXPECT_EQ(machine().read(kHigh, 4), kMessage);
}

TEST_F(InterruptTest, PendingCompletionMovesBetweenMessageAndPin) {
    start();
    machine().intercept_interrupts();
    stub().set(VGPU_REG_IRQ_CTRL, 1);
    complete(1);
    ASSERT_TRUE(pin());
    stub().enable_msi(kMessageAddress, kMessage);
    EXPECT_FALSE(machine().interrupt_raised());
    stub().disable_msi();
    EXPECT_TRUE(machine().interrupt_raised());
}

}  // namespace
}  // namespace vgpu::test
