// SPDX-License-Identifier: MIT
//
// nearest_rank(): which of sorted samples is a percentile, by the nearest-rank method. All programs
// use this one, so their percentiles can be compared.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace vgpu {

// Returns the number, from 1, of the sample at `share` (0 to 1): the least one that at least this
// share of the `count` samples does not exceed. Precondition: count > 0.
inline std::uint64_t nearest_rank(std::uint64_t count, double share) {
    const auto rank = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(count)));
    return std::clamp<std::uint64_t>(rank, 1, count);
}

}  // namespace vgpu
