// SPDX-License-Identifier: MIT
//
// Victim: well-behaved VMs in their own process, whose service by the mediator is measured. VM 1
// runs additions by requests over the socket, VM 2 by commands in a shared-memory queue, each on
// its own thread, with a pause of one millisecond between a response and the next submission. Every
// sum is checked.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "attack.h"
#include "child.h"

namespace vgpu::attack {

// Results of one path in one period. Durations in nanoseconds, from submission to response; an
// unanswered addition counts with the time that it has waited.
struct PathPeriod {
    std::uint64_t served = 0;
    std::uint64_t wrong = 0;
    std::uint64_t unanswered = 0;  // at most 1: the path ends with it
    double p50 = 0;
    double p99 = 0;
    double longest = 0;
    std::string failure;  // why the path ended before the period did; empty if it did not
};

struct Period {
    PathPeriod requests;
    PathPeriod queues;
};

class Victim {
  public:
    // Forks. Throws std::system_error.
    Victim();
    // Both throw std::runtime_error if the victim fails.
    void connect(const Place& place);
    // Runs additions on both paths for `length`, plus up to 200 ms for the last responses.
    Period measure(std::chrono::milliseconds length);

  private:
    Child child_;
};

}  // namespace vgpu::attack
