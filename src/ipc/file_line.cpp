// SPDX-License-Identifier: MIT
#include "ipc/file_line.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <limits>
#include <optional>
#include <system_error>

#include "vgpu_protocol.h"

namespace vgpu {
namespace {

constexpr std::string_view kErrorPrefix = "ERROR 0x";
constexpr std::size_t kCodeDigits = 2;
constexpr std::string_view kBlank = " \t\r\v\f";
constexpr std::string_view kForm = "pool:priority:vm:num1:num2, e.g. A:2:1:100:200";
constexpr std::size_t kMostQuoted = 80;

std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(kBlank);
    if (first == std::string_view::npos) {
        return {};
    }
    return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

bool is_control(char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
}

std::string quoted(std::string_view text) {
    std::string made = "'";
    for (const char c : text.substr(0, kMostQuoted)) {
        made += is_control(c) || static_cast<unsigned char>(c) >= 0x80 ? '?' : c;
    }
    return made + (text.size() > kMostQuoted ? "…'" : "'");
}

// Parses a decimal number, clamped to 64 bits; nothing if it is none.
std::optional<std::int64_t> number_of(std::string_view text) {
    text = trimmed(text);
    if (text.starts_with('+') && !text.starts_with("+-")) {
        text.remove_prefix(1);
    }
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error == std::errc::invalid_argument || end != text.data() + text.size()) {
        return std::nullopt;
    }
    if (error == std::errc::result_out_of_range) {
        return text.starts_with('-') ? std::numeric_limits<std::int64_t>::min()
                                     : std::numeric_limits<std::int64_t>::max();
    }
    return number;
}

Error bad(std::string what) {
    return Error{std::move(what), EINVAL};
}

}  // namespace

Result<FileRequest> parse_file_request(std::string_view content) {
    const auto end = std::min(content.find('\n'), content.size());
    const std::string_view line = trimmed(content.substr(0, end));
    if (content.substr(end).find_first_not_of(" \t\r\n") != std::string_view::npos) {
        return bad("the request has more than one line: write one, and wait for its response");
    }
    std::array<std::string_view, 5> fields{};
    std::size_t count = 0;
    for (std::string_view rest = line;;) {
        const auto colon = rest.find(':');
        if (count == fields.size()) {
            return bad(quoted(line) + " has more than five fields: write " + std::string(kForm));
        }
        fields.at(count++) = rest.substr(0, colon);
        if (colon == std::string_view::npos) {
            break;
        }
        rest.remove_prefix(colon + 1);
    }
    if (count != fields.size()) {
        return bad(quoted(line) + " is not a request: write " + std::string(kForm));
    }
    FileRequest request;
    const std::string_view pool = trimmed(fields[0]);
    const bool letter = pool.size() == 1 &&
                        ((pool[0] >= 'A' && pool[0] <= 'Z') || (pool[0] >= 'a' && pool[0] <= 'z'));
    if (!letter) {
        return bad("pool " + quoted(pool) + " is not a letter");
    }
    request.pool = pool[0];
    std::array<std::int64_t, 4> numbers{};
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        const auto number = number_of(fields.at(i + 1));
        if (!number) {
            return bad(quoted(fields.at(i + 1)) + " is not a whole number: write " +
                       std::string(kForm));
        }
        numbers.at(i) = *number;
    }
    if (numbers[0] < 0 || numbers[0] >= VGPU_PRIORITY_COUNT) {
        return bad("priority " + std::to_string(numbers[0]) +
                   " does not exist: 0 is low, 1 medium, 2 high");
    }
    if (numbers[1] < 0 || numbers[1] > std::numeric_limits<std::uint32_t>::max()) {
        return bad("VM " + std::to_string(numbers[1]) + " does not exist");
    }
    request.priority = static_cast<std::uint8_t>(numbers[0]);
    request.vm_id = static_cast<std::uint32_t>(numbers[1]);
    request.a = static_cast<std::uint32_t>(numbers[2]);
    request.b = static_cast<std::uint32_t>(numbers[3]);
    return request;
}

std::string file_request_line(const FileRequest& request) {
    std::string line(1, request.pool);
    for (const std::int64_t number : {std::int64_t{request.priority}, std::int64_t{request.vm_id},
                                      std::int64_t{static_cast<std::int32_t>(request.a)},
                                      std::int64_t{static_cast<std::int32_t>(request.b)}}) {
        line += ':' + std::to_string(number);
    }
    return line + '\n';
}

std::string file_result_line(std::uint32_t sum) {
    return std::to_string(static_cast<std::int32_t>(sum)) + '\n';
}

std::string file_error_line(std::uint32_t code, std::string_view message) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    std::string line(kErrorPrefix);
    line += kDigits[code >> 4 & 0xF];
    line += kDigits[code & 0xF];
    line += ": ";
    line += message;
    std::replace_if(line.begin(), line.end(), is_control, ' ');
    if (line.size() >= kMostFileLine) {
        line.resize(kMostFileLine - 1);
    }
    return line + '\n';
}

Result<FileResponse> parse_file_response(std::string_view content) {
    const std::string_view line = trimmed(content.substr(0, content.find('\n')));
    FileResponse response;
    if (line.starts_with(kErrorPrefix)) {
        const std::string_view rest = line.substr(kErrorPrefix.size());
        const std::string_view digits = rest.substr(0, kCodeDigits);
        const auto [end, error] =
            std::from_chars(digits.data(), digits.data() + digits.size(), response.code, 16);
        if (error != std::errc{} || end != digits.data() + kCodeDigits || response.code == 0 ||
            rest.substr(kCodeDigits, 2) != ": ") {
            return bad(quoted(line) + " is not a response");
        }
        response.error = rest.substr(kCodeDigits + 2);
        std::replace_if(response.error.begin(), response.error.end(), is_control, ' ');
        return response;
    }
    const auto number = number_of(line);
    if (!number) {
        return bad(quoted(line) + " is not a response");
    }
    response.sum = static_cast<std::uint32_t>(*number);
    return response;
}

bool parse_vm_folder(std::string_view name, std::uint32_t& vm_id) {
    if (!name.starts_with("vm") || (name.size() > 3 && name[2] == '0')) {
        return false;
    }
    name.remove_prefix(2);
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), vm_id);
    return error == std::errc{} && end == name.data() + name.size();
}

std::string vm_folder_name(std::uint32_t vm_id) {
    return "vm" + std::to_string(vm_id);
}

}  // namespace vgpu
