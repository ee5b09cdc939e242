// SPDX-License-Identifier: MIT
//
// Victim: well-behaved VMs in a process of their own, measured by what they get from the mediator.
// VM 1 has additions done by requests over the socket, VM 2 by commands in a queue in shared
// memory, each in a thread, with a pause of a millisecond from an answer to the next start. Every
// sum is checked.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "attack.h"
#include "child.h"

namespace vgpu::attack {

// What one path got in one period. Durations in nanoseconds, from submission to answer; an
// addition without an answer counts with the time that it has waited.
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
    // Additions on both paths for `length`, and up to 200 ms more for the last answers.
    Period measure(std::chrono::milliseconds length);

  private:
    Child child_;
};

}  // namespace vgpu::attack
