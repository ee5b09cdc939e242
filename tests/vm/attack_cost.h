// SPDX-License-Identifier: MIT
//
// What an attacker in one guest costs a victim in another: additions of the victim, each checked,
// alone, beside a VM that only keeps its processor busy, and beside each kind of attack. The second
// is the control: two guests compete for the host's cores whatever they do.
#pragma once

#include <chrono>
#include <cstdint>

namespace vgpu::test {

// Measures each for so long, by registers and by queue, and prints a table. True if no result was
// wrong, there was no error, and the victim's p99 beside each attack, over at least kLeastSamples
// additions, is at most kMostSlower times its p99 alone or beside the control, whichever is
// greater.
inline constexpr double kMostSlower = 3;
inline constexpr std::uint64_t kLeastSamples = 100;
bool measure_attacks(std::chrono::seconds length);

}  // namespace vgpu::test
