// SPDX-License-Identifier: MIT
//
// Helpers of the C API: convert Failures, exceptions, and time-outs.
#pragma once

#include <cerrno>
#include <exception>
#include <new>
#include <span>
#include <string>

#include "client/core/transport.h"
#include "client/include/expected.h"
#include "client/include/vgpu.h"

namespace vgpu::client {

// Copies a string with a terminating NUL; truncates it between UTF-8 characters if necessary.
void copy_text(std::span<char> to, const std::string& from);

// Fills *why unless it is null, and returns the code.
int fail(vgpu_failure* why, const Failure& failure);
// The same with the error text of the code.
int fail(vgpu_failure* why, int code);
int bad_argument(vgpu_failure* why, const char* what);

// Runs `body`, which returns a code, and converts exceptions. Only std::bad_alloc is expected.
template <typename Body>
int guarded(vgpu_failure* why, Body body) {
    try {
        return body();
    } catch (const std::bad_alloc&) {
        return fail(why, {VGPU_E_SYSTEM, "out of memory", ENOMEM});
    } catch (const std::exception& error) {
        return fail(why, {VGPU_E_SYSTEM, error.what(), 0});
    }
}

Nanoseconds deadline_after(Clock& clock, std::uint32_t timeout_ms);

}  // namespace vgpu::client
