// SPDX-License-Identifier: MIT
//
// Requests into bytes, answers out of bytes. Pure functions: no device, no clock. An answer's
// fields are checked against the bytes that came, in 64 bits, before any of them is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "client/core/transport.h"
#include "client/include/vgpu.h"

namespace vgpu::client {

// VGPU_E_ARGUMENT if it does not fit into VGPU_BUF_SIZE or a pointer is missing.
Outcome<std::vector<std::byte>> encode_request(const vgpu_command& command);

// An answer with status 0, or the failure it stands for: the device's error code, the response's
// status, or VGPU_E_BAD_RESPONSE. The mediator's sentence, if it sent one, is in the message.
Outcome<vgpu_reply> decode_completion(const Completion& completion);

// What GET_DEVICE_INFO has answered. VGPU_E_BAD_RESPONSE.
Outcome<vgpu_gpu_info> decode_gpu_info(std::span<const std::uint32_t> results,
                                       std::span<const std::uint8_t> name);

// The sentence of a failure, fit for a terminal: control characters become blanks.
std::string sentence(std::span<const std::byte> data);

}  // namespace vgpu::client
