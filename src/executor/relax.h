// SPDX-License-Identifier: MIT
//
// relax_processor(): what a loop that only looks does between two looks.
#pragma once

namespace vgpu {

inline void relax_processor() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace vgpu
