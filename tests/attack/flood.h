// SPDX-License-Identifier: MIT
//
// Continuously sends the same messages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "attack.h"
#include "vgpu_protocol.h"

namespace vgpu::attack {

// Returns `count` copies of a message.
std::vector<std::byte> repeat(const vgpu_msg_header& header, std::span<const std::byte> payload,
                              std::size_t count);

// Sends `block` of `messages` messages repeatedly, and counts the messages. Reads and discards
// responses if `reads`. Returns when the mediator has closed the connection.
void flood(int fd, std::span<const std::byte> block, std::uint64_t messages, bool reads,
           const Attacker& attacker);

}  // namespace vgpu::attack
