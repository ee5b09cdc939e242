// SPDX-License-Identifier: MIT
//
// HoldBack: how long the mediator throttles a VM, or a process on its socket, that causes work at
// no cost to itself. Pure data: the caller passes the time.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>

#include "sched/token_bucket.h"

namespace vgpu {

class HoldBack {
  public:
    // per_second on average, `burst` at once, and beyond that at most `debt`, so that a throttle
    // lasts debt / per_second seconds at most.
    struct Rate {
        double per_second;
        double burst;
        double debt;
    };
    struct Rates {
        Rate refusals;
        Rate connections;
        Rate idle_synchronizes;
    };

    // Limits of one VM. Rejecting a request, because of a limit or an error in it, and resets cost
    // the mediator as much as serving a request. A connection costs up to 0.3 ms, with a hello. A
    // SYNCHRONIZE with nothing to wait for has no effect, so more of them achieve nothing.
    static constexpr Rates kVm{
        .refusals = {.per_second = 4000, .burst = 400, .debt = 400},
        .connections = {.per_second = 100, .burst = 100, .debt = 50},
        .idle_synchronizes = {.per_second = 100'000, .burst = 10'000, .debt = 10'000}};
    // Limits of one process with all its connections, whatever VM ids they name: higher than for
    // one VM, so that one of the VMs behind a process cannot throttle the others. Connections are
    // an exception: 100 handshakes a second take 3 % of the control loop. Their debt is small,
    // because a throttled handshake must not exceed the device's time limit of 2 s.
    static constexpr Rates kProcess{
        .refusals = {.per_second = 16'000, .burst = 1600, .debt = 1600},
        .connections = {.per_second = 100, .burst = 200, .debt = 50},
        .idle_synchronizes = {.per_second = 400'000, .burst = 40'000, .debt = 40'000}};
    // The same for a process that may have so many connections: it may open all of them at once.
    static constexpr Rates of_process(std::size_t connections) {
        Rates rates = kProcess;
        rates.connections.burst =
            std::max(rates.connections.burst, static_cast<double>(connections));
        return rates;
    }

    HoldBack(const Rates& rates, std::chrono::nanoseconds now)
        : refusals_(rates.refusals, now),
          connections_(rates.connections, now),
          idle_synchronizes_(rates.idle_synchronizes, now) {}

    // A request was rejected, or a queue was reset.
    void count_refusal(std::chrono::nanoseconds now) { count(refusals_, now); }
    // A device with this many queues was reset, which costs as much as some rejections.
    void count_reset(std::chrono::nanoseconds now, std::size_t queues) {
        count(refusals_, now, 1.0 + static_cast<double>(queues) * kRefusalsPerReset);
    }
    // A connection was opened.
    void count_connection(std::chrono::nanoseconds now) { count(connections_, now); }
    // A SYNCHRONIZE had nothing to wait for.
    void count_idle_synchronize(std::chrono::nanoseconds now) { count(idle_synchronizes_, now); }

    // Time before which nothing from this peer may be processed.
    [[nodiscard]] std::chrono::nanoseconds until() const { return until_; }
    // Total time for which this peer has been throttled.
    [[nodiscard]] std::chrono::nanoseconds total() const { return total_; }
    // Returns when a connection that is throttled until then is to be read. Connections take turns
    // of kTurn: if all were read at once, the others would wait for all of them.
    [[nodiscard]] std::chrono::nanoseconds reserve_turn(std::chrono::nanoseconds until) {
        next_turn_ = std::max(next_turn_ + kTurn, until);
        return next_turn_;
    }

    // Returns true if connections have exceeded their rate by all the debt there may be.
    [[nodiscard]] bool connections_overdrawn(std::chrono::nanoseconds now) {
        return connections_.bucket.owes(now, connections_.debt - 1);
    }

  private:
    // Of each queue of a reset device: about 1 us, with its interrupt.
    static constexpr double kRefusalsPerReset = 0.5;
    static constexpr std::chrono::milliseconds kTurn{1};

    struct Budget {
        Budget(const Rate& rate, std::chrono::nanoseconds now)
            : bucket(rate.per_second, rate.burst, now), debt(rate.debt) {}

        TokenBucket bucket;
        double debt;
    };
    void count(Budget& budget, std::chrono::nanoseconds now, double amount = 1.0) {
        budget.bucket.charge(now, budget.debt, amount);
        const auto before = std::max(until_, now);
        until_ = std::max(until_, budget.bucket.next(now));
        total_ += std::max(until_ - before, std::chrono::nanoseconds(0));
    }

    Budget refusals_;
    Budget connections_;
    Budget idle_synchronizes_;
    std::chrono::nanoseconds until_{0};
    std::chrono::nanoseconds total_{0};
    std::chrono::nanoseconds next_turn_{0};
};

}  // namespace vgpu
