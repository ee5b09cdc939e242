// SPDX-License-Identifier: MIT
//
// relax_processor(): the CPU's spin-wait hint, for loops that poll.
#pragma once

namespace vgpu {

inline void relax_processor() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield" ::: "memory");
#endif
}

}  // namespace vgpu
