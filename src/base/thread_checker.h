// SPDX-License-Identifier: MIT
//
// ThreadChecker: checks in debug and sanitizer builds that an object is used by one thread. The
// object belongs to the thread of the first check. Release builds check nothing, at no cost.
#pragma once

#if !defined(NDEBUG) || defined(VGPU_THREAD_CHECKS)
#define VGPU_CHECKS_THREADS 1
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#endif

namespace vgpu {

class ThreadChecker {
  public:
    // Aborts with a message if another thread has called this before. `what`: the object and the
    // thread it belongs to, such as "Dispatcher: control loop only".
    void check([[maybe_unused]] const char* what) const {
#if defined(VGPU_CHECKS_THREADS)
        std::thread::id owner{};
        const std::thread::id caller = std::this_thread::get_id();
        if (!owner_.compare_exchange_strong(owner, caller) && owner != caller) {
            static_cast<void>(std::fprintf(stderr, "called on a wrong thread: %s\n", what));
            std::abort();
        }
#endif
    }

#if defined(VGPU_CHECKS_THREADS)
  private:
    mutable std::atomic<std::thread::id> owner_{};
#endif
};

}  // namespace vgpu
