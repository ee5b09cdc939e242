// SPDX-License-Identifier: MIT
//
// For the tests of this folder alone.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <vector>

#include "executor/backend.h"

namespace vgpu::cuda {

// Polls until `wanted` jobs have ended; fails the test if they have not after 20 s.
inline std::vector<Completion> poll_for(Backend& backend, std::size_t wanted) {
    std::vector<Completion> ended;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (ended.size() < wanted && std::chrono::steady_clock::now() < deadline) {
        backend.poll(ended);
    }
    EXPECT_EQ(ended.size(), wanted);
    return ended;
}

}  // namespace vgpu::cuda
