// SPDX-License-Identifier: MIT
//
// Numbers in user input, parsed the same way by every program: decimal without leading zeros, or
// hexadecimal with 0x. "010" is rejected rather than read as 8 or as 10, because users mean either.
// The whole text must be the number: no spaces, no trailing text, no overflow.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <system_error>

namespace vgpu {

// A non-negative integer without a sign.
inline std::optional<std::uint64_t> parse_number(std::string_view text) {
    int base = 10;
    if (text.starts_with("0x") || text.starts_with("0X")) {
        text.remove_prefix(2);
        base = 16;
    } else if (text.size() > 1 && text.front() == '0') {
        return std::nullopt;
    }
    std::uint64_t value = 0;
    const char* const end = text.data() + text.size();
    const auto [last, error] = std::from_chars(text.data(), end, value, base);
    return error == std::errc{} && last == end ? std::optional(value) : std::nullopt;
}

// Same, with an optional leading sign.
inline std::optional<std::int64_t> parse_signed_number(std::string_view text) {
    const bool negative = text.starts_with('-');
    if (negative || text.starts_with('+')) {
        text.remove_prefix(1);
    }
    const auto magnitude = parse_number(text);
    if (!magnitude ||
        *magnitude > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        return std::nullopt;
    }
    const auto value = static_cast<std::int64_t>(*magnitude);
    return negative ? -value : value;
}

// Like parse_number(), or a decimal fraction such as 0.25; no exponent.
inline std::optional<double> parse_fraction(std::string_view text) {
    const std::size_t point = text.find('.');
    if (point == std::string_view::npos) {
        const auto whole = parse_number(text);
        return whole ? std::optional(static_cast<double>(*whole)) : std::nullopt;
    }
    const std::string_view whole = text.substr(0, point);
    const std::string_view rest = text.substr(point + 1);
    const auto digits = [](std::string_view part) {
        return !part.empty() &&
               std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    };
    if (!digits(whole) || !digits(rest) || (whole.size() > 1 && whole.front() == '0')) {
        return std::nullopt;
    }
    double value = 0;
    const char* const end = text.data() + text.size();
    const auto [last, error] = std::from_chars(text.data(), end, value, std::chars_format::fixed);
    return error == std::errc{} && last == end ? std::optional(value) : std::nullopt;
}

// Bytes: a number as in parse_number(), optionally followed by K, M or G (powers of 1024).
inline std::optional<std::uint64_t> parse_size(std::string_view text) {
    constexpr std::string_view kUnits = "KMG";
    unsigned shift = 0;
    if (const auto at = text.empty() ? std::string_view::npos : kUnits.find(text.back());
        at != std::string_view::npos) {
        shift = 10 * (static_cast<unsigned>(at) + 1);
        text.remove_suffix(1);
    }
    const auto number = parse_number(text);
    return number && *number <= std::numeric_limits<std::uint64_t>::max() >> shift
               ? std::optional(*number << shift)
               : std::nullopt;
}

}  // namespace vgpu
