// SPDX-License-Identifier: MIT
//
// Tests of queues over PCI: detection and validation of BAR2, doorbells in BAR0, several processes
// with one device, and the interrupt line shared by all queues.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "client/include/vgpu.hpp"
#include "client/pci/pci_port.h"
#include "client/testing/fake_host.h"
#include "client/testing/fake_sysfs.h"

namespace vgpu::client::test {
namespace {

using testing::HasSubstr;

const char* const kAddress = "0000:00:04.0";
constexpr std::uint64_t kSize = 1 << 20;
constexpr std::chrono::seconds kLimit{10};

class PciTest : public testing::Test {
  protected:
    PciTest() {
        sysfs.add_with_memory(kAddress, kSize, 4);
        host = std::make_unique<FakeHost>(
            kSize, 4,
            Fd(::open((sysfs.device(kAddress) + "/resource2").c_str(), O_RDWR | O_CLOEXEC)));
        host->start_thread();
    }
    [[nodiscard]] OpenOptions options(bool for_queues = true) const {
        OpenOptions made = sysfs.options();
        made.for_queues = for_queues;
        return made;
    }
    [[nodiscard]] Device open(bool for_queues = true) const {
        auto device = Device::open(options(for_queues));
        EXPECT_TRUE(device) << device.failure().message;
        return std::move(*device);
    }

    FakeSysfs sysfs;
    std::unique_ptr<FakeHost> host;
};

TEST_F(PciTest, FindsSharedMemoryAndUsesIt) {
    Device device = open();
    const ShmInfo info = device.shm_info();
    EXPECT_EQ(info.size, kSize);
    EXPECT_EQ(info.queue_count, 4U);
    EXPECT_EQ(info.generation, 1U);
    EXPECT_EQ(info.has_interrupt, 0);
    EXPECT_EQ(device.properties().vm_id, 4711U);
    auto queue = vgpu::Queue::open(device);
    ASSERT_TRUE(queue) << queue.failure().message;
    EXPECT_EQ(*queue->add(100, 200, kLimit), 300U);
    EXPECT_TRUE(queue->nop(kLimit));
}

TEST_F(PciTest, TheDoorbellIsTheQueuesRegister) {
    Device device = open();
    auto queue = vgpu::Queue::open(device, 2);
    ASSERT_TRUE(queue);
    host->stop_thread();
    const std::uint32_t doorbell = VGPU_REG_QUEUE_DOORBELL + 8;
    sysfs.set_register(kAddress, doorbell, 0);
    // A sleeping host stores a non-zero value here.
    ring::SharedMemory::store_relaxed(host->control(2).doorbell_wanted, std::uint64_t{5});
    ASSERT_TRUE(queue->push_nop());
    EXPECT_EQ(sysfs.register_of(kAddress, doorbell), 0U);
    ASSERT_TRUE(queue->flush());
    EXPECT_EQ(sysfs.register_of(kAddress, doorbell), 1U);
    // Rings once per sleep.
    sysfs.set_register(kAddress, doorbell, 0);
    ASSERT_TRUE(queue->push_nop());
    ASSERT_TRUE(queue->flush());
    EXPECT_EQ(sysfs.register_of(kAddress, doorbell), 0U);
    host->start_thread();
}

TEST_F(PciTest, SeveralProcessesHaveQueuesAndOneHasTheRegisters) {
    Device first = open();
    Device second = open();
    auto one = vgpu::Queue::open(first);
    auto two = vgpu::Queue::open(second);
    ASSERT_TRUE(one && two);
    EXPECT_NE(one->index(), two->index());
    EXPECT_EQ(*one->add(1, 2, kLimit), 3U);
    EXPECT_EQ(*two->add(3, 4, kLimit), 7U);
    {
        const Device whole = open(false);
        // `whole` holds the register lock, so the request is rejected.
        const auto refused = second.nop(std::chrono::milliseconds(1));
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.failure().code, VGPU_E_IN_USE);
        EXPECT_FALSE(Device::open(options(false)));
        EXPECT_TRUE(two->nop(kLimit));
    }
    EXPECT_NE(second.nop(std::chrono::milliseconds(1)).failure().code, VGPU_E_IN_USE);
    EXPECT_FALSE(Device::open(options(false)));
    EXPECT_TRUE(Device::open(options(true)));
}

TEST_F(PciTest, AKilledProcessGivesItsQueuesAndMemoryBack) {
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        auto device = Device::open(options());
        std::vector<vgpu::Queue> queues;
        for (int i = 0; device && i != 4; ++i) {
            auto queue = vgpu::Queue::open(*device, VGPU_QUEUE_ANY, kLimit);
            if (queue) {
                queues.push_back(std::move(*queue));
            }
        }
        auto block = HeapBlock::take(*device, 500'000);
        const char good = queues.size() == 4 && block ? 'y' : 'n';
        (void)!::write(ready[1], &good, 1);
        for (;;) {
            ::pause();
        }
    }
    char good = 0;
    ASSERT_EQ(::read(ready[0], &good, 1), 1);
    EXPECT_EQ(good, 'y');
    Device device = open();
    EXPECT_EQ(vgpu::Queue::open(device).failure().code, VGPU_E_IN_USE);
    EXPECT_EQ(HeapBlock::take(device, 500'000).failure().code, VGPU_E_NO_MEMORY);
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    EXPECT_TRUE(vgpu::Queue::open(device));
    EXPECT_TRUE(HeapBlock::take(device, 500'000));
    ::close(ready[0]);
    ::close(ready[1]);
}

TEST_F(PciTest, WithoutAMediatorThereAreNoQueues) {
    Device device = open();
    sysfs.set_register(kAddress, VGPU_REG_SHM_STATE, 0);
    const auto queue = vgpu::Queue::open(device);
    ASSERT_FALSE(queue);
    EXPECT_EQ(queue.failure().code, VGPU_E_NO_QUEUES);
    EXPECT_THAT(queue.failure().message, HasSubstr("no mediator serves"));
    EXPECT_EQ(device.generation(), 0U);
    sysfs.set_register(kAddress, VGPU_REG_SHM_STATE, VGPU_SHM_ATTACHED);
    EXPECT_TRUE(vgpu::Queue::open(device));
    // A device that was removed.
    sysfs.set_register(kAddress, VGPU_REG_SHM_STATE, 0xFFFFFFFF);
    EXPECT_EQ(vgpu::Queue::open(device).failure().code, VGPU_E_NO_QUEUES);
}

TEST_F(PciTest, ADeviceThatSaysWhatCannotBeHasNoQueues) {
    sysfs.set_register(kAddress, VGPU_REG_QUEUE_COUNT, 65);
    Device device = open();
    EXPECT_EQ(device.shm_info().size, 0U);
    EXPECT_THAT(vgpu::Queue::open(device).failure().message, HasSubstr("does not support"));
    sysfs.set_register(kAddress, VGPU_REG_QUEUE_COUNT, 4);
    sysfs.set_register(kAddress, VGPU_REG_SHM_SIZE_LO, 2 * kSize);
    const auto refused = Device::open(options());
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.failure().message, HasSubstr("resource2 is smaller"));
    // Requests work without shared memory.
    EXPECT_TRUE(Device::open(options(false)));
}

// As in a hot-plug port that reserves too little: no resource2, and a line of zeros in `resource`.
TEST_F(PciTest, WithoutRoomForTheMemorySaysWhatHelps) {
    const std::string none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
    const std::string bar = "0x00000000fea00000 0x00000000fea00fff 0x0000000000040200\n";
    sysfs.write(kAddress, "resource", bar + bar + none + none);
    ASSERT_TRUE(std::filesystem::remove(sysfs.device(kAddress) + "/resource2"));
    for (const bool for_queues : {false, true}) {
        Device device = open(for_queues);
        EXPECT_EQ(device.shm_info().size, 0U);
        const auto queue = vgpu::Queue::open(device);
        ASSERT_FALSE(queue);
        EXPECT_EQ(queue.failure().code, VGPU_E_NO_QUEUES);
        EXPECT_THAT(queue.failure().message, HasSubstr("no address space to the device's 1 MiB"));
        EXPECT_THAT(queue.failure().message, HasSubstr("pref64-reserve=2M"));
        // heap_info() reports the same reason.
        EXPECT_EQ(device.heap_info().failure().message, queue.failure().message);
    }
    // With an address assigned to BAR2, resource2 is used.
    sysfs.write(kAddress, "resource",
                bar + bar + "0x0000000380000000 0x00000003800fffff 0x000000000014220c\n");
    EXPECT_EQ(Device::open(options()).failure().code, VGPU_E_SYSTEM) << "there is no resource2";
    sysfs.write(kAddress, "resource",
                bar + bar + "0x0000000000000000 0x00000000000fffff 0x000000002014220c\n");
    EXPECT_EQ(open().shm_info().size, 0U) << "wanted, and not assigned";
}

// Enabling the device starts the handshake; the process that enables it waits for its end.
TEST_F(PciTest, SwitchingTheDeviceOnWaitsForTheMediator) {
    sysfs.write(kAddress, "enable", "0\n");
    sysfs.set_register(kAddress, VGPU_REG_SHM_STATE, 0);
    std::thread mediator([this] {
        int enabled = 0;
        while (enabled == 0) {
            std::ifstream(sysfs.device(kAddress) + "/enable") >> enabled;
        }
        sysfs.set_register(kAddress, VGPU_REG_SHM_STATE, VGPU_SHM_ATTACHED);
    });
    Device device = open();
    EXPECT_TRUE(vgpu::Queue::open(device));
    mediator.join();
    // Without a mediator the wait is short.
    sysfs.write(kAddress, "enable", "0\n");
    sysfs.set_register(kAddress, VGPU_REG_SHM_STATE, 0);
    const auto begin = std::chrono::steady_clock::now();
    Device alone = open();
    EXPECT_EQ(vgpu::Queue::open(alone).failure().code, VGPU_E_NO_QUEUES);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
}

TEST_F(PciTest, ADeviceOfVersion1HasNoQueues) {
    sysfs.set_register(kAddress, VGPU_REG_CAPABILITIES,
                       VGPU_CAP_BASIC_REQUEST | VGPU_CAP_INTERRUPT | VGPU_CAP_DMA);
    Device device = open();
    const auto queue = vgpu::Queue::open(device);
    ASSERT_FALSE(queue);
    EXPECT_EQ(queue.failure().code, VGPU_E_NO_QUEUES);
    EXPECT_THAT(queue.failure().message, HasSubstr("shm-size"));
}

// --- the interrupt
// --------------------------------------------------------------------------------

class Registers : public RegisterWindow {
  public:
    std::uint64_t read(std::uint32_t offset, std::uint32_t /*width*/) override {
        return values[offset];
    }
    void write(std::uint32_t offset, std::uint32_t /*width*/, std::uint64_t value) override {
        const auto word = static_cast<std::uint32_t>(value);
        const bool clears = offset == VGPU_REG_QUEUE_IRQ_LO || offset == VGPU_REG_QUEUE_IRQ_HI;
        values[offset] = clears ? values[offset] & ~word : word;
    }
    std::map<std::uint32_t, std::uint32_t> values;
};

class Line : public InterruptSource {
  public:
    Expected<void> arm() override { return {}; }
    Expected<bool> wait(Nanoseconds limit) override {
        longest = std::max(longest, limit);
        return woken;
    }
    Nanoseconds longest{0};
    bool woken = true;
};

class InterruptTest : public testing::Test {
  protected:
    QueueInterrupt make(std::uint32_t queue) {
        auto made = std::make_unique<Line>();
        line = made.get();
        return {std::move(made), registers, port, waiting, queue};
    }
    void fall_asleep(std::uint32_t queue) {
        ring::SharedMemory::store_relaxed(host.control(queue).wake_at, std::uint64_t{1});
    }

    FakeHost host{4 << 20, 40};
    FakePort port{host};
    FakePort other{host};
    Registers registers;
    std::atomic<std::uint64_t> waiting{0};
    Line* line = nullptr;
};

TEST_F(InterruptTest, ClearsWhatWouldKeepTheLineUpForNothing) {
    registers.values[VGPU_REG_IRQ_CTRL] = VGPU_IRQ_COMPLETION;
    {
        QueueInterrupt mine = make(3);
        QueueInterrupt also_mine = make(35);
        EXPECT_EQ(registers.values[VGPU_REG_IRQ_CTRL],
                  std::uint32_t{VGPU_IRQ_COMPLETION | VGPU_IRQ_QUEUE});
        // Queue 5: another process sleeps. 6: the sleeper is dead. 35: this process sleeps.
        ASSERT_TRUE(*Claims(other.claims_file()).take(5, 1));
        for (const std::uint32_t queue : {3, 5, 6, 35}) {
            fall_asleep(queue);
        }
        registers.values[VGPU_REG_QUEUE_IRQ_LO] = 0xFF;
        registers.values[VGPU_REG_QUEUE_IRQ_HI] = 0xFF;
        const auto woken = mine.wait(kNever);
        EXPECT_TRUE(woken && *woken);
        EXPECT_EQ(registers.values[VGPU_REG_QUEUE_IRQ_LO], 1U << 5);
        EXPECT_EQ(registers.values[VGPU_REG_QUEUE_IRQ_HI], 1U << 3);
        EXPECT_TRUE(*also_mine.wait(kNever));
        EXPECT_EQ(registers.values[VGPU_REG_QUEUE_IRQ_HI], 0U);
    }
    EXPECT_EQ(waiting.load(), 0U);
}

TEST_F(InterruptTest, NobodySleepsForLong) {
    QueueInterrupt mine = make(0);
    line->woken = false;
    registers.values[VGPU_REG_QUEUE_IRQ_LO] = 1;
    EXPECT_FALSE(*mine.wait(kNever));
    EXPECT_LE(line->longest, std::chrono::milliseconds(100));
    EXPECT_EQ(registers.values[VGPU_REG_QUEUE_IRQ_LO], 1U);
}

}  // namespace
}  // namespace vgpu::client::test
