// SPDX-License-Identifier: MIT
//
// Configuration reload: which settings can change at run time.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "mediator/config/config.h"

namespace vgpu {

// Resets the settings of `next` that cannot change at run time to their running values. Returns the
// names of those that differed.
std::vector<std::string> keep_what_cannot_change(const Config& running, Config& next);

// Returns how the new file differs from the one read before it, one entry per setting, e.g.
// "limits.burst: 20 -> 40" and "limits.burst: 20 -> (not in the file: the default)".
std::vector<std::string> changes_of_file(const Config& running, const Config& next);

// Returns an error if the new file sets nothing although the previous one did: it was probably read
// while being written, and applying it would drop every limit.
Result<void> refuse_emptied(const Config& running, const Config& next, const std::string& path);

}  // namespace vgpu
