// SPDX-License-Identifier: MIT
//
// AccessWatchdog: ends an access of a thread to shared memory that blocks in the kernel. A page
// fault waits until a punch of a hole around that page ends, and then for the next one, for as long
// as a process that shares the memory punches without pause. A punch takes 70 to 130 us per MiB, or
// 15 ms for a page with 65,000 mappings. Nothing but other memory at this address ends the access,
// so a thread of the watchdog maps empty memory there once an access takes one to two kPeriods and
// waits for a page: it then waits for the punch in progress only. What the memory held is lost to
// this process; the caller, to whom the contents are untrusted in any case, stops using it.
//
//   watched thread          enter()   access   leave()
//   watchdog, each kPeriod     the same access as before, and it waits for a page?  --> replace it
//
// An access costs three stores. While the thread makes none, the watchdog sleeps.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>

#include "base/fd.h"

namespace vgpu {

class AccessWatchdog {
  public:
    static constexpr std::chrono::milliseconds kPeriod{5};

    // Memory mapped at this address: whole pages.
    struct Range {
        std::byte* data = nullptr;
        std::size_t size = 0;
    };

    // Watches the calling thread, which makes all calls. Throws std::system_error if no thread is
    // available. Without /proc or membarrier(2), nothing is ever replaced.
    AccessWatchdog();
    AccessWatchdog(const AccessWatchdog&) = delete;
    AccessWatchdog& operator=(const AccessWatchdog&) = delete;
    ~AccessWatchdog();

    // Begins an access within `range`, which has to stay mapped until leave(); borrowed until then.
    // Accesses may nest, in other ranges: pass the result to leave().
    [[nodiscard]] const Range* enter(const Range& range) {
        const Range* const outer = range_.load(std::memory_order_relaxed);
        count_.store(count_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        range_.store(&range, std::memory_order_release);
        // The watchdog's membarrier(2) orders the stores before the load.
        std::atomic_signal_fence(std::memory_order_seq_cst);
        if (!awake_.load(std::memory_order_relaxed)) {
            wake();
        }
        return outer;
    }
    // Ends the access within `range`. Returns true if that memory has been replaced.
    [[nodiscard]] bool leave(const Range& range, const Range* outer) {
        std::atomic_signal_fence(std::memory_order_seq_cst);
        range_.store(outer, std::memory_order_relaxed);
        // As in enter().
        std::atomic_signal_fence(std::memory_order_seq_cst);
        return state_.load(std::memory_order_relaxed) != State::kNone && settle(range);
    }

  private:
    enum class State : std::uint8_t { kNone, kReplacing, kReplaced };

    void wake();
    bool settle(const Range& range);
    void run();
    // Whether the watched thread waits in the kernel for a page of a memory file.
    [[nodiscard]] bool waits_for_page() const;
    void replace(const Range* range, std::uint64_t count);

    // Of the watched thread: what it accesses, and how many accesses it has begun.
    std::atomic<const Range*> range_ = nullptr;
    std::atomic<std::uint64_t> count_ = 0;
    std::atomic<State> state_ = State::kNone;
    std::atomic<bool> awake_ = false;
    const Range* replaced_ = nullptr;  // under mutex_; if state_ is kReplaced

    Fd stat_;   // /proc/…/stat of the watched thread
    Fd wchan_;  // and the kernel function that it waits in
    bool works_ = false;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool stop_ = false;  // under mutex_
    std::thread thread_;
};

}  // namespace vgpu
