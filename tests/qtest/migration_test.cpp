// SPDX-License-Identifier: MIT
//
// Migration: state is transferred when idle, and rejected while a request is in flight.
#include "qtest/stub.h"

namespace vgpu::test {
namespace {

class MigrationTest : public DeviceTest {
  protected:
    std::string migrate() { return "unix:" + dir_.file("migration"); }

    // Returns every register and both buffers.
    static std::vector<std::uint32_t> registers(Stub& stub) {
        std::vector<std::uint32_t> values;
        for (std::uint32_t offset = 0; offset < VGPU_REGS_END; offset += 4) {
            values.push_back(stub.reg(offset));
        }
        for (std::uint32_t offset = VGPU_REQUEST_BUF; offset < VGPU_RESERVED_BEGIN; offset += 4) {
            values.push_back(stub.reg(offset));
        }
        return values;
    }
};

TEST_F(MigrationTest, IdleDeviceKeepsItsRegisters) {
    start("", {"-trace", "vgpu_stub_connected"});
    std::vector<std::uint8_t> request(VGPU_BUF_SIZE, 0xA1);
    auto response = make_response(VGPU_ERR_CUDA_OUT_OF_MEMORY);
    response.resize(777, 0xB2);
    stub().set(VGPU_REG_SCRATCH, 0x12345678);
    stub().set(VGPU_REG_IRQ_CTRL, 1);
    stub().submit(0xFEDC, request);
    expect_request(0xFEDC, request);
    answer(0xFEDC, response);
    // ERROR, not acknowledged, with its interrupt pending: all of it must be transferred.
    ASSERT_EQ(stub().wait_done(), VGPU_STATUS_ERROR);

    Machine destination({"-device", "vgpu-stub,addr=4,vm_id=7,shm-size=0,socket=" + socket_path(),
                         "-incoming", migrate()});
    ASSERT_TRUE(machine().qmp("migrate", {{"uri", migrate()}}).contains("return"));
    ASSERT_EQ(wait_migration(machine()), "completed");
    ASSERT_EQ(wait_migration(destination), "completed");

    // PCI is already configured by the guest; the mapping is part of the migrated state.
    const auto at = [&](std::uint32_t offset) {
        return static_cast<std::uint32_t>(destination.read(Stub::kBar0 + offset, 4));
    };
    EXPECT_EQ(at(VGPU_REG_STATUS), VGPU_STATUS_ERROR);
    Stub arrived(destination);
    EXPECT_TRUE(arrived.config(0x06, 2) & 0x08) << "the interrupt is still pending";
    const auto before = registers(stub());
    EXPECT_EQ(registers(arrived), before);
    EXPECT_EQ(before[VGPU_REG_ERROR_CODE / 4], VGPU_ERR_CUDA_OUT_OF_MEMORY);
    EXPECT_EQ(before[VGPU_REG_RESPONSE_LEN / 4], 777U);

    // And the device works at the destination.
    accept();
    arrived.submit(5, make_add(1, 2));
    expect_request(5, make_add(1, 2));
    answer(5, make_response(0));
    EXPECT_EQ(arrived.wait_done(), VGPU_STATUS_DONE);
}

TEST_F(MigrationTest, IdentityIsTheDestinationsOwn) {
    start_alone(",pool_id=A,priority=low");
    Machine destination({"-device", "vgpu-stub,addr=4,vm_id=9,shm-size=0,pool_id=B,priority=high",
                         "-incoming", migrate()});
    ASSERT_TRUE(machine().qmp("migrate", {{"uri", migrate()}}).contains("return"));
    ASSERT_EQ(wait_migration(destination), "completed");
    Stub arrived(destination);
    EXPECT_EQ(arrived.reg(VGPU_REG_VM_ID), 9U);
    EXPECT_EQ(arrived.reg(VGPU_REG_POOL_ID), static_cast<std::uint32_t>('B'));
    EXPECT_EQ(arrived.reg(VGPU_REG_PRIORITY), VGPU_PRIORITY_HIGH);
}

TEST_F(MigrationTest, RefusedWhileBusyAndAllowedAfterwards) {
    start();
    stub().submit(1, make_add(1, 2));
    expect_request(1, make_add(1, 2));
    const auto refused = machine().qmp("migrate", {{"uri", "exec:cat >/dev/null"}});
    ASSERT_TRUE(refused.contains("error")) << refused.dump();
    const std::string reason = refused["error"]["desc"];
    EXPECT_NE(reason.find("vgpu-stub (vm_id 7): a request is in flight"), std::string::npos)
        << reason;
    answer(1, make_response(0));
    ASSERT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
    ASSERT_TRUE(machine().qmp("migrate", {{"uri", "exec:cat >/dev/null"}}).contains("return"));
    EXPECT_EQ(wait_migration(machine()), "completed");
}

TEST_F(MigrationTest, AllowedAfterEveryWayOfEnding) {
    start(",timeout-ms=100");
    const auto blocked = [this] {
        return machine().qmp("query-migrate")["return"].contains("blocked-reasons");
    };
    EXPECT_FALSE(blocked());
    stub().submit(1, make_add(1, 2));
    EXPECT_TRUE(blocked());
    machine().clock_step(std::chrono::milliseconds(100));
    EXPECT_FALSE(blocked()) << "after a time-out";
    stub().submit(2, make_add(1, 2));
    EXPECT_TRUE(blocked());
    ASSERT_TRUE(machine().qmp("system_reset").contains("return"));
    ASSERT_TRUE(machine().wait_event("RESET"));
    EXPECT_FALSE(blocked()) << "after a reset";
    Stub again(machine());
    again.submit(3, make_add(1, 2));
    EXPECT_TRUE(blocked());
    for (std::uint32_t id = 1; id <= 3; id++) {
        expect_request(id, make_add(1, 2));
    }
    peer().close();
    ASSERT_NE(again.wait_done(), VGPU_STATUS_BUSY);
    EXPECT_FALSE(blocked()) << "after the mediator went away";
    again.submit(4, {});
    EXPECT_FALSE(blocked()) << "after a request that was not taken";
}

// A migration that starts before the doorbell rings can no longer be rejected; it must fail rather
// than lose the request, and the VM continues at the source.
TEST_F(MigrationTest, DoorbellDuringAMigrationFailsIt) {
    start();
    const auto capability = machine().qmp(
        "migrate-set-capabilities",
        {{"capabilities", {{{"capability", "pause-before-switchover"}, {"state", true}}}}});
    ASSERT_TRUE(capability.contains("return")) << capability.dump();
    ASSERT_TRUE(machine().qmp("migrate", {{"uri", "exec:cat >/dev/null"}}).contains("return"));
    ASSERT_EQ(wait_migration(machine(), "pre-switchover"), "pre-switchover");
    stub().submit(1, make_add(1, 2));
    expect_request(1, make_add(1, 2));
    ASSERT_TRUE(
        machine().qmp("migrate-continue", {{"state", "pre-switchover"}}).contains("return"));
    EXPECT_EQ(wait_migration(machine()), "failed");
    EXPECT_TRUE(machine().process().wait_for_output("vgpu-stub (vm_id 7): a request is in flight"));
    answer(1, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
}

}  // namespace
}  // namespace vgpu::test
