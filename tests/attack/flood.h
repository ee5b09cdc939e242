// SPDX-License-Identifier: MIT
//
// A peer that sends the same messages without pause.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "attack.h"
#include "vgpu_protocol.h"

namespace vgpu::attack {

// So many copies of a message.
std::vector<std::byte> repeat(const vgpu_msg_header& header, std::span<const std::byte> payload,
                              std::size_t count);

// Sends `block`, which holds `messages` messages, again and again, and reads and drops what comes
// back where `reads` says so. Returns when the mediator has closed the connection. Counts the
// messages.
void flood(int fd, std::span<const std::byte> block, std::uint64_t messages, bool reads,
           const Attacker& attacker);

}  // namespace vgpu::attack
