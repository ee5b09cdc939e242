// SPDX-License-Identifier: MIT
//
// The lines of the old file protocol: a request is `pool:priority:vm:num1:num2`, a response the sum
// of the two numbers, or `ERROR 0x06: ` with a code of enum vgpu_error, and a text. See
// protocol.md, section "The file protocol".
//
// Parsing is as lenient as scanf's, which the old system used: white space and a plus sign before a
// number, leading zeros, and CR LF are accepted. A number beyond 32 bits keeps its low 32 bits (one
// beyond 64 bits is first clamped to the nearest 64-bit value), and the sum wraps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace vgpu {

// Names in the folder vmN of VM N.
inline constexpr const char* kRequestFile = "request.txt";
inline constexpr const char* kResponseFile = "response.txt";
// Maximum length of a line, in bytes, with its line break.
inline constexpr std::size_t kMostFileLine = 1024;

struct FileRequest {
    char pool = 'A';            // ASCII letter
    std::uint8_t priority = 0;  // enum vgpu_priority
    std::uint32_t vm_id = 0;
    std::uint32_t a = 0;  // two's complement
    std::uint32_t b = 0;
};

// Parses the content of a request file, with or without its line break. The error text quotes the
// faulty part, made safe for a log.
Result<FileRequest> parse_file_request(std::string_view content);
// With a line break.
std::string file_request_line(const FileRequest& request);

// The line of a response: the sum as a signed number. With a line break.
std::string file_result_line(std::uint32_t sum);
// `code`: enum vgpu_error, not 0. Control characters in the text become blanks; the line is at most
// kMostFileLine bytes long. With a line break.
std::string file_error_line(std::uint32_t code, std::string_view message);

struct FileResponse {
    std::uint32_t sum = 0;
    std::uint32_t code = 0;  // enum vgpu_error; not 0: there is no sum, but a text
    std::string error;
};
// Parses the content of a response file that has its line break.
Result<FileResponse> parse_file_response(std::string_view content);

// Returns the number of a folder "vmN": N is decimal, without leading zeros, at most 2^32 - 1.
// Returns false if the name is not of that form.
bool parse_vm_folder(std::string_view name, std::uint32_t& vm_id);
std::string vm_folder_name(std::uint32_t vm_id);

}  // namespace vgpu
