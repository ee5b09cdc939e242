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
// A sleep of the loop settles all wake-ups, but only if it blocked: a wait that finds events ready
// returns at once, and the woken peers still wait for the core.
//
// Control loop only. Pure data except for the counters.
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace vgpu {

// Counts of context switches of the calling thread.
struct ContextSwitches {
    std::int64_t voluntary = 0;    // it blocked
    std::int64_t involuntary = 0;  // it was preempted

    // getrusage(2); zeros on failure.
    static ContextSwitches of_this_thread() {
        rusage used{};
        if (::getrusage(RUSAGE_THREAD, &used) != 0) {
            return {};
        }
        return {.voluntary = used.ru_nvcsw, .involuntary = used.ru_nivcsw};
    }
};

class GiveWay {
  public:
    using Counters = ContextSwitches (*)();
    static constexpr std::chrono::microseconds kNap{30};
    // Minimum time between naps.
    static constexpr std::chrono::microseconds kApart{150};
    // How long napping continues after a wake-up.
    static constexpr std::chrono::microseconds kAfterWaking{1000};
    // This many preemptions in each of so many consecutive windows make a core contended.
    static constexpr std::int64_t kPreemptions = 3;
    static constexpr unsigned kWindows = 3;
    static constexpr std::chrono::milliseconds kWindow{10};
    static constexpr std::chrono::seconds kContended{10};
    // Upper limit of owed_.
    static constexpr std::int64_t kMostOwed = 64;

    explicit GiveWay(Counters counters = &ContextSwitches::of_this_thread) : counters_(counters) {}

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
        seen_ = counters_().involuntary;
        owed_ = std::max<std::int64_t>(owed_ - (seen_ - before), 0);
        return owed_ > 0 || seen_ == before;
    }
    // To be called before the loop waits for events.
    void sleeping(std::uint64_t woken, std::chrono::nanoseconds now) {
        settled_ = woken;
        contended_ = now < contended_until_;
        if (contended_) {
            blocked_ = counters_().voluntary;
        }
    }
    // To be called after that wait. Returns false if the core is contended and the wait did not
    // block: the peers woken before it still wait for the core.
    [[nodiscard]] bool slept() {
        if (contended_ && counters_().voluntary == blocked_) {
            return false;
        }
        woken_ = settled_;
        owed_ = 0;
        return true;
    }

  private:
    void judge(std::chrono::nanoseconds now) {
        const std::int64_t preempted = counters_().involuntary;
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

    Counters counters_;
    std::uint64_t woken_ = 0;
    std::int64_t owed_ = 0;  // wake-ups not matched by a preemption yet
    std::chrono::nanoseconds giving_until_{0};
    std::chrono::nanoseconds napped_at_{0};
    std::chrono::nanoseconds window_began_{0};
    std::int64_t preempted_ = 0;  // preemptions at the start of the window
    std::int64_t seen_ = 0;       // preemptions when a nap was last due
    std::uint64_t settled_ = 0;   // wake-ups before the last wait
    std::int64_t blocked_ = 0;    // voluntary switches before it
    bool contended_ = false;      // whether the core was contended before it
    unsigned windows_ = 0;
    std::chrono::nanoseconds contended_until_{0};
};

}  // namespace vgpu
