// SPDX-License-Identifier: MIT
//
// What of a configuration can change while the mediator runs.
#pragma once

#include <string>
#include <vector>

#include "mediator/config.h"

namespace vgpu {

// Gives `next` the running values where it differs in what cannot change, and returns the names of
// these settings.
std::vector<std::string> keep_what_cannot_change(const Config& running, Config& next);

}  // namespace vgpu
