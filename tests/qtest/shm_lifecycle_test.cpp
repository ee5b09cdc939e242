// SPDX-License-Identifier: MIT
//
// Reset, unplugging and migration of a device with shared memory, and resource leaks.
#include <sys/mman.h>

#include "qtest/shm_device.h"

namespace vgpu::test {
namespace {

class ShmLifecycleTest : public ShmDeviceTest {
  protected:
    static constexpr std::uint16_t kEjectPort = 0xAE08;

    // Resets the machine and reconfigures the device, as firmware would.
    void reset() {
        ASSERT_TRUE(machine().qmp("system_reset").contains("return"));
        ASSERT_TRUE(machine().wait_event("RESET"));
        stub_.emplace(machine());
        map_bars();
    }
    void expect_reset() {
        const auto message = receive();
        ASSERT_TRUE(message) << "no reset came";
        EXPECT_EQ(message->header.msg_type, VGPU_MSG_SHM_RESET);
        EXPECT_EQ(message->header.vm_id, kVmId);
        EXPECT_EQ(message->header.request_id, 0U);
        EXPECT_TRUE(message->payload.empty());
        EXPECT_TRUE(message->fds.empty());
    }
    void reset_done(std::uint64_t generation) {
        reply(VGPU_HELLO_TAKEN, generation, VGPU_MSG_SHM_RESET_DONE);
        sync();
    }
    void unplug() {
        ASSERT_TRUE(machine().qmp("device_del", {{"id", "vgpu"}}).contains("return"));
        machine().out(kEjectPort, 4, 1U << Stub::kSlot);
        ASSERT_TRUE(machine().wait_event("DEVICE_DELETED"));
        EXPECT_TRUE(peer().wait_closed());
    }
    void plug() {
        const auto added = machine().qmp("device_add", {{"driver", "vgpu-stub"},
                                                        {"id", "vgpu"},
                                                        {"addr", "4"},
                                                        {"vm_id", kVmId},
                                                        {"pool_id", "B"},
                                                        {"priority", "high"},
                                                        {"shm-size", 1 << 20},
                                                        {"queues", 4},
                                                        {"socket", socket_path()}});
        ASSERT_TRUE(added.contains("return")) << added.dump();
        stub_.emplace(machine());
        map_bars();
        connect();
    }
    bool migration_blocked() {
        return machine().qmp("query-migrate")["return"].contains("blocked-reasons");
    }
    [[nodiscard]] std::string migrate_to() const { return "unix:" + dir_.file("migration"); }
};

TEST_F(ShmLifecycleTest, ResetTellsTheMediatorAndAttachesAgain) {
    start_attached();
    machine().write(kBar2 + 0x80000, 8, 0xAB);
    set(VGPU_REG_IRQ_CTRL, 7);
    enable_msix();
    ring(2);
    reset();
    EXPECT_EQ(reg(VGPU_REG_SHM_STATE), 0U);
    EXPECT_EQ(reg(VGPU_REG_IRQ_CTRL), 0U);
    EXPECT_EQ(reg(VGPU_REG_IRQ_STATUS), 0U);
    EXPECT_EQ(reg(VGPU_REG_QUEUE_IRQ_LO), 0U);
    EXPECT_EQ(machine().read(kBar2 + 0x80000, 8), 0xABU) << "the memory is left as it is";
    expect_reset();
    sync();
    EXPECT_EQ(reg(VGPU_REG_SHM_STATE), 0U) << "not before the mediator is done";
    reset_done(2);
    EXPECT_EQ(reg(VGPU_REG_SHM_STATE), VGPU_SHM_ATTACHED);
    EXPECT_EQ(reg(VGPU_REG_IRQ_STATUS), VGPU_IRQ_SHM_STATE | VGPU_IRQ_QUEUE);
    EXPECT_EQ(reg(VGPU_REG_QUEUE_IRQ_LO), 0xFU);
    interrupt(1);
    ring(1);
    EXPECT_EQ(doorbell(1), 1U);
}

TEST_F(ShmLifecycleTest, AttachedAgainWithTheLastOfSeveralResets) {
    start_attached();
    for (int i = 0; i < 3; i++) {
        reset();
    }
    for (int i = 0; i < 3; i++) {
        expect_reset();
    }
    reset_done(2);
    EXPECT_EQ(reg(VGPU_REG_SHM_STATE), 0U);
    reset_done(3);
    EXPECT_EQ(reg(VGPU_REG_SHM_STATE), 0U);
    reset();
    expect_reset();
    reset_done(4);
    EXPECT_EQ(reg(VGPU_REG_SHM_STATE), 0U);
    reset_done(5);
    EXPECT_EQ(reg(VGPU_REG_SHM_STATE), VGPU_SHM_ATTACHED);
    // One reply too many.
    reply(VGPU_HELLO_TAKEN, 6, VGPU_MSG_SHM_RESET_DONE);
    EXPECT_TRUE(peer().wait_closed());
    EXPECT_TRUE(wait_attached(false));
}

TEST_F(ShmLifecycleTest, ResetBeforeTheHelloIsSettledFollowsIt) {
    start_shm();
    receive_hello();
    reset();
    sync();  // no SHM_RESET yet
    reply(VGPU_HELLO_TAKEN);
    expect_reset();
    sync();
    EXPECT_EQ(reg(VGPU_REG_SHM_STATE), 0U);
    reset_done(2);
    EXPECT_EQ(reg(VGPU_REG_SHM_STATE), VGPU_SHM_ATTACHED);
}

TEST_F(ShmLifecycleTest, ResetThatIsRefusedEndsTheFastPathAlone) {
    start_attached();
    reset();
    reset();
    expect_reset();
    expect_reset();
    reply(VGPU_HELLO_NO_RESOURCES, 0, VGPU_MSG_SHM_RESET_DONE);
    reset_done(3);
    EXPECT_EQ(reg(VGPU_REG_SHM_STATE), 0U);
    reset();
    sync();  // no further requests to the mediator
    stub().submit(1, make_add(1, 2));
    expect_request(1, make_add(1, 2));
    answer(1, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
}

TEST_F(ShmLifecycleTest, ConnectionLostInAResetBeginsAnew) {
    start_attached();
    reset();
    expect_reset();
    peer().close();
    connect();
    take_hello();
    EXPECT_EQ(reg(VGPU_REG_SHM_STATE), VGPU_SHM_ATTACHED);
}

TEST_F(ShmLifecycleTest, UnpluggedWhileInUseAndPluggedAgain) {
    start_attached(",shm-size=1M,queues=4", {}, "pc");
    const std::size_t open = qemu_descriptors();
    for (int round = 0; round < 4; round++) {
        enable_msix();
        interrupt(0);
        ring(1);
        unplug();
        // Descriptors the mediator still holds have no effect.
        interrupt(0);
        interrupt(3);
        auto memory = Mapping::create(hello().memory.get(), 1 << 20, PROT_READ | PROT_WRITE);
        ASSERT_TRUE(memory);
        memory->data()[1 << 19] = std::byte{1};
        EXPECT_EQ(machine().config_read(Stub::kSlot, 0, 4), 0xFFFFFFFFU);
        EXPECT_FALSE(migration_blocked());
        EXPECT_TRUE(wait_qemu_descriptors(open - 9)) << "the memory, and two of each queue";
        plug();
        take_hello();
        EXPECT_EQ(qemu_descriptors(), open) << "round " << round;
    }
}

TEST_F(ShmLifecycleTest, UnpluggedBeforeTheHelloIsSettled) {
    start_shm(",shm-size=1M,queues=4", {}, "pc");
    receive_hello();
    stub().submit(1, make_add(1, 2));
    unplug();
    // The handshake timer must not fire on the removed device.
    plug();
    receive_hello();
    reply(VGPU_HELLO_TAKEN);
    EXPECT_TRUE(wait_attached(true));
}

TEST_F(ShmLifecycleTest, NoDescriptorLeaksWithConnectionsAndResets) {
    start_attached();
    const std::size_t open = qemu_descriptors();
    for (int i = 0; i < 3; i++) {
        peer().close();
        connect();
        take_hello();
        reset();
        expect_reset();
        reset_done(2);
    }
    EXPECT_EQ(qemu_descriptors(), open);
}

// The queue count is checked last, after the memory has been allocated.
TEST_F(ShmLifecycleTest, DeviceThatCannotBeMadeLeavesNothing) {
    machine_ = std::make_unique<Machine>(std::vector<std::string>{}, "pc");
    const auto add = [this](int slot, std::uint32_t queues) {
        const auto reply = machine().qmp("device_add", {{"driver", "vgpu-stub"},
                                                        {"addr", std::to_string(slot)},
                                                        {"shm-size", 2 << 20},
                                                        {"queues", queues}});
        return reply.contains("error") ? reply["error"].value("desc", "") : "";
    };
    for (int slot = 5; slot < 13; slot++) {
        ASSERT_EQ(add(slot, slot == 5 ? 63 : 64), "");
    }
    const std::size_t before = qemu_descriptors();
    for (int i = 0; i < 3; i++) {
        const std::string reason = add(13, 2);
        EXPECT_NE(reason.find("511 are in use"), std::string::npos) << reason;
        EXPECT_TRUE(wait_qemu_descriptors(before)) << qemu_descriptors() << ", not " << before;
    }
}

TEST_F(ShmLifecycleTest, QuitWhileAttached) {
    start_attached();
    enable_msix();
    machine().process().signal(SIGTERM);
    EXPECT_EQ(machine().process().wait(), 0);
}

TEST_F(ShmLifecycleTest, TracesTellTheStory) {
    start_attached(",shm-size=1M,queues=4", {"-trace", "vgpu_stub_*"});
    const auto says = [this](const std::string& text) {
        return machine().process().wait_for_output(text);
    };
    EXPECT_TRUE(says("vgpu_stub_hello vm_id 7 shm_size 0x100000 queues 4"));
    EXPECT_TRUE(
        says("vgpu_stub_hello_answer vm_id 7 type 0x21 status 0 generation 0x1122334455667788"));
    EXPECT_TRUE(says("vgpu_stub_attached vm_id 7 attached 1"));
    interrupt(3);
    EXPECT_TRUE(says("vgpu_stub_queue_interrupt vm_id 7 queue 3"));
    reset();
    EXPECT_TRUE(says("vgpu_stub_shm_reset vm_id 7 unanswered 1"));
    peer().close();
    EXPECT_TRUE(says("vgpu_stub_disconnected vm_id 7"));
}

TEST_F(ShmLifecycleTest, MigrationIsRefusedWhileAttached) {
    start_attached();
    const auto refused = machine().qmp("migrate", {{"uri", "exec:cat >/dev/null"}});
    ASSERT_TRUE(refused.contains("error")) << refused.dump();
    const std::string reason = refused["error"]["desc"];
    EXPECT_NE(reason.find("vgpu-stub (vm_id 7): its shared memory is in use by a mediator"),
              std::string::npos)
        << reason;
    EXPECT_NE(reason.find("shm-size=0"), std::string::npos) << reason;
    // Not blocked during a reset, while the memory is not served, nor after a disconnect.
    reset();
    EXPECT_FALSE(migration_blocked());
    expect_reset();
    reset_done(2);
    EXPECT_TRUE(migration_blocked());
    peer().close();
    ASSERT_TRUE(wait_attached(false));
    EXPECT_FALSE(migration_blocked());
    ASSERT_TRUE(machine().qmp("migrate", {{"uri", "exec:cat >/dev/null"}}).contains("return"));
    EXPECT_EQ(wait_migration(machine()), "completed");
}

TEST_F(ShmLifecycleTest, AttachingDuringAMigrationFailsIt) {
    start_shm();
    receive_hello();
    const auto capability = machine().qmp(
        "migrate-set-capabilities",
        {{"capabilities", {{{"capability", "pause-before-switchover"}, {"state", true}}}}});
    ASSERT_TRUE(capability.contains("return")) << capability.dump();
    ASSERT_TRUE(machine().qmp("migrate", {{"uri", "exec:cat >/dev/null"}}).contains("return"));
    ASSERT_EQ(wait_migration(machine(), "pre-switchover"), "pre-switchover");
    reply(VGPU_HELLO_TAKEN);
    sync();
    ASSERT_TRUE(
        machine().qmp("migrate-continue", {{"state", "pre-switchover"}}).contains("return"));
    EXPECT_EQ(wait_migration(machine()), "failed");
    EXPECT_TRUE(machine().process().wait_for_output(
        "vgpu-stub (vm_id 7): its shared memory is in use by a mediator"));
    EXPECT_EQ(reg(VGPU_REG_SHM_STATE), VGPU_SHM_ATTACHED);
}

// The memory is not served at the source, but is at the destination. The guest must be notified,
// and the mediator there receives the memory only after the guest's BAR2 has arrived.
TEST_F(ShmLifecycleTest, MigratedGuestIsToldOfTheMediatorThere) {
    start_alone(",shm-size=1M,queues=4,pool_id=B,priority=high");
    map_bars();
    set(VGPU_REG_SCRATCH, 0x1234);
    set(VGPU_REG_IRQ_CTRL, 7);
    enable_msix();
    mask_vector(2, true);
    machine().write(kBar2 + 0x80000, 8, 0xAB);

    listener_.emplace(socket_path());
    auto destination = std::make_unique<Machine>(std::vector<std::string>{
        "-device",
        "vgpu-stub,id=vgpu,addr=4,vm_id=7,shm-size=1M,queues=4,pool_id=B,priority=high,socket=" +
            socket_path(),
        "-incoming", migrate_to()});
    connect();
    EXPECT_FALSE(receive(std::chrono::milliseconds(100)));
    ASSERT_TRUE(machine().qmp("migrate", {{"uri", migrate_to()}}).contains("return"));
    ASSERT_EQ(wait_migration(machine()), "completed");
    ASSERT_EQ(wait_migration(*destination), "completed");
    receive_hello();
    reply(VGPU_HELLO_TAKEN);
    sync();
    ASSERT_TRUE(wait_run_state(*destination, "running"));

    machine_ = std::move(destination);  // the guest's device configuration has migrated too
    const auto at = [this](std::uint32_t offset) {
        return static_cast<std::uint32_t>(machine_->read(Stub::kBar0 + offset, 4));
    };
    EXPECT_EQ(at(VGPU_REG_SCRATCH), 0x1234U);
    EXPECT_EQ(at(VGPU_REG_SHM_STATE), VGPU_SHM_ATTACHED);
    EXPECT_EQ(at(VGPU_REG_IRQ_STATUS), VGPU_IRQ_SHM_STATE);
    for (const std::uint32_t vector : {0U, 1U, 3U, 4U}) {
        EXPECT_TRUE(message_came(vector)) << vector;
    }
    EXPECT_FALSE(message_came(2)) << "masked, as the guest had it";
    EXPECT_EQ(machine().read(kBar2 + 0x80000, 8), 0U) << "the contents are not carried";
    stub_.emplace(machine());
    EXPECT_TRUE(vector_pending(2));
    interrupt(0);
    EXPECT_TRUE(wait_message(1));
}

TEST_F(ShmLifecycleTest, MigrationToAnotherSizeIsRefusedThere) {
    for (const std::string other : {"shm-size=1M,queues=5", "shm-size=2M,queues=4", "shm-size=0"}) {
        start_alone(",shm-size=1M,queues=4");
        Machine destination(
            {"-device", "vgpu-stub,addr=4,vm_id=7," + other, "-incoming", migrate_to()});
        ASSERT_TRUE(machine().qmp("migrate", {{"uri", migrate_to()}}).contains("return"));
        const auto status = destination.process().wait();
        EXPECT_TRUE(status && *status != 0) << other;
    }
}

}  // namespace
}  // namespace vgpu::test
