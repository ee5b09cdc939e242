// SPDX-License-Identifier: MIT
//
// The guest library against the mediator, over shared memory: a process instead of a device, every
// operation on the CPU backend, several processes and threads, and the state left when a mediator
// or a process ends. Only the device and its VM are missing.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cli/vgpu/selftest.h"
#include "client/include/vgpu.hpp"
#include "support/process.h"
#include "support/temp_dir.h"

namespace vgpu::test {
namespace {

constexpr std::chrono::seconds kLimit{20};

class QueueLibrary : public testing::Test {
  protected:
    void SetUp() override { start_mediator(); }
    void start_mediator() {
        mediator.emplace(std::vector<std::string>{VGPU_MEDIATOR_PATH, "--backend", "cpu",
                                                  "--socket", dir.file("s"), "--pools", "A,B"});
        ASSERT_TRUE(mediator->wait_for_output("ready")) << mediator->output();
    }
    [[nodiscard]] OpenOptions options(std::uint32_t vm_id = 1) const {
        OpenOptions made;
        made.address = "unix:" + dir.file("s");
        made.vm_id = vm_id;
        made.shm_size = 16 << 20;
        return made;
    }
    [[nodiscard]] Device open(std::uint32_t vm_id = 1) const {
        auto device = Device::open(options(vm_id));
        EXPECT_TRUE(device) << device.failure().message;
        return std::move(*device);
    }

    TempDir dir;
    std::optional<Process> mediator;
};

TEST_F(QueueLibrary, PassesTheSelfTestOfQueuesAndGpu) {
    Device device = open();
    cli::Settings settings;
    settings.json = true;  // no table
    cli::SelfTest test(device, settings);
    cli::check_queues(test);
    EXPECT_EQ(test.lines().size(), 9U);
    cli::check_gpu(test);
    for (const cli::CheckLine& line : test.lines()) {
        EXPECT_EQ(line.result, cli::CheckResult::kPass) << line.name << ": " << line.detail;
    }
}

TEST_F(QueueLibrary, RequestsAndCommandsShareTheVmsBuffers) {
    Device device = open();
    auto queue = Queue::open(device);
    ASSERT_TRUE(queue) << queue.failure().message;
    const auto handle = device.alloc(1000, kLimit);
    ASSERT_TRUE(handle) << handle.failure().message;
    const std::vector<std::byte> bytes(1000, std::byte{0x5A});
    ASSERT_TRUE(queue->copy_to(*handle, 0, bytes, kLimit));
    std::vector<std::byte> back(1000);
    const auto copied = device.copy_from(*handle, 0, back, kLimit);
    ASSERT_TRUE(copied) << copied.failure().message;
    EXPECT_EQ(back, bytes);
    EXPECT_TRUE(queue->free(*handle, kLimit));
    EXPECT_EQ(device.free(*handle, kLimit).failure().code, VGPU_ERR_CUDA_INVALID_HANDLE);
}

TEST_F(QueueLibrary, SynchronizeTellsOfACommandWithoutAReply) {
    Device device = open();
    auto queue = Queue::open(device);
    ASSERT_TRUE(queue);
    ASSERT_TRUE(queue->push_free(12345));
    const auto failed = queue->synchronize(kLimit);
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.failure().code, VGPU_ERR_CUDA_INVALID_HANDLE);
    EXPECT_TRUE(queue->synchronize(kLimit));
}

TEST_F(QueueLibrary, ManyCommandsFromManyThreadsAndVms) {
    std::vector<std::thread> threads;
    for (std::uint32_t vm = 1; vm != 3; ++vm) {
        threads.emplace_back([this, vm] {
            Device device = open(vm);
            std::vector<std::thread> inner;
            for (std::uint32_t thread = 0; thread != 3; ++thread) {
                inner.emplace_back([&device, vm, thread] {
                    auto queue = Queue::open(device);
                    ASSERT_TRUE(queue) << queue.failure().message;
                    for (std::uint32_t i = 0; i != 300; ++i) {
                        const auto sum = queue->add(i * vm, thread, kLimit);
                        ASSERT_TRUE(sum) << sum.failure().message;
                        ASSERT_EQ(*sum, i * vm + thread);
                    }
                });
            }
            for (std::thread& thread : inner) {
                thread.join();
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

TEST_F(QueueLibrary, EveryWayOfWaitingEnds) {
    for (const auto mode : {VGPU_WAIT_AUTO, VGPU_WAIT_POLL, VGPU_WAIT_INTERRUPT}) {
        for (const std::uint32_t spin : {0U, 20U, VGPU_SPIN_ALWAYS}) {
            OpenOptions changed = options();
            changed.wait_mode = mode;
            changed.spin_us = spin;
            auto device = Device::open(changed);
            ASSERT_TRUE(device) << device.failure().message;
            auto queue = Queue::open(*device);
            ASSERT_TRUE(queue) << queue.failure().message;
            for (std::uint32_t i = 0; i != 50; ++i) {
                ASSERT_TRUE(queue->nop(kLimit));
            }
        }
    }
}

TEST_F(QueueLibrary, AMediatorThatDiesIsToldOfAndTheNextOneServes) {
    Device device = open();
    auto queue = Queue::open(device);
    ASSERT_TRUE(queue);
    ASSERT_TRUE(queue->nop(kLimit));
    const std::uint64_t before = device.generation();
    EXPECT_NE(before, 0U);
    const auto handle = queue->alloc(100, kLimit);
    ASSERT_TRUE(handle);

    mediator->signal(SIGKILL);
    ASSERT_TRUE(mediator->wait());
    const auto lost = queue->nop(kLimit);
    ASSERT_FALSE(lost);
    EXPECT_EQ(lost.failure().code, VGPU_E_MEDIATOR_LOST);
    EXPECT_EQ(device.generation(), 0U);
    EXPECT_EQ(Queue::open(device).failure().code, VGPU_ERR_MEDIATOR_UNAVAILABLE);

    ASSERT_NO_FATAL_FAILURE(start_mediator());
    auto again = Queue::open(device);
    ASSERT_TRUE(again) << again.failure().message;
    EXPECT_NE(device.generation(), 0U);
    EXPECT_NE(device.generation(), before);
    EXPECT_EQ(*again->add(1, 2, kLimit), 3U);
    EXPECT_EQ(again->free(*handle, kLimit).failure().code, VGPU_ERR_CUDA_INVALID_HANDLE);
    // The old queue stays lost.
    EXPECT_EQ(queue->nop(kLimit).failure().code, VGPU_E_MEDIATOR_LOST);
}

TEST_F(QueueLibrary, AMediatorThatStopsInOrderEndsWaits) {
    Device device = open();
    auto queue = Queue::open(device);
    ASSERT_TRUE(queue);
    ASSERT_TRUE(queue->nop(kLimit));
    mediator->signal(SIGTERM);
    ASSERT_TRUE(mediator->wait());
    EXPECT_EQ(queue->nop(kLimit).failure().code, VGPU_E_MEDIATOR_LOST);
}

TEST_F(QueueLibrary, TheProgramsRun) {
    const std::string socket = "unix:" + dir.file("s");
    for (const char* const example : {VGPU_QUEUE_EXAMPLE_C, VGPU_QUEUE_EXAMPLE_CPP}) {
        const auto [status, output] = run_program({example, socket});
        EXPECT_EQ(status, 0) << output;
    }
    const auto vgpu = [&](std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), {VGPU_PROGRAM, "--device", socket});
        return run_program(arguments);
    };
    for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
             {"info"},
             {"add", "1", "2"},
             {"selftest", "--gpu"},
             {"bench", "-n", "50"},
             {"bench", "-n", "50", "--path", "queue", "--spin", "10", "--in-flight", "7"},
             {"bench", "-n", "5", "--op", "vector-add", "--size", "100K"},
             {"bench", "-n", "5", "--op", "copy-to", "--in-flight", "4", "--size", "64K"},
             {"bench", "-n", "5", "--op", "copy-from"}}) {
        const auto [status, output] = vgpu(arguments);
        EXPECT_EQ(status, 0) << testing::PrintToString(arguments) << '\n' << output;
    }
    EXPECT_EQ(vgpu({"bench", "--path", "registers", "--op", "copy-to"}).first, 2);
    EXPECT_EQ(vgpu({"bench", "--path", "queue", "--shm-size", "0"}).first, 1);
    const auto [status, output] = vgpu({"bench", "-n", "5", "--shm-size", "0"});
    EXPECT_EQ(status, 0);
    EXPECT_NE(output.find("queue       skipped"), std::string::npos) << output;
}

}  // namespace
}  // namespace vgpu::test
