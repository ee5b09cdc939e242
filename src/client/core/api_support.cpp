// SPDX-License-Identifier: MIT
#include "client/core/api_support.h"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace vgpu::client {

void copy_text(std::span<char> to, const std::string& from) {
    std::size_t length = std::min(from.size(), to.size() - 1);
    while (length < from.size() && length > 0 &&
           (static_cast<unsigned char>(from[length]) & 0xC0) == 0x80) {
        --length;
    }
    std::memcpy(to.data(), from.data(), length);
    to[length] = '\0';
}

int fail(vgpu_failure* why, const Failure& failure) {
    if (why != nullptr) {
        why->code = failure.code;
        why->sys_errno = failure.sys_errno;
        copy_text(why->message, failure.message);
    }
    return failure.code;
}

int fail(vgpu_failure* why, int code) {
    if (why != nullptr) {
        why->code = code;
        why->sys_errno = 0;
        const char* const text = vgpu_code_text(code);
        const std::size_t length = std::min(std::strlen(text), sizeof why->message - 1);
        std::memcpy(why->message, text, length);
        why->message[length] = '\0';
    }
    return code;
}

int bad_argument(vgpu_failure* why, const char* what) {
    return fail(why, {VGPU_E_ARGUMENT, what, 0});
}

Nanoseconds deadline_after(Clock& clock, std::uint32_t timeout_ms) {
    return timeout_ms == VGPU_NO_TIMEOUT ? kNever
                                         : clock.now() + std::chrono::milliseconds(timeout_ms);
}

}  // namespace vgpu::client
