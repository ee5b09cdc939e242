// SPDX-License-Identifier: MIT
//
// Results as a table for people and as JSON for programs.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "measure.h"

namespace vgpu::attack {

// "74 µs", "1.2 ms", "3.4 s".
std::string duration_text(double nanoseconds);

void print_head();
// Two lines, one for each path, and one for each bar that was missed.
void print_result(const Result& result);

nlohmann::json to_json(const Result& result);

}  // namespace vgpu::attack
