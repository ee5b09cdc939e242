// SPDX-License-Identifier: MIT
//
// HoldBack: for how long the mediator looks away from somebody, a VM or a process on its socket,
// who makes work for it that costs him nothing. Pure data: the time is handed in.
#pragma once

#include <algorithm>
#include <chrono>

#include "sched/token_bucket.h"

namespace vgpu {

class HoldBack {
  public:
    // So much on average per second, and at once; as much again comes as a debt.
    struct Rate {
        double per_second;
        double burst;
    };
    struct Rates {
        Rate refusals;
        Rate connections;
        Rate idle_synchronizes;
    };

    // What one VM may cause. What is refused, for a limit or for what is wrong with it, and what
    // begins again (resets), costs the mediator as much as what is served. A connection costs up to
    // 0.3 ms, with a hello. SYNCHRONIZEs that had nothing to wait for do nothing, so there is no
    // use in more of them.
    static constexpr Rates kVm{.refusals = {.per_second = 4000, .burst = 400},
                               .connections = {.per_second = 100, .burst = 100},
                               .idle_synchronizes = {.per_second = 100'000, .burst = 10'000}};
    // What one process may cause with all its connections, whatever VM ids they name. More than one
    // VM can, so that one of several VMs behind a process cannot throttle the others. Connections
    // are an exception: 100 handshakes a second take 3 % of the control loop.
    static constexpr Rates kProcess{.refusals = {.per_second = 16'000, .burst = 1600},
                                    .connections = {.per_second = 100, .burst = 200},
                                    .idle_synchronizes = {.per_second = 400'000, .burst = 40'000}};

    HoldBack(const Rates& rates, std::chrono::nanoseconds now)
        : refusals_(rates.refusals.per_second, rates.refusals.burst, now),
          connections_(rates.connections.per_second, rates.connections.burst, now),
          idle_synchronizes_(rates.idle_synchronizes.per_second, rates.idle_synchronizes.burst,
                             now) {}

    // A request was refused, or something was reset.
    void count_refusal(std::chrono::nanoseconds now) { count(refusals_, now); }
    // A connection was opened.
    void count_connection(std::chrono::nanoseconds now) { count(connections_, now); }
    // A SYNCHRONIZE had nothing to wait for.
    void count_idle_synchronize(std::chrono::nanoseconds now) { count(idle_synchronizes_, now); }

    // Nothing that comes from there is to be looked at before this time.
    [[nodiscard]] std::chrono::nanoseconds until() const { return until_; }

  private:
    void count(TokenBucket& bucket, std::chrono::nanoseconds now) {
        bucket.charge(now);
        until_ = std::max(until_, bucket.next(now));
    }

    TokenBucket refusals_;
    TokenBucket connections_;
    TokenBucket idle_synchronizes_;
    std::chrono::nanoseconds until_{0};
};

}  // namespace vgpu
