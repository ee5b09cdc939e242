// SPDX-License-Identifier: MIT
//
// GiveWay: decides when the control loop yields the core although it has work. A loop that a guest
// keeps busy occupies its core, and the peers that it wakes may have to run there: the VM whose
// command has just ended waits until the kernel preempts the loop, which takes milliseconds. So, on
// a contended core, the loop naps from time to time after it has woken a peer.
//
// A core is contended if the kernel keeps preempting this thread (involuntary context switches); a
// loop that has a core to itself does not nap. Naps suppress preemptions, so the finding is kept
// for kContended. A preemption gives the core to one woken peer. So the loop continues without a
// nap only if there was a preemption since the last check, and as many as wake-ups: a peer that is
// woken repeatedly preempts the loop each time, while the others wait.
//
// Control loop only. Pure data except for getrusage(2).
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace vgpu {

class GiveWay {
  public:
    static constexpr std::chrono::microseconds kNap{30};
    // Minimum time between naps.
    static constexpr std::chrono::microseconds kApart{75};
    // How long napping continues after a wake-up.
    static constexpr std::chrono::microseconds kAfterWaking{1000};
    // This many preemptions in each of so many consecutive windows make a core contended.
    static constexpr std::int64_t kPreemptions = 3;
    static constexpr unsigned kWindows = 3;
    static constexpr std::chrono::milliseconds kWindow{10};
    static constexpr std::chrono::seconds kContended{10};
    // Upper limit of owed_.
    static constexpr std::int64_t kMostOwed = 64;

    // To be called while the loop does not sleep. `woken`: wake-ups of peers since the start.
    // Returns true if the loop should sleep for kNap first.
    [[nodiscard]] bool due(std::uint64_t woken, std::chrono::nanoseconds now) {
        if (woken != woken_) {
            owed_ = std::min(owed_ + static_cast<std::int64_t>(woken - woken_), kMostOwed);
            woken_ = woken;
            giving_until_ = now + kAfterWaking;
        }
        if (now >= giving_until_) {
            owed_ = 0;
            return false;
        }
        if (now - napped_at_ < kApart) {
            return false;
        }
        if (now - window_began_ >= kWindow) {
            judge(now);
        }
        if (now >= contended_until_) {
            return false;
        }
        napped_at_ = now;
        const std::int64_t before = seen_;
        seen_ = preemptions();
        owed_ = std::max<std::int64_t>(owed_ - (seen_ - before), 0);
        return owed_ > 0 || seen_ == before;
    }
    // Records that the loop has slept on its own, which let the woken peers run.
    void slept(std::uint64_t woken) {
        woken_ = woken;
        owed_ = 0;
    }

  private:
    static std::int64_t preemptions() {
        rusage used{};
        return ::getrusage(RUSAGE_THREAD, &used) == 0 ? used.ru_nivcsw : 0;
    }

    void judge(std::chrono::nanoseconds now) {
        const std::int64_t preempted = preemptions();
        // A longer window does not show when the preemptions happened.
        const bool many =
            preempted - preempted_ >= kPreemptions && now - window_began_ < 2 * kWindow;
        windows_ = many ? windows_ + 1 : 0;
        if (windows_ >= kWindows) {
            contended_until_ = now + kContended;
        }
        window_began_ = now;
        preempted_ = preempted;
    }

    std::uint64_t woken_ = 0;
    std::int64_t owed_ = 0;  // wake-ups not matched by a preemption yet
    std::chrono::nanoseconds giving_until_{0};
    std::chrono::nanoseconds napped_at_{0};
    std::chrono::nanoseconds window_began_{0};
    std::int64_t preempted_ = 0;  // preemptions at the start of the window
    std::int64_t seen_ = 0;       // preemptions when a nap was last due
    unsigned windows_ = 0;
    std::chrono::nanoseconds contended_until_{0};
};

}  // namespace vgpu
