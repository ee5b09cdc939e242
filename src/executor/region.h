// SPDX-License-Identifier: MIT
//
// Shared memory handling common to all backends: checking and mapping it, and tracking which chains
// of jobs may store their timelines.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "base/mapping.h"
#include "base/result.h"
#include "executor/job.h"

namespace vgpu {

// The descriptor is borrowed and untrusted: it must be a memory file of exactly this size, sealed
// against shrinking and growing, so that no access to a mapping of it can fail later.
Result<void> check_region(int fd, std::uint64_t size);
// Checks the descriptor and maps all of it for reading and writing.
Result<Mapping> map_region(int fd, std::uint64_t size);

// Tracks the chains with a job that ended without storing its timeline value (Job::timeline_run).
class TimelineRuns {
  public:
    // Whether a job that is next in its chain may store its value if it succeeds.
    [[nodiscard]] bool open(const Job& job) const;
    // Call when a job with a timeline has ended, or is going to end, without storing its value.
    void close(const Job& job) { close(job.region, job.chain, job.timeline_run); }
    void close(RegionId region, std::uint64_t chain, std::uint32_t run);
    // Forgets the chains of a region that is detached.
    void forget(RegionId region);

  private:
    struct Closed {
        RegionId region = 0;
        std::uint64_t below = 0;  // runs with smaller numbers are closed
    };
    std::unordered_map<std::uint64_t, Closed> closed_;  // by chain
};

}  // namespace vgpu
