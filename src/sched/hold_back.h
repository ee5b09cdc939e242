// SPDX-License-Identifier: MIT
//
// HoldBack: how long the mediator throttles a VM, or a process on its socket, that causes work at
// no cost to itself. Pure data: the caller passes the time.
#pragma once

#include <algorithm>
#include <chrono>

#include "sched/token_bucket.h"

namespace vgpu {

class HoldBack {
  public:
    // per_second on average, `burst` at once, and up to another `burst` as a debt.
    struct Rate {
        double per_second;
        double burst;
    };
    struct Rates {
        Rate refusals;
        Rate connections;
        Rate idle_synchronizes;
    };

    // Limits of one VM. Rejecting a request, because of a limit or an error in it, and resets cost
    // the mediator as much as serving a request. A connection costs up to 0.3 ms, with a hello. A
    // SYNCHRONIZE with nothing to wait for has no effect, so more of them achieve nothing.
    static constexpr Rates kVm{.refusals = {.per_second = 4000, .burst = 400},
                               .connections = {.per_second = 100, .burst = 100},
                               .idle_synchronizes = {.per_second = 100'000, .burst = 10'000}};
    // Limits of one process with all its connections, whatever VM ids they name: higher than for
    // one VM, so that one of the VMs behind a process cannot throttle the others.
    // Connections are an exception: 100 handshakes a second take 3 % of the control loop.
    static constexpr Rates kProcess{.refusals = {.per_second = 16'000, .burst = 1600},
                                    .connections = {.per_second = 100, .burst = 200},
                                    .idle_synchronizes = {.per_second = 400'000, .burst = 40'000}};

    HoldBack(const Rates& rates, std::chrono::nanoseconds now)
        : refusals_(rates.refusals.per_second, rates.refusals.burst, now),
          connections_(rates.connections.per_second, rates.connections.burst, now),
          idle_synchronizes_(rates.idle_synchronizes.per_second, rates.idle_synchronizes.burst,
                             now) {}

    // A request was rejected, or something was reset.
    void count_refusal(std::chrono::nanoseconds now) { count(refusals_, now); }
    // A connection was opened.
    void count_connection(std::chrono::nanoseconds now) { count(connections_, now); }
    // A SYNCHRONIZE had nothing to wait for.
    void count_idle_synchronize(std::chrono::nanoseconds now) { count(idle_synchronizes_, now); }

    // Time before which nothing from this peer may be processed.
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
