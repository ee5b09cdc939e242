// SPDX-License-Identifier: MIT
//
// Threads that serve the main one.
#pragma once

#include <functional>
#include <thread>

namespace vgpu {

// Starts a thread that takes no signals: those are for the thread that handles them, and none may
// interrupt what this one does. Throws std::system_error that says what is short and how to get
// more.
std::thread start_thread(std::function<void()> run);

}  // namespace vgpu
