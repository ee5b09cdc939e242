// SPDX-License-Identifier: MIT
//
// ManualClock: a clock that a test sets.
#pragma once

#include "sched/clock.h"

namespace vgpu {

class ManualClock final : public Clock {
  public:
    [[nodiscard]] std::chrono::nanoseconds now() const override { return time; }
    std::chrono::nanoseconds time{0};
};

}  // namespace vgpu
