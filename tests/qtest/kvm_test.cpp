// SPDX-License-Identifier: MIT
//
// KVM-only behaviour: a doorbell that bypasses QEMU, and a queue interrupt that KVM injects
// directly. A minimal guest rings; its local APIC shows what has arrived. Skipped without a usable
// KVM.
#include <fcntl.h>

#include <fstream>
#include <sstream>
#include <stdexcept>

#include "qtest/shm_device.h"

namespace vgpu::test {
namespace {

class KvmTest : public ShmDeviceTest {
  protected:
    static constexpr std::uint64_t kLocalApic = 0xFEE00000;
    static constexpr std::uint32_t kVector = 0x51;  // of the device's vector 0

    // Creates a machine with an attached device; its vCPU is not running yet.
    void start_kvm(const std::string& machine = "q35") {
        if (!Fd(::open("/dev/kvm", O_RDWR | O_CLOEXEC))) {
            GTEST_SKIP() << "no KVM here";
        }
        listener_.emplace(socket_path());
        try {
            machine_ = std::make_unique<Machine>(
                std::vector<std::string>{"-S", "-bios", firmware(), "-trace", "vgpu_stub_*",
                                         "-device",
                                         "vgpu-stub,id=vgpu,addr=4,vm_id=7,pool_id=B,priority=high,"
                                         "shm-size=1M,queues=4,socket=" +
                                             socket_path()},
                machine, "kvm");
        } catch (const std::runtime_error& error) {
            GTEST_SKIP() << "KVM does not run here: " << error.what();
        }
        stub_.emplace(*machine_);
        map_bars();
        connect();
        take_hello();
        ASSERT_TRUE(this->machine().qmp("cont").contains("return"));
    }

    // Enters 32-bit mode, enables the local APIC, rings the doorbell of queue 1, and halts.
    std::string firmware() {
        std::string image(65536, '\0');
        const auto put = [&image](std::size_t at, std::initializer_list<int> bytes) {
            for (const int byte : bytes) {
                image.at(at++) = static_cast<char>(byte);
            }
        };
        put(0xFFF0, {0xE9, 0x0D, 0xFF});                                // reset: jump to 0xFF00
        put(0xFF00, {0xFA,                                              // cli
                     0x2E, 0x66, 0x0F, 0x01, 0x16, 0x40, 0xFF,          // lgdt cs:[0xFF40]
                     0x0F, 0x20, 0xC0,                                  // mov eax, cr0
                     0x0C, 0x01,                                        // or al, 1
                     0x0F, 0x22, 0xC0,                                  // mov cr0, eax
                     0x66, 0xEA, 0x60, 0xFF, 0xFF, 0xFF, 0x08, 0x00});  // jmp 8:0xFFFFFF60
        put(0xFF40, {0x17, 0x00, 0x48, 0xFF, 0xFF, 0xFF});              // the GDT, at 0xFFFFFF48
        put(0xFF50, {0xFF, 0xFF, 0x00, 0x00, 0x00, 0x9B, 0xCF, 0x00});  // 8: flat code
        put(0xFF58, {0xFF, 0xFF, 0x00, 0x00, 0x00, 0x93, 0xCF, 0x00});  // 16: flat data
        put(0xFF60, {0x66, 0xB8, 0x10, 0x00,                            // mov ax, 16
                     0x8E, 0xD8,                                        // mov ds, ax
                     0xC7, 0x05, 0xF0, 0x00, 0xE0, 0xFE, 0xFF, 0x01, 0x00, 0x00,  // APIC on
                     0xC7, 0x05, 0x04, 0x09, 0x00, 0xE0, 0x01, 0x00, 0x00, 0x00,  // doorbell 1
                     0xF4, 0xEB, 0xFD});                                          // hlt, forever
        std::string path = dir_.file("guest");
        std::ofstream(path) << image;
        return path;
    }

    // Routes the vectors to the local APIC of the vCPU.
    void enable_messages() {
        enable_msix();
        for (std::uint32_t v = 0; v < 5; v++) {
            mask_vector(v, true);
            machine().write(table_entry(v), 4, kLocalApic);
            machine().write(table_entry(v) + 8, 4, kVector + v);
            mask_vector(v, false);
        }
    }
    // Polls until a vector's interrupt is pending in the vCPU's IRR; returns false on time-out.
    bool wait_asked(std::uint32_t vector) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
        const std::string wanted = std::to_string(kVector + vector);
        while (std::chrono::steady_clock::now() < deadline) {
            std::istringstream text(
                machine()
                    .qmp("human-monitor-command", {{"command-line", "info lapic"}})["return"]
                    .get<std::string>());
            for (std::string line; std::getline(text, line);) {
                std::istringstream words(line);
                std::string name;
                words >> name;
                for (std::string word; name == "IRR" && words >> word;) {
                    if (word == wanted) {
                        return true;
                    }
                }
            }
        }
        return false;
    }
    bool says(const std::string& text) { return machine().process().wait_for_output(text); }
    std::size_t said(const std::string& text) {
        const std::string output = machine().process().output();
        std::size_t count = 0;
        for (auto at = output.find(text); at != std::string::npos; at = output.find(text, at + 1)) {
            count++;
        }
        return count;
    }
    bool wait_doorbell(std::uint32_t queue) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
        while (std::chrono::steady_clock::now() < deadline) {
            if (doorbell(queue) != 0) {
                return true;
            }
        }
        return false;
    }
};

TEST_F(KvmTest, DoorbellGoesPastQemu) {
    start_kvm();
    if (IsSkipped()) {
        return;
    }
    EXPECT_TRUE(wait_doorbell(1));
    EXPECT_EQ(said("vgpu_stub_write vm_id 7 offset 0x904"), 0U) << "QEMU has seen it";
    // Accesses by QEMU itself, not by the vCPU, ring through the register file.
    ring(2);
    EXPECT_EQ(doorbell(2), 1U);
}

TEST_F(KvmTest, InterruptGoesPastQemuWhileItsVectorIsOpen) {
    start_kvm();
    if (IsSkipped()) {
        return;
    }
    ASSERT_TRUE(wait_doorbell(1)) << "from then on the APIC is on";
    set(VGPU_REG_QUEUE_IRQ_LO, 0xF);
    enable_messages();
    EXPECT_TRUE(says("vgpu_stub_irqfd vm_id 7 queue 3 on 1"));
    const std::size_t before = said("vgpu_stub_queue_interrupt");
    interrupt(2);
    EXPECT_TRUE(wait_asked(3));
    EXPECT_EQ(said("vgpu_stub_queue_interrupt"), before) << "QEMU has seen it";

    // A masked vector is handled by the main loop.
    mask_vector(1, true);
    interrupt(0);
    EXPECT_TRUE(wait_pending(1));
    mask_vector(1, false);
    EXPECT_TRUE(wait_asked(1));

    // With MSI-X disabled it sets a register bit; with MSI-X enabled again, it is a message.
    disable_msix();
    interrupt(1);
    EXPECT_TRUE(wait_bits(VGPU_REG_QUEUE_IRQ_LO, 2));
    enable_messages();
    interrupt(1);
    EXPECT_TRUE(wait_asked(2));

    // A reset removes all of it.
    const std::size_t added = said(" on 1");
    ASSERT_TRUE(machine().qmp("system_reset").contains("return"));
    ASSERT_TRUE(machine().wait_event("RESET"));
    stub_.emplace(machine());
    map_bars();
    EXPECT_EQ(said(" on 0"), added);
    interrupt(3);
    EXPECT_TRUE(wait_bits(VGPU_REG_QUEUE_IRQ_LO, 8));
}

TEST_F(KvmTest, UnpluggedWhileKvmServesIt) {
    start_kvm("pc");
    if (IsSkipped()) {
        return;
    }
    const std::size_t open = qemu_descriptors();
    enable_messages();
    EXPECT_TRUE(says("vgpu_stub_irqfd vm_id 7 queue 3 on 1"));
    ASSERT_TRUE(machine().qmp("device_del", {{"id", "vgpu"}}).contains("return"));
    machine().out(0xAE08, 4, 1U << Stub::kSlot);
    ASSERT_TRUE(machine().wait_event("DEVICE_DELETED"));
    interrupt(0);
    EXPECT_TRUE(wait_qemu_descriptors(open - 9)) << "the memory, and two of each queue";
    EXPECT_EQ(said(" on 0"), said(" on 1"));
}

}  // namespace
}  // namespace vgpu::test
