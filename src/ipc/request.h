// SPDX-License-Identifier: MIT
//
// Requests and responses as message payloads. decode_request() checks what every request must
// satisfy, whatever its operation; operations and pools are not known here.
//
// Lengths are untrusted: all arithmetic on the guest's values is done in 64 bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "vgpu_protocol.h"

namespace vgpu {

// A rejection: the code that the guest reads, and its error text.
struct Refusal {
    vgpu_error code;
    std::string message;
};

// A request whose lengths are valid. Params and data point into the decoded payload.
struct RequestView {
    vgpu_request fixed;
    std::span<const std::byte> params;
    std::span<const std::byte> data;

    // Precondition: index < fixed.param_count.
    [[nodiscard]] std::uint32_t param(std::size_t index) const;
};

// Checks length, version, reserved fields, flags, and that params and data lie in the payload. The
// payload must be private memory of the caller that does not change meanwhile.
Result<RequestView, Refusal> decode_request(std::span<const std::byte> payload);

// Returns the payload's opcode, even if the rest is invalid; 0 if the payload is too short.
std::uint32_t opcode_of(std::span<const std::byte> payload);

// Appends a complete RESPONSE message to `out`: ids as in `request_header`, then the response.
// Truncates `data` to the maximum payload. Precondition: the fixed part and the results fit.
void append_response(std::vector<std::byte>& out, const vgpu_msg_header& request_header,
                     std::uint32_t status, std::span<const std::uint32_t> results,
                     std::string_view data, std::uint32_t exec_time_us);

}  // namespace vgpu
