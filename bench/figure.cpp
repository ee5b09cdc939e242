// SPDX-License-Identifier: MIT
#include "figure.h"

#include <fmt/core.h>

namespace vgpu::bench {

bool Figure::reached() const {
    switch (bound) {
        case Bound::kAtMost:
            return value <= target;
        case Bound::kAtLeast:
            return value >= target;
        case Bound::kNone:
            break;
    }
    return true;
}

nlohmann::json to_json(const Figure& figure) {
    nlohmann::json entry{{"name", figure.name}, {"value", figure.value}, {"unit", figure.unit}};
    if (figure.bound != Figure::Bound::kNone) {
        entry["target"] = figure.target;
        entry["bound"] = figure.bound == Figure::Bound::kAtMost ? "at_most" : "at_least";
        entry["reached"] = figure.reached();
    }
    return entry;
}

void print_figure(const Figure& figure) {
    std::string target;
    if (figure.bound != Figure::Bound::kNone) {
        target = fmt::format("{} {:g}: {}",
                             figure.bound == Figure::Bound::kAtMost ? "at most" : "at least",
                             figure.target, figure.reached() ? "reached" : "MISSED");
    }
    fmt::print("{:<50}{:>12.2f} {:<12} {}\n", figure.name, figure.value, figure.unit, target);
}

}  // namespace vgpu::bench
