// SPDX-License-Identifier: MIT
#include "client/core/response.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>

#include "client/core/api_support.h"

namespace vgpu::client {
namespace {

struct Extents {
    vgpu_response header{};
    std::span<const std::byte> results;
    std::span<const std::byte> data;
};

// Splits a response into its parts. Returns nullopt if its lengths exceed the bytes received.
std::optional<Extents> split(std::span<const std::byte> bytes) {
    Extents parts;
    if (bytes.size() < sizeof parts.header) {
        return std::nullopt;
    }
    std::memcpy(&parts.header, bytes.data(), sizeof parts.header);
    const std::uint64_t results_end =
        sizeof parts.header + std::uint64_t{4} * parts.header.result_count;
    if (results_end > bytes.size()) {
        return std::nullopt;
    }
    parts.results = bytes.subspan(sizeof parts.header, results_end - sizeof parts.header);
    if (parts.header.data_length == 0) {
        return parts;
    }
    const std::uint64_t data_end =
        std::uint64_t{parts.header.data_offset} + parts.header.data_length;
    if (parts.header.data_offset < results_end || data_end > bytes.size()) {
        return std::nullopt;
    }
    parts.data = bytes.subspan(parts.header.data_offset, parts.header.data_length);
    return parts;
}

Failure bad_response(const std::string& what) {
    return {VGPU_E_BAD_RESPONSE,
            "the response is inconsistent (" + what +
                "): this is a bug in the mediator or the device; check the mediator's log",
            0};
}

}  // namespace

std::string text_of(std::span<const std::byte> data) {
    std::string text(reinterpret_cast<const char*>(data.data()), data.size());
    std::replace_if(
        text.begin(), text.end(),
        [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }, ' ');
    while (!text.empty() && text.back() == ' ') {
        text.pop_back();
    }
    return text;
}

Expected<std::vector<std::byte>> encode_request(const vgpu_command& command) {
    vgpu_request header{};
    const std::uint64_t params_end = sizeof header + std::uint64_t{4} * command.param_count;
    const std::uint64_t total = params_end + command.data_length;
    if (total > VGPU_BUF_SIZE) {
        return Failure{VGPU_E_ARGUMENT,
                       "the request would be " + std::to_string(total) +
                           " bytes long, and the device accepts 1024: split it",
                       0};
    }
    if ((command.param_count > 0 && command.params == nullptr) ||
        (command.data_length > 0 && command.data == nullptr)) {
        return Failure{VGPU_E_ARGUMENT, "params or data is null, but its length is not 0", 0};
    }
    header.version = VGPU_PROTOCOL_VERSION;
    header.opcode = command.opcode;
    header.flags = command.flags;
    header.param_count = command.param_count;
    header.data_offset = command.data_length > 0 ? static_cast<std::uint32_t>(params_end) : 0;
    header.data_length = command.data_length;
    std::vector<std::byte> bytes(total);
    std::memcpy(bytes.data(), &header, sizeof header);
    if (command.param_count > 0) {
        std::memcpy(bytes.data() + sizeof header, command.params, params_end - sizeof header);
    }
    if (command.data_length > 0) {
        std::memcpy(bytes.data() + params_end, command.data, command.data_length);
    }
    return bytes;
}

Expected<vgpu_reply> decode_completion(const Completion& completion) {
    const auto parts = split(completion.response_untrusted);
    if (completion.error_code == VGPU_E_BAD_RESPONSE) {
        return bad_response("STATUS is ERROR and ERROR_CODE is 0");
    }
    if (completion.error_code != VGPU_ERR_NONE) {
        const int code = completion.error_code > 0xFF ? VGPU_E_BAD_RESPONSE
                                                      : static_cast<int>(completion.error_code);
        Failure failure{code, completion.why.empty() ? vgpu_code_text(code) : completion.why, 0};
        // With a different status, the buffer may hold an older response.
        if (parts && parts->header.status == completion.error_code && !parts->data.empty()) {
            const std::string why = text_of(parts->data);
            failure.message = why.empty() ? failure.message : why;
        }
        return failure;
    }
    if (!parts) {
        return bad_response("a length field exceeds its " +
                            std::to_string(completion.response_untrusted.size()) + " bytes");
    }
    if (parts->header.version >> 16 != VGPU_PROTOCOL_VERSION >> 16) {
        return bad_response("wrong protocol version");
    }
    if (parts->header.status != 0) {
        return bad_response("STATUS is DONE and the response's status is not 0");
    }
    vgpu_reply reply{};
    if (parts->results.size() > sizeof reply.results || parts->data.size() > VGPU_MAX_DATA) {
        return bad_response("it is longer than any response, with " +
                            std::to_string(completion.response_untrusted.size()) + " bytes");
    }
    reply.exec_time_us = parts->header.exec_time_us;
    reply.result_count = parts->header.result_count;
    std::memcpy(reply.results, parts->results.data(), parts->results.size());
    reply.data_length = static_cast<std::uint32_t>(parts->data.size());
    if (!parts->data.empty()) {
        std::memcpy(reply.data, parts->data.data(), parts->data.size());
    }
    return reply;
}

Expected<vgpu_gpu_info> decode_gpu_info(std::span<const std::uint32_t> results,
                                        std::span<const std::uint8_t> name) {
    if (results.size() < VGPU_INFO_RESULT_COUNT) {
        return Failure{VGPU_E_BAD_RESPONSE,
                       "the device information in the response is too short: update the mediator",
                       0};
    }
    const auto wide = [&results](std::size_t low, std::size_t high) {
        return static_cast<std::uint64_t>(results[high]) << 32 | results[low];
    };
    vgpu_gpu_info info{};
    info.backend = results[VGPU_INFO_BACKEND];
    info.compute_capability = results[VGPU_INFO_COMPUTE_CAPABILITY];
    info.multiprocessors = results[VGPU_INFO_MULTIPROCESSORS];
    info.driver_version = results[VGPU_INFO_DRIVER_VERSION];
    info.memory_total = wide(VGPU_INFO_MEMORY_TOTAL_LO, VGPU_INFO_MEMORY_TOTAL_HI);
    info.memory_free = wide(VGPU_INFO_MEMORY_FREE_LO, VGPU_INFO_MEMORY_FREE_HI);
    copy_text(info.name, {reinterpret_cast<const char*>(name.data()), name.size()});
    return info;
}

}  // namespace vgpu::client
