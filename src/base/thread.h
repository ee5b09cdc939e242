// SPDX-License-Identifier: MIT
//
// Helper threads.
#pragma once

#include <functional>
#include <thread>

namespace vgpu {

// Starts a thread with all signals blocked: another thread handles them, and none may interrupt
// this one. Throws std::system_error that names the limits to raise.
std::thread start_thread(std::function<void()> run);

}  // namespace vgpu
