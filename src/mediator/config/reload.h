// SPDX-License-Identifier: MIT
//
// What of a configuration can change while the mediator runs.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "mediator/config/config.h"

namespace vgpu {

// Gives `next` the running values where it differs in what cannot change, and returns the names of
// these settings.
std::vector<std::string> keep_what_cannot_change(const Config& running, Config& next);

// How the file that was read last differs from the one before, a setting an entry, e.g.
// "limits.burst: 20 -> 40" and "limits.burst: 20 -> (not in the file: the default)".
std::vector<std::string> changes_of_file(const Config& running, const Config& next);

// A file that sets nothing, after one that did, is more likely one that is being written than one
// that is meant: every limit would go. An error in that case.
Result<void> refuse_emptied(const Config& running, const Config& next, const std::string& path);

}  // namespace vgpu
