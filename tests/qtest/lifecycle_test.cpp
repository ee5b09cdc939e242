// SPDX-License-Identifier: MIT
//
// Invalid properties, unplugging, and the device's trace events.
#include <utility>

#include "qtest/stub.h"
#include "support/process.h"

namespace vgpu::test {
namespace {

class LifecycleTest : public DeviceTest {};

using Wrong = std::pair<std::string, std::string>;
class WrongPropertyTest : public DeviceTest, public testing::WithParamInterface<Wrong> {};

TEST_P(WrongPropertyTest, VmDoesNotStart) {
    const auto& [properties, message] = GetParam();
    auto command = qemu_command(dir_, "q35", {"-chardev", "null,id=c"});
    command.insert(command.end(), {"-device", "vgpu-stub," + properties});
    const auto [status, output] = run_program(command);
    EXPECT_EQ(status, 1);
    EXPECT_NE(output.find(message), std::string::npos) << output;
}

INSTANTIATE_TEST_SUITE_P(
    All, WrongPropertyTest,
    testing::Values(
        Wrong{"pool_id=AB", "pool_id must be one letter, A to Z or a to z, not 'AB'"},
        Wrong{"pool_id=1", "pool_id must be one letter, A to Z or a to z, not '1'"},
        Wrong{"pool_id=", "pool_id must be one letter, A to Z or a to z, not ''"},
        Wrong{"pool_id=ä", "pool_id must be one letter"},
        Wrong{"priority=3", "priority must be low, medium or high (or 0, 1 or 2), not '3'"},
        Wrong{"priority=HIGH", "priority must be low, medium or high (or 0, 1 or 2), not 'HIGH'"},
        Wrong{"priority=", "priority must be low, medium or high (or 0, 1 or 2), not ''"},
        Wrong{"priority=22", "priority must be low, medium or high (or 0, 1 or 2), not '22'"},
        Wrong{"timeout-ms=0", "timeout-ms must be 1 to 3600000 milliseconds, not 0"},
        Wrong{"timeout-ms=3600001", "timeout-ms must be 1 to 3600000 milliseconds, not 3600001"},
        Wrong{"vm_id=-1", "'vm_id' expects uint32_t"},
        Wrong{"vm_id=4294967296", "'vm_id' expects uint32_t"},
        Wrong{"vm_id=one", "'vm_id' expects"},
        Wrong{"socket=", "socket must be the path of a Unix socket, 1 to 107 bytes long"},
        Wrong{"socket=/" + std::string(107, 'x'),
              "socket must be the path of a Unix socket, 1 to 107 bytes long"},
        Wrong{"connect-wait-ms=60001",
              "connect-wait-ms must be 0 to 60000 milliseconds, not 60001"},
        Wrong{"basic=on,shm-size=1M", "basic=on disables the shared memory"},
        Wrong{"basic=maybe", "'basic' expects"},
        Wrong{"socket=/nowhere,chardev=c", "chardev and socket are mutually exclusive"},
        Wrong{"shm-size=3M", "shm-size must be a power of two from 1M to 4G, or 0 for none, not"},
        Wrong{"shm-size=512K", "shm-size must be a power of two from 1M to 4G"},
        Wrong{"shm-size=8G", "shm-size must be a power of two from 1M to 4G"},
        Wrong{"shm-size=1", "shm-size must be a power of two from 1M to 4G"},
        Wrong{"shm-size=9223372036854775808", "shm-size must be a power of two from 1M to 4G"},
        Wrong{"shm-size=-1", "shm-size"}, Wrong{"shm-size=much", "shm-size"},
        Wrong{"queues=0", "queues must be 1 to 64 for this shm-size, not 0"},
        Wrong{"queues=65", "queues must be 1 to 64 for this shm-size, not 65"},
        Wrong{"queues=33,shm-size=1M", "queues must be 1 to 32 for this shm-size"},
        Wrong{"queues=4294967295", "queues must be 1 to 64"},
        Wrong{"queues=-1", "'queues' expects uint32_t"},
        Wrong{"chardev=none", "can't find value 'none'"}));

TEST_F(LifecycleTest, PropertiesAtTheirLimitsAreTaken) {
    start_alone(",pool_id=Z,timeout-ms=3600000,priority=low");
    EXPECT_EQ(stub().reg(VGPU_REG_POOL_ID), static_cast<std::uint32_t>('Z'));
    start_alone(",pool_id=a,timeout-ms=1,priority=high");
    EXPECT_EQ(stub().reg(VGPU_REG_POOL_ID), static_cast<std::uint32_t>('a'));
}

// A guest ejects a slot when it has been asked to release a device.
class UnplugTest : public DeviceTest {
  protected:
    static constexpr std::uint16_t kEjectPort = 0xAE08;
    void unplug() {
        ASSERT_TRUE(machine().qmp("device_del", {{"id", "vgpu"}}).contains("return"));
        machine().out(kEjectPort, 4, 1U << Stub::kSlot);
        ASSERT_TRUE(machine().wait_event("DEVICE_DELETED"));
    }
};

TEST_F(UnplugTest, WhileIdle) {
    start("", {}, "pc");
    unplug();
    EXPECT_TRUE(peer().wait_closed());
    EXPECT_EQ(machine().config_read(Stub::kSlot, 0, 4), 0xFFFFFFFFU);
}

TEST_F(UnplugTest, WhileBusyAndPluggedAgain) {
    start(",timeout-ms=100", {}, "pc");
    for (std::uint32_t round = 0; round < 3; round++) {
        stub().submit(round, make_add(1, 2));
        expect_request(round, make_add(1, 2));
        unplug();
        EXPECT_TRUE(peer().wait_closed());
        // The timer of the request in flight must not fire on the removed device.
        machine().clock_step(std::chrono::seconds(1));
        // Nor must the request block a migration.
        EXPECT_TRUE(machine().qmp("migrate", {{"uri", "exec:cat >/dev/null"}}).contains("return"));
        ASSERT_EQ(wait_migration(machine()), "completed");
        // The source leaves the migration state slightly later; it cannot resume before that.
        ASSERT_TRUE(wait_run_state(machine(), "postmigrate"));
        ASSERT_TRUE(machine().qmp("cont").contains("return"));
        // The same socket and the same id can be reused.
        const auto added = machine().qmp("device_add", {{"driver", "vgpu-stub"},
                                                        {"id", "vgpu"},
                                                        {"addr", "4"},
                                                        {"vm_id", kVmId},
                                                        {"shm-size", 0},
                                                        {"timeout-ms", 100},
                                                        {"socket", socket_path()}});
        ASSERT_TRUE(added.contains("return")) << added.dump();
        accept();
        stub_.emplace(machine());
        EXPECT_EQ(stub().reg(VGPU_REG_STATUS), VGPU_STATUS_IDLE);
    }
}

TEST_F(UnplugTest, WhileARequestWaitsForAConnection) {
    machine_ = std::make_unique<Machine>(
        std::vector<std::string>{"-chardev", "socket,id=vg0,reconnect=1,path=" + socket_path(),
                                 "-device",
                                 "vgpu-stub,id=vgpu,addr=4,vm_id=7,shm-size=0,chardev=vg0,"
                                 "connect-wait-ms=100"},
        "pc");
    stub_.emplace(machine());
    stub().submit(1, make_add(1, 2));
    ASSERT_EQ(stub().reg(VGPU_REG_STATUS), VGPU_STATUS_BUSY);
    unplug();
    // The wait of the new device ends after the wait of the removed one would have.
    const auto added = machine().qmp("device_add", {{"driver", "vgpu-stub"},
                                                    {"id", "vgpu"},
                                                    {"addr", "4"},
                                                    {"vm_id", kVmId},
                                                    {"shm-size", 0},
                                                    {"connect-wait-ms", 100},
                                                    {"chardev", "vg0"}});
    ASSERT_TRUE(added.contains("return")) << added.dump();
    stub_.emplace(machine());
    stub().submit(2, make_add(1, 2));
    EXPECT_EQ(wait_error(), VGPU_ERR_MEDIATOR_UNAVAILABLE);
}

// KVM supports this many doorbells, and QEMU exits when it runs out of them.
TEST_F(UnplugTest, MoreThan512QueuesInAVmAreRefused) {
    start("", {}, "pc");
    const auto add = [this](int slot) {
        return machine().qmp("device_add", {{"driver", "vgpu-stub"},
                                            {"id", "many" + std::to_string(slot)},
                                            {"addr", std::to_string(slot)},
                                            {"shm-size", 2 << 20},
                                            {"queues", 64}});
    };
    constexpr int kFirst = 8;
    for (int i = 0; i < 8; i++) {
        const auto added = add(kFirst + i);
        ASSERT_TRUE(added.contains("return")) << added.dump();
    }
    const auto refused = add(kFirst + 8);
    ASSERT_TRUE(refused.contains("error")) << refused.dump();
    EXPECT_NE(refused["error"]["desc"].get<std::string>().find("512 are in use"), std::string::npos)
        << refused.dump();
    // Queues released by one device are available to another.
    ASSERT_TRUE(machine().qmp("device_del", {{"id", "many8"}}).contains("return"));
    machine().out(kEjectPort, 4, 1U << kFirst);
    ASSERT_TRUE(machine().wait_event("DEVICE_DELETED"));
    const auto again = add(kFirst + 8);
    EXPECT_TRUE(again.contains("return")) << again.dump();
}

TEST_F(UnplugTest, WithMessagesWaitingToBeSent) {
    start("", {}, "pc");
    for (std::uint32_t id = 0; id < 2000; id++) {
        send(VGPU_MSG_PING, id);
    }
    stub().submit(1, make_add(1, 2));
    unplug();
    // The peer must see end of file, regardless of data still queued.
    EXPECT_TRUE(peer().wait_closed());
    machine().clock_step(std::chrono::seconds(60));
    EXPECT_EQ(machine().config_read(Stub::kSlot, 0, 4), 0xFFFFFFFFU);
}

TEST_F(UnplugTest, GivenChardevCanBeUsedAgain) {
    listener_.emplace(socket_path());
    machine_ = std::make_unique<Machine>(
        std::vector<std::string>{"-chardev", "socket,id=vg0,reconnect=1,path=" + socket_path(),
                                 "-device",
                                 "vgpu-stub,id=vgpu,addr=4,vm_id=7,shm-size=0,chardev=vg0"},
        "pc");
    stub_.emplace(machine());
    accept();
    unplug();
    const auto added = machine().qmp("device_add", {{"driver", "vgpu-stub"},
                                                    {"id", "vgpu"},
                                                    {"addr", "4"},
                                                    {"vm_id", kVmId},
                                                    {"shm-size", 0},
                                                    {"chardev", "vg0"}});
    ASSERT_TRUE(added.contains("return")) << added.dump();
    stub_.emplace(machine());
    sync();
}

TEST_F(LifecycleTest, QuitWhileBusy) {
    start();
    stub().submit(1, make_add(1, 2));
    expect_request(1, make_add(1, 2));
    machine().process().signal(SIGTERM);
    EXPECT_EQ(machine().process().wait(), 0);
}

TEST_F(LifecycleTest, TracesTellTheStory) {
    start(",timeout-ms=100", {"-trace", "vgpu_stub_*"});
    const auto says = [this](const std::string& text) {
        return machine().process().wait_for_output(text);
    };
    EXPECT_TRUE(says("vgpu_stub_connected vm_id 7"));
    stub().submit(0x11, make_add(1, 2));
    expect_request(0x11, make_add(1, 2));
    EXPECT_TRUE(says("vgpu_stub_doorbell vm_id 7 request_id 0x11 length 40"));
    EXPECT_TRUE(says("vgpu_stub_send vm_id 7 request_id 0x11 length 40"));
    answer(0x11, make_response(0));
    EXPECT_TRUE(says("vgpu_stub_answer vm_id 7 request_id 0x11 length 32"));
    stub().submit(0x12, make_add(1, 2));
    expect_request(0x12, make_add(1, 2));
    machine().clock_step(std::chrono::milliseconds(100));
    EXPECT_TRUE(says("vgpu_stub_error vm_id 7 request_id 0x12 error 0x4"));
    answer(0x12, make_response(0));
    EXPECT_TRUE(says("vgpu_stub_late_answer vm_id 7 request_id 0x12"));
    answer(0x13, make_response(0));
    EXPECT_TRUE(says("vgpu_stub_unknown_answer vm_id 7 request_id 0x13"));
    stub().submit(0x14, {});
    EXPECT_TRUE(says("vgpu_stub_error vm_id 7 request_id 0x14 error 0x9"));
    peer().close();
    EXPECT_TRUE(says("vgpu_stub_disconnected vm_id 7"));
}

}  // namespace
}  // namespace vgpu::test
