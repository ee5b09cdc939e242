// SPDX-License-Identifier: MIT
#include "mediator/shm/access_watchdog.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>

#include "base/mapping.h"
#include "support/mapped_page.h"
#include "support/memory_peer.h"

namespace vgpu {
namespace {

constexpr std::size_t kSize = 1U << 20U;

class AccessWatchdogTest : public testing::Test {
  protected:
    [[nodiscard]] AccessWatchdog::Range range() const { return {memory.data(), memory.size()}; }
    // Accesses the first page. Returns whether it was replaced.
    bool touch() {
        const AccessWatchdog::Range all = range();
        const auto* const outer = watchdog.enter(all);
        *reinterpret_cast<volatile std::uint64_t*>(memory.data()) = kWord;
        return watchdog.leave(all, outer);
    }
    [[nodiscard]] std::uint64_t in_file() const {
        std::uint64_t word = 0;
        EXPECT_EQ(::pread(file.get(), &word, sizeof word, 0), ssize_t{sizeof word});
        return word;
    }

    static constexpr std::uint64_t kWord = 0x1234;
    Fd file = test::make_memory(kSize, test::kRightSeals);
    Mapping memory = std::move(*Mapping::create(file.get(), kSize, PROT_READ | PROT_WRITE));
    AccessWatchdog watchdog;
};

TEST_F(AccessWatchdogTest, LeavesMemoryThatDoesNotBlock) {
    for (int i = 0; i < 100'000; ++i) {
        ASSERT_FALSE(touch());
    }
    EXPECT_EQ(in_file(), kWord);
}

// A thread that is busy, or waits for something else, within an access.
TEST_F(AccessWatchdogTest, LeavesMemoryOfALongAccess) {
    const AccessWatchdog::Range all = range();
    const auto* const outer = watchdog.enter(all);
    const auto end = std::chrono::steady_clock::now() + 6 * AccessWatchdog::kPeriod;
    while (std::chrono::steady_clock::now() < end) {
    }
    std::this_thread::sleep_for(6 * AccessWatchdog::kPeriod);
    EXPECT_FALSE(watchdog.leave(all, outer));
    ASSERT_FALSE(touch());
    EXPECT_EQ(in_file(), kWord);
}

TEST_F(AccessWatchdogTest, ReplacesMemoryWhosePagesAreTakenAwayAllTheTime) {
    if (test::MappedPage(file.get()).punch() < std::chrono::milliseconds(2)) {
        GTEST_SKIP() << "this machine punches a page with " << test::MappedPage::kMappings
                     << " mappings in less than 2 ms";
    }
    const pid_t attacker = ::fork();
    ASSERT_GE(attacker, 0);
    if (attacker == 0) {
        const test::MappedPage page(file.get());
        for (;;) {
            page.punch();
        }
    }
    // An access has to meet the attacker's punches; the test's time limit bounds the attempts.
    while (!touch()) {
    }
    ::kill(attacker, SIGKILL);
    ::waitpid(attacker, nullptr, 0);
    // The memory is this process's own now.
    const std::uint64_t other = 0x5678;
    ASSERT_EQ(::pwrite(file.get(), &other, sizeof other, 0), ssize_t{sizeof other});
    EXPECT_FALSE(touch());
    EXPECT_EQ(in_file(), other);
}

}  // namespace
}  // namespace vgpu
