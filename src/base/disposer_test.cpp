// SPDX-License-Identifier: MIT
#include "base/disposer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

namespace vgpu {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Blocks destructors until it is opened.
class Gate {
  public:
    void open() {
        const std::lock_guard lock(mutex_);
        open_ = true;
        changed_.notify_all();
    }
    void pass() {
        std::unique_lock lock(mutex_);
        ++inside_;
        changed_.notify_all();
        changed_.wait(lock, [this] { return open_; });
        ++passed_;
        changed_.notify_all();
    }
    bool wait_inside(int count) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, seconds(10), [&] { return inside_ >= count; });
    }
    bool wait_passed(int count) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, seconds(10), [&] { return passed_ >= count; });
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool open_ = false;
    int inside_ = 0;
    int passed_ = 0;
};

struct Blocking {
    explicit Blocking(std::shared_ptr<Gate> its_gate) : gate(std::move(its_gate)) {}
    Blocking(const Blocking&) = delete;
    Blocking& operator=(const Blocking&) = delete;
    ~Blocking() { gate->pass(); }
    std::shared_ptr<Gate> gate;
};

TEST(Disposer, DestroysOnAnotherThread) {
    struct Noting {
        explicit Noting(std::atomic<std::thread::id>& its_where) : where(its_where) {}
        Noting(const Noting&) = delete;
        Noting& operator=(const Noting&) = delete;
        ~Noting() { where = std::this_thread::get_id(); }
        std::atomic<std::thread::id>& where;
    };
    std::atomic<std::thread::id> where{std::this_thread::get_id()};
    {
        Disposer disposer(Disposer::Limits{.threads = 1, .farewell = seconds(10)});
        const Disposer::Source source = disposer.source();
        source.dispose(std::make_shared<Noting>(where));
    }
    EXPECT_NE(where.load(), std::this_thread::get_id());
}

TEST(Disposer, AnObjectThatBlocksKeepsNoOtherWaiting) {
    const auto blocked = std::make_shared<Gate>();
    const auto free = std::make_shared<Gate>();
    free->open();
    Disposer disposer;
    const Disposer::Source source = disposer.source();
    source.dispose(std::make_shared<Blocking>(blocked));
    ASSERT_TRUE(blocked->wait_inside(1));
    for (int i = 0; i < 3; ++i) {
        source.dispose(std::make_shared<Blocking>(blocked));
        source.dispose(std::make_shared<Blocking>(free));
    }
    // An additional thread takes the objects after one that blocks.
    EXPECT_TRUE(free->wait_passed(2));
    EXPECT_GE(disposer.waiting(), 3U);
    blocked->open();
    EXPECT_TRUE(blocked->wait_passed(4));
    EXPECT_TRUE(free->wait_passed(3));
}

TEST(Disposer, HasNoMoreThreadsThanItMay) {
    const auto gate = std::make_shared<Gate>();
    Disposer disposer(Disposer::Limits{.threads = 2, .farewell = seconds(10)});
    const Disposer::Source source = disposer.source();
    for (int i = 0; i < 5; ++i) {
        source.dispose(std::make_shared<Blocking>(gate));
    }
    ASSERT_TRUE(gate->wait_inside(2));
    EXPECT_EQ(disposer.waiting(), 5U) << "two block and three wait";
    gate->open();
    EXPECT_TRUE(gate->wait_passed(5));
}

TEST(Disposer, ASourceThatBlocksLeavesThreadsToTheOthers) {
    const auto blocked = std::make_shared<Gate>();
    const auto free = std::make_shared<Gate>();
    free->open();
    Disposer disposer(
        Disposer::Limits{.threads = 4, .threads_per_source = 2, .farewell = seconds(10)});
    const Disposer::Source bad = disposer.source();
    const Disposer::Source good = disposer.source();
    for (int i = 0; i < 100; ++i) {
        bad.dispose(std::make_shared<Blocking>(blocked));
    }
    ASSERT_TRUE(blocked->wait_inside(2));
    for (int i = 0; i < 100; ++i) {
        good.dispose(std::make_shared<Blocking>(free));
    }
    EXPECT_TRUE(free->wait_passed(100));
    EXPECT_EQ(bad.waiting(), 100U);
    blocked->open();
    EXPECT_TRUE(blocked->wait_passed(100));
}

TEST(Disposer, TheEndDoesNotWaitForOneThatBlocks) {
    const auto gate = std::make_shared<Gate>();
    {
        Disposer disposer(Disposer::Limits{.threads = 2, .farewell = milliseconds(1)});
        const Disposer::Source source = disposer.source();
        source.dispose(std::make_shared<Blocking>(gate));
        ASSERT_TRUE(gate->wait_inside(1));
    }
    gate->open();
    EXPECT_TRUE(gate->wait_passed(1));
}

}  // namespace
}  // namespace vgpu
