// SPDX-License-Identifier: MIT
//
// Times that the mediator compares and reports are those of the actual events, also after its
// control loop has slept: here a clock advances by seconds during sleep.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "integration/test_mediator.h"
#include "ring/shared_memory.h"
#include "support/memory_peer.h"

namespace vgpu::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// Advances by one microsecond per read, and by continue_turn(). Thread-safe.
class SteppedClock final : public Clock {
  public:
    [[nodiscard]] nanoseconds now() const override { return nanoseconds(time_.fetch_add(1000)); }
    void continue_turn(nanoseconds by) { time_ += by.count(); }

  private:
    mutable std::atomic<std::int64_t> time_{std::int64_t{1'000'000'000'000}};
};

struct TimeAfterSleep : testing::Test {
    SteppedClock clock;
    Settings settings;
    std::unique_ptr<TestMediator> mediator;

    void start() {
        settings.vm_default.limits.requests_per_second = 1;
        settings.vm_default.limits.burst = 1;
        mediator = std::make_unique<TestMediator>(settings, true, &clock);
    }
    // Stops the mediator and returns the VM's counters.
    Counters::Counts counts(std::uint32_t vm_id) {
        mediator->begin_shutdown();
        mediator->join();
        return mediator->counters().vm(vm_id);
    }
};

TEST_F(TimeAfterSleep, RequestsAreLimitedAndMeasuredByIt) {
    start();
    WirePeer peer = mediator->connect(7);
    for (std::uint32_t id = 1; id <= 3; ++id) {
        peer.send_request(id, make_add(id, 1));
        const auto answer = peer.receive();
        ASSERT_TRUE(answer);
        ASSERT_EQ(answer->header.msg_type, VGPU_MSG_RESPONSE)
            << "refused, 2.5 s after the last one";
        EXPECT_EQ(answer->word(0), id + 1);
        clock.continue_turn(milliseconds(2500));
    }
    const auto counted = counts(7);
    EXPECT_EQ(counted.done, 3U);
    EXPECT_LT(counted.longest_wait, milliseconds(100)) << "nothing waited";
}

TEST_F(TimeAfterSleep, CommandsOfQueuesAsWell) {
    start();
    MemoryPeer peer({.vm_id = 7});
    ASSERT_EQ(peer.attach(mediator->path())->status, VGPU_HELLO_TAKEN);
    ASSERT_TRUE(peer.start());
    for (std::uint32_t round = 0; round < 3; ++round) {
        const auto index = peer.submit(peer.command(VGPU_OP_CUDA_KERNEL), {round, 1});
        ASSERT_TRUE(index && peer.wait(*index));
        ASSERT_EQ(peer.reply()->header.status, VGPU_ERR_NONE) << "2.5 s after the last one";
        EXPECT_EQ(peer.reply()->result(0), round + 1);
        // Advance the clock only while the queue sleeps, not during a poll.
        while (ring::SharedMemory::load_acquire(peer.control().doorbell_wanted) == 0) {
            std::this_thread::yield();
        }
        clock.continue_turn(milliseconds(2500));
    }
    const auto counted = counts(7);
    EXPECT_EQ(counted.done, 3U);
    EXPECT_LT(counted.longest_wait, milliseconds(100)) << "nothing waited";
}

}  // namespace
}  // namespace vgpu::test
