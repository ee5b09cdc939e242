// SPDX-License-Identifier: MIT
#include "load.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <string>

namespace vgpu::bench {

double jain_index(std::span<const double> shares) {
    const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
    const double squares = std::inner_product(shares.begin(), shares.end(), shares.begin(), 0.0);
    return squares > 0 ? sum * sum / (static_cast<double>(shares.size()) * squares) : 0;
}

double worst_share_error(std::span<const double> got, std::span<const double> weights) {
    const double all = std::accumulate(got.begin(), got.end(), 0.0);
    const double all_weights = std::accumulate(weights.begin(), weights.end(), 0.0);
    double worst = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
        const double wanted = weights[i] / all_weights;
        const double share = all > 0 ? got[i] / all : 0;
        worst = std::max(worst, std::abs(share - wanted) / wanted);
    }
    return worst;
}

std::optional<double> parse_pss_kib(std::string_view smaps_rollup) {
    constexpr std::string_view kKey = "\nPss:";
    auto at = smaps_rollup.find(kKey);
    if (at == std::string_view::npos) {
        return std::nullopt;
    }
    at = smaps_rollup.find_first_not_of(' ', at + kKey.size());
    if (at == std::string_view::npos) {
        return std::nullopt;
    }
    std::uint64_t kib = 0;
    const std::string_view rest = smaps_rollup.substr(at);
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), kib);
    if (error != std::errc{} ||
        !rest.substr(static_cast<std::size_t>(end - rest.data())).starts_with(" kB")) {
        return std::nullopt;
    }
    return static_cast<double>(kib);
}

std::optional<std::uint64_t> parse_cpu_ticks(std::string_view stat) {
    // The program name is in parentheses and may contain any character, including those and spaces.
    const auto name_end = stat.rfind(')');
    if (name_end == std::string_view::npos) {
        return std::nullopt;
    }
    std::string_view rest = stat.substr(name_end + 1);
    // Field 3, the state, follows the name; 14 and 15 are the times.
    std::uint64_t ticks = 0;
    for (int field = 3; field <= 15; ++field) {
        const auto begin = rest.find_first_not_of(' ');
        if (begin == std::string_view::npos) {
            return std::nullopt;
        }
        const auto end = std::min(rest.find(' ', begin), rest.size());
        const std::string_view word = rest.substr(begin, end - begin);
        if (field >= 14) {
            std::uint64_t value = 0;
            const auto [stop, error] =
                std::from_chars(word.data(), word.data() + word.size(), value);
            if (error != std::errc{} || stop != word.data() + word.size()) {
                return std::nullopt;
            }
            ticks += value;
        }
        rest.remove_prefix(end);
    }
    return ticks;
}

}  // namespace vgpu::bench
