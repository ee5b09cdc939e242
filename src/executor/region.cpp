// SPDX-License-Identifier: MIT
#include "executor/region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace vgpu {

Result<void> check_region(int fd, std::uint64_t size) {
    constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;
    struct stat found {};
    if (::fstat(fd, &found) != 0) {
        return Error::from_errno("cannot stat the shared memory", errno);
    }
    const int seals = ::fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & kSeals) != kSeals) {
        return Error{"the shared memory is no memory file whose size is sealed"};
    }
    if (found.st_size < 0 || static_cast<std::uint64_t>(found.st_size) != size || size == 0) {
        return Error{"the shared memory has another size than was said"};
    }
    return {};
}

Result<Mapping> map_region(int fd, std::uint64_t size) {
    if (auto checked = check_region(fd, size); !checked) {
        return std::move(checked).error();
    }
    return Mapping::create(fd, size, PROT_READ | PROT_WRITE);
}

bool TimelineRuns::open(const Job& job) const {
    if (closed_.empty() || job.chain == 0) {
        return true;
    }
    const auto found = closed_.find(job.chain);
    return found == closed_.end() || job.timeline_run >= found->second.below;
}

void TimelineRuns::close(RegionId region, std::uint64_t chain, std::uint32_t run) {
    if (chain == 0) {
        return;
    }
    Closed& closed = closed_[chain];
    closed.region = region;
    closed.below = std::max(closed.below, std::uint64_t{run} + 1);
}

void TimelineRuns::forget(RegionId region) {
    std::erase_if(closed_, [region](const auto& one) { return one.second.region == region; });
}

}  // namespace vgpu
