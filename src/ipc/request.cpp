// SPDX-License-Identifier: MIT
#include "ipc/request.h"

#include <array>
#include <cassert>
#include <cstring>

#include "ipc/message.h"

namespace vgpu {
namespace {

Refusal invalid(std::string message) {
    return {VGPU_ERR_INVALID_REQUEST, std::move(message)};
}

// Returns the longest prefix of at most `limit` bytes that does not end inside a UTF-8 sequence.
std::string_view cut_utf8(std::string_view text, std::size_t limit) {
    if (text.size() <= limit) {
        return text;
    }
    while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0U) == 0x80U) {
        --limit;
    }
    return text.substr(0, limit);
}

}  // namespace

std::uint32_t RequestView::param(std::size_t index) const {
    assert(index < fixed.param_count);
    std::uint32_t value = 0;
    std::memcpy(&value, params.data() + 4 * index, sizeof value);
    return value;
}

Result<RequestView, Refusal> decode_request(std::span<const std::byte> payload) {
    if (payload.empty()) {
        return Refusal{VGPU_ERR_INVALID_LENGTH, "the request is empty"};
    }
    if (payload.size() < sizeof(vgpu_request)) {
        return invalid("the request has " + std::to_string(payload.size()) +
                       " bytes, fewer than the 32 of its fixed part");
    }
    RequestView request{};
    std::memcpy(&request.fixed, payload.data(), sizeof request.fixed);
    const vgpu_request& fixed = request.fixed;
    if (fixed.version != VGPU_PROTOCOL_VERSION) {
        return invalid("the request's version is not 1.0 (0x00010000)");
    }
    if (fixed.reserved[0] != 0 || fixed.reserved[1] != 0) {
        return invalid("a reserved field of the request is not 0");
    }
    if ((fixed.flags & ~VGPU_FLAGS_KNOWN) != 0) {
        return invalid("the request has a flag that version 1 does not define");
    }
    const std::uint64_t total = payload.size();
    const std::uint64_t params_end =
        sizeof(vgpu_request) + std::uint64_t{fixed.param_count} * sizeof(std::uint32_t);
    if (params_end > total) {
        return invalid("param_count is " + std::to_string(fixed.param_count) +
                       ", but the request is too short for it");
    }
    // Without data the offset has no meaning, and programs leave arbitrary values in it.
    if (fixed.data_length != 0) {
        const std::uint64_t data_end = std::uint64_t{fixed.data_offset} + fixed.data_length;
        if (fixed.data_offset < params_end || data_end > total) {
            return invalid("data_offset " + std::to_string(fixed.data_offset) +
                           " and data_length " + std::to_string(fixed.data_length) +
                           " do not lie between the params and the end of the request");
        }
        request.data = payload.subspan(fixed.data_offset, fixed.data_length);
    }
    request.params = payload.subspan(sizeof(vgpu_request), params_end - sizeof(vgpu_request));
    return request;
}

std::uint32_t opcode_of(std::span<const std::byte> payload) {
    std::uint32_t opcode = 0;
    constexpr std::size_t kAt = offsetof(vgpu_request, opcode);
    if (payload.size() >= kAt + sizeof opcode) {
        std::memcpy(&opcode, payload.data() + kAt, sizeof opcode);
    }
    return opcode;
}

void append_response(std::vector<std::byte>& out, const vgpu_msg_header& request_header,
                     std::uint32_t status, std::span<const std::uint32_t> results,
                     std::string_view data, std::uint32_t exec_time_us) {
    const std::size_t fixed_size = sizeof(vgpu_response) + results.size_bytes();
    assert(fixed_size <= VGPU_MSG_MAX_PAYLOAD);
    data = cut_utf8(data, VGPU_MSG_MAX_PAYLOAD - fixed_size);
    vgpu_response response{};
    response.version = VGPU_PROTOCOL_VERSION;
    response.status = status;
    response.result_count = static_cast<std::uint32_t>(results.size());
    response.data_offset = data.empty() ? 0 : static_cast<std::uint32_t>(fixed_size);
    response.data_length = static_cast<std::uint32_t>(data.size());
    response.exec_time_us = exec_time_us;
    vgpu_msg_header header = request_header;
    header.msg_type = VGPU_MSG_RESPONSE;
    const std::array pieces{std::as_bytes(std::span(&response, 1)), std::as_bytes(results),
                            std::as_bytes(std::span(data))};
    append_message(out, header, pieces);
}

}  // namespace vgpu
