// SPDX-License-Identifier: MIT
//
// Assertions of the fuzzers: a violated invariant prints one line and aborts, which libFuzzer
// reports with the input, and which fails the replay test.
#pragma once

#include <dirent.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

namespace vgpu::fuzz {

using Clock = std::chrono::steady_clock;

// Time-out that counts as a hang. Generous: sanitizers and loaded machines are slow.
inline constexpr std::chrono::seconds kHang{20};

[[noreturn]] inline void violated(const char* what) {
    static_cast<void>(std::fprintf(stderr, "invariant violated: %s\n", what));
    std::abort();
}

inline void check(bool holds, const char* what) {
    if (!holds) {
        violated(what);
    }
}

// Counts the open descriptors of this process.
inline std::size_t open_descriptors() {
    DIR* const dir = ::opendir("/proc/self/fd");
    check(dir != nullptr, "cannot list the open descriptors");
    std::size_t count = 0;
    while (::readdir(dir) != nullptr) {
        ++count;
    }
    ::closedir(dir);
    return count;
}

}  // namespace vgpu::fuzz
