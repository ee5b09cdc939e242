// SPDX-License-Identifier: MIT
//
// Encodes requests and decodes responses. Pure functions: no device, no clock. The fields of a
// response are validated against the bytes received, in 64-bit arithmetic, before use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "client/core/transport.h"
#include "client/include/vgpu.h"

namespace vgpu::client {

// Error: VGPU_E_ARGUMENT if the request exceeds VGPU_BUF_SIZE or a required pointer is null.
Expected<std::vector<std::byte>> encode_request(const vgpu_command& command);

// Returns the reply of a request that succeeded. Otherwise fails with the device's error code or
// VGPU_E_BAD_RESPONSE; the message is the mediator's error text if it sent one.
Expected<vgpu_reply> decode_completion(const Completion& completion);

// Decodes the response of GET_DEVICE_INFO. Error: VGPU_E_BAD_RESPONSE.
Expected<vgpu_gpu_info> decode_gpu_info(std::span<const std::uint32_t> results,
                                        std::span<const std::uint8_t> name);

// Makes an error text safe for a terminal: blanks control characters, trims trailing blanks.
std::string text_of(std::span<const std::byte> data);

}  // namespace vgpu::client
