// SPDX-License-Identifier: MIT
//
// What every backend does with a VM's shared memory whatever its device is: taking it, and knowing
// which chains of jobs may store their timelines.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "base/mapping.h"
#include "base/result.h"
#include "executor/operation.h"

namespace vgpu {

// The descriptor is borrowed, and not trusted: it has to be a memory file of exactly this size that
// nobody can shrink or grow any more, so that no access to a mapping of it can fail later.
Result<void> check_region(int fd, std::uint64_t size);
// Checks it and maps all of it, for reading and writing.
Result<Mapping> map_region(int fd, std::uint64_t size);

// Which chains have a job that ended without storing its timeline value (Job::timeline_run).
class TimelineRuns {
  public:
    // Whether a job, whose turn it is in its chain, may store its value if it succeeds.
    [[nodiscard]] bool open(const Job& job) const;
    // A job that has a place for its value has ended, or is going to end, without storing it.
    void close(const Job& job) { close(job.region, job.chain, job.timeline_run); }
    void close(RegionId region, std::uint64_t chain, std::uint32_t run);
    // The region is detached, and with it its chains are gone.
    void forget(RegionId region);

  private:
    struct Closed {
        RegionId region = 0;
        std::uint64_t below = 0;  // closed are the runs with smaller numbers
    };
    std::unordered_map<std::uint64_t, Closed> closed_;  // by chain
};

}  // namespace vgpu
