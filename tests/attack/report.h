// SPDX-License-Identifier: MIT
//
// Results as a table and as JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "measure.h"

namespace vgpu::attack {

// Formats a duration: "74 µs", "1.2 ms", "3.4 s".
std::string duration_text(double nanoseconds);

void print_head();
// Prints one line per path and one per missed bar.
void print_result(const Result& result);

nlohmann::json to_json(const Result& result);

}  // namespace vgpu::attack
