// SPDX-License-Identifier: MIT
//
// Figure: one measured value and its optional target.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace vgpu::bench {

struct Figure {
    std::string name;  // e.g. "paced_p99"
    double value = 0;
    std::string unit;
    enum class Bound : std::uint8_t { kNone, kAtMost, kAtLeast } bound = Bound::kNone;
    double target = 0;

    [[nodiscard]] bool reached() const;
};

// {"name", "value", "unit"} and, with a bound, {"target", "bound": "at_most"|"at_least",
// "reached"}.
nlohmann::json to_json(const Figure& figure);

// One line of a table to standard output, with the target and whether it was reached.
void print_figure(const Figure& figure);

}  // namespace vgpu::bench
