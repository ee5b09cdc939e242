// SPDX-License-Identifier: MIT
//
// What the functions of the C API share: Failures into struct vgpu_failure, exceptions into codes,
// limits into deadlines.
#pragma once

#include <cerrno>
#include <exception>
#include <new>
#include <span>
#include <string>

#include "client/core/transport.h"
#include "client/include/outcome.h"
#include "client/include/vgpu.h"

namespace vgpu::client {

// Cuts at the end rather than overflow, never within a UTF-8 character.
void copy_text(std::span<char> to, const std::string& from);

// Fills *why, if there is one, and gives the code.
int fail(vgpu_failure* why, const Failure& failure);
// The same with the code's own sentence.
int fail(vgpu_failure* why, int code);
int bad_argument(vgpu_failure* why, const char* what);

// Runs `body`, which returns a code. The only exception to expect is a lack of memory.
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
