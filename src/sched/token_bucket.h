// SPDX-License-Identifier: MIT
//
// TokenBucket: allows `burst` at once and `rate` per second on average.
#pragma once

#include <algorithm>
#include <chrono>

namespace vgpu {

class TokenBucket {
  public:
    // Preconditions: rate > 0, burst >= 1. Starts full.
    TokenBucket(double rate, double burst, std::chrono::nanoseconds now)
        : rate_(rate), burst_(burst), level_(burst), at_(now) {}

    // Takes one token; returns false if there is none.
    bool take(std::chrono::nanoseconds now) {
        fill(now);
        if (level_ < 1.0) {
            return false;
        }
        level_ -= 1.0;
        return true;
    }
    // Takes `amount` tokens unconditionally. Missing tokens are a debt, at most `most_debt`.
    void charge(std::chrono::nanoseconds now, double most_debt, double amount = 1.0) {
        fill(now);
        level_ = std::max(-most_debt, level_ - amount);
    }
    // Returns whether the debt is at least this large.
    [[nodiscard]] bool owes(std::chrono::nanoseconds now, double debt) {
        fill(now);
        return level_ <= -debt;
    }
    // Returns whether the bucket is full, as at the start.
    [[nodiscard]] bool full(std::chrono::nanoseconds now) {
        fill(now);
        return level_ >= burst_;
    }
    // Time at which a token is available: `now` if there is one.
    [[nodiscard]] std::chrono::nanoseconds next(std::chrono::nanoseconds now) {
        fill(now);
        if (level_ >= 1.0) {
            return now;
        }
        return now + std::chrono::ceil<std::chrono::nanoseconds>(
                         std::chrono::duration<double>((1.0 - level_) / rate_));
    }

  private:
    void fill(std::chrono::nanoseconds now) {
        const std::chrono::duration<double> passed = now - at_;
        at_ = now;
        level_ = std::min(burst_, level_ + passed.count() * rate_);
    }

    double rate_;
    double burst_;
    double level_;
    std::chrono::nanoseconds at_;
};

}  // namespace vgpu
