// SPDX-License-Identifier: MIT
//
// Requests and responses as they stand in a payload. decode_request() checks what every request has
// to satisfy whatever its operation is; which operations and pools exist is not known here.
//
// It never trusts a length: all arithmetic on what the guest sent is done in 64 bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "vgpu_protocol.h"

namespace vgpu {

// An answer of "no": the code the guest reads and the sentence that explains it.
struct Refusal {
    vgpu_error code;
    std::string sentence;
};

// A request whose lengths fit. Params and data lie in the payload it was decoded from.
struct RequestView {
    vgpu_request fixed;
    std::span<const std::byte> params;
    std::span<const std::byte> data;

    // Precondition: index < fixed.param_count.
    [[nodiscard]] std::uint32_t param(std::size_t index) const;
};

// Checks length, version, reserved fields, flags, and that params and data lie in the payload.
// The payload is the caller's private memory: nobody may change it meanwhile.
std::variant<RequestView, Refusal> decode_request(std::span<const std::byte> payload);

// What the payload says is its operation, whatever else is wrong with it; 0 if it is too short.
std::uint32_t opcode_of(std::span<const std::byte> payload);

// Appends a whole RESPONSE message to `out`: ids as in `request_header`, then the response.
// `data` is cut where it would not fit into a payload.
// Precondition: the fixed part and the results fit.
void append_response(std::vector<std::byte>& out, const vgpu_msg_header& request_header,
                     std::uint32_t status, std::span<const std::uint32_t> results,
                     std::string_view data, std::uint32_t exec_time_us);

}  // namespace vgpu
