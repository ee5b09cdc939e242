// SPDX-License-Identifier: MIT
//
// TokenBucket: allows `burst` at once and `rate` a second on average.
#pragma once

#include <algorithm>
#include <chrono>

namespace vgpu {

class TokenBucket {
  public:
    // Preconditions: rate > 0, burst >= 1. Starts full.
    TokenBucket(double rate, double burst, std::chrono::nanoseconds now)
        : rate_(rate), burst_(burst), level_(burst), at_(now) {}

    // Takes one; false if there is none.
    bool take(std::chrono::nanoseconds now) {
        fill(now);
        if (level_ < 1.0) {
            return false;
        }
        level_ -= 1.0;
        return true;
    }
    // Takes one that is needed in any case. What there was not is a debt, up to another `burst`.
    void charge(std::chrono::nanoseconds now) {
        fill(now);
        level_ = std::max(-burst_, level_ - 1.0);
    }
    // Whether it is as at the start.
    [[nodiscard]] bool full(std::chrono::nanoseconds now) {
        fill(now);
        return level_ >= burst_;
    }
    // When there will be one to take: `now` if there is.
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
