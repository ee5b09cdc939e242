// SPDX-License-Identifier: MIT
//
// GiveWay: tells the control loop when to sleep for a moment although it has work. A loop that is
// busy without pause, because a guest keeps it so, occupies its core. What it wakes may have to run
// on that core: the VM whose command has just ended waits for the kernel to preempt the loop, which
// takes milliseconds. So a loop that has woken a peer sleeps now and then for a while after that,
// if its core is contended.
//
// Contended is a core on which the kernel keeps preempting this thread (involuntary context
// switches): where the loop has a core for itself, it does not sleep in this way. While it does
// sleep so, it is hardly preempted, so what was found holds for some seconds. A preemption gives
// the core to one of those that were woken: the loop sleeps only while there were more wake-ups
// than preemptions. One of them alone proves nothing: a peer that is woken again and again preempts
// the loop each time, and the others wait.
//
// Control loop only. Pure but for getrusage(2).
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace vgpu {

class GiveWay {
  public:
    static constexpr std::chrono::microseconds kNap{30};
    // From one nap to the next.
    static constexpr std::chrono::microseconds kApart{75};
    // How long naps go on after a peer was woken.
    static constexpr std::chrono::microseconds kAfterWaking{1000};
    // So many preemptions in each of so many windows, one after the other, make a core contended.
    static constexpr std::int64_t kPreemptions = 3;
    static constexpr unsigned kWindows = 3;
    static constexpr std::chrono::milliseconds kWindow{10};
    static constexpr std::chrono::seconds kContended{10};

    // The loop goes on without sleeping; peers have been woken so many times since the start.
    // Whether it is to sleep for kNap first.
    [[nodiscard]] bool due(std::uint64_t woken, std::chrono::nanoseconds now) {
        if (woken != woken_) {
            owed_ += static_cast<std::int64_t>(woken - woken_);
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
        return owed_ > 0;
    }
    // The loop has slept by itself: what it had woken had its turn.
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
        // Of a longer time it would not be known when they were.
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
    std::int64_t owed_ = 0;  // wake-ups for which there was no preemption yet
    std::chrono::nanoseconds giving_until_{0};
    std::chrono::nanoseconds napped_at_{0};
    std::chrono::nanoseconds window_began_{0};
    std::int64_t preempted_ = 0;  // by the beginning of the window
    std::int64_t seen_ = 0;       // by the last time that a nap was due
    unsigned windows_ = 0;
    std::chrono::nanoseconds contended_until_{0};
};

}  // namespace vgpu
