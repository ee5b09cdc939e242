// SPDX-License-Identifier: MIT
//
// Measures what an attacker in one guest costs a victim in another: checked additions of the victim
// alone, beside a VM that only keeps its processor busy, and beside each kind of attack. The second
// is the control: two guests always compete for the host's cores.
#pragma once

#include <chrono>
#include <cstdint>

namespace vgpu::test {

// Runs each measurement for `length`, by registers and by queue, and prints a table. Returns true
// if no result was wrong, there was no error, and the victim's p99 beside each attack, over at
// least kLeastSamples additions, is at most kMostSlower times the greater of its p99 alone and its
// p99 beside the control.
inline constexpr double kMostSlower = 3;
inline constexpr std::uint64_t kLeastSamples = 100;
bool measure_attacks(std::chrono::seconds length);

}  // namespace vgpu::test
