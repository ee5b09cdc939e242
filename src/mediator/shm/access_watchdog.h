// SPDX-License-Identifier: MIT
//
// AccessWatchdog: ends an access of a thread to shared memory that blocks in the kernel. A page
// fault waits until a punch of a hole around that page ends, and then for the next one, for as long
// as a process that shares the memory punches without pause. A punch takes 70 to 130 us per MiB, or
// 15 ms for a page with 65,000 mappings. Nothing but other memory at this address ends the access,
// so a thread of the watchdog maps empty memory there once an access has waited for a page for
// kPeriod: the access then waits for the punch in progress only. What the memory held is lost to
// this process; the caller, to whom the contents are untrusted in any case, stops using it.
//
//   watched thread          enter()   access   leave()
//   watchdog, each kPeriod     the same access as before, and it waits for a page?  --> replace it
//
// An access in progress costs two stores. While the thread makes none, the watchdog sleeps.
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
    // Accesses may nest: pass the result to leave().
    [[nodiscard]] const Range* enter(const Range& range) {
        const Range* const outer = range_.load(std::memory_order_relaxed);
        count_.store(count_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        range_.store(&range, std::memory_order_relaxed);
        if (!awake_.load(std::memory_order_relaxed)) {
            wake();
        }
        return outer;
    }
    // Ends it. Returns true if memory that was accessed since has been replaced.
    [[nodiscard]] bool leave(const Range* outer) {
        range_.store(outer, std::memory_order_relaxed);
        // The watchdog's membarrier(2) orders the store before the load.
        std::atomic_signal_fence(std::memory_order_seq_cst);
        return state_.load(std::memory_order_relaxed) != State::kNone && settle();
    }

  private:
    enum class State : std::uint8_t { kNone, kReplacing, kReplaced };

    void wake();
    bool settle();
    void run();
    // Whether the watched thread waits in the kernel for a page of a memory file.
    [[nodiscard]] bool waits_for_page() const;
    void replace(const Range* range, std::uint64_t count);

    // Of the watched thread: what it accesses, and how many accesses it has begun.
    std::atomic<const Range*> range_ = nullptr;
    std::atomic<std::uint64_t> count_ = 0;
    std::atomic<State> state_ = State::kNone;
    std::atomic<bool> awake_ = false;

    Fd stat_;   // /proc/…/stat of the watched thread
    Fd wchan_;  // and the kernel function that it waits in
    bool works_ = false;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool stop_ = false;  // under mutex_
    std::thread thread_;
};

}  // namespace vgpu
