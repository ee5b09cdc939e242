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
        const std::chrono::duration<double> passed = now - at_;
        at_ = now;
        level_ = std::min(burst_, level_ + passed.count() * rate_);
        if (level_ < 1.0) {
            return false;
        }
        level_ -= 1.0;
        return true;
    }

  private:
    double rate_;
    double burst_;
    double level_;
    std::chrono::nanoseconds at_;
};

}  // namespace vgpu
