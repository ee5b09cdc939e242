// SPDX-License-Identifier: MIT
#include "mediator/interrupter.h"

#include <sys/eventfd.h>

#include <cerrno>
#include <csignal>
#include <system_error>

namespace vgpu {
namespace {

// Its default is to be ignored, so nothing is lost if one comes late.
constexpr int kSignal = SIGURG;

void take_signal() {
    struct sigaction action {};
    // Without SA_RESTART: the write ends.
    action.sa_handler = [](int) {};
    if (::sigaction(kSignal, &action, nullptr) != 0) {
        throw std::system_error(errno, std::generic_category(), "sigaction");
    }
}

}  // namespace

Interrupter::~Interrupter() {
    if (thread_) {
        {
            const std::lock_guard lock(mutex_);
            stop_ = true;
        }
        changed_.notify_one();
        thread_->join();
    }
}

void Interrupter::watch(bool on) {
    if (on && !thread_) {
        take_signal();
        thread_.emplace([this] { look_after(); });
    }
    const std::lock_guard lock(mutex_);
    if (on_ != on) {
        on_ = on;
        watched_ = ::pthread_self();
        changed_.notify_one();
    }
}

bool Interrupter::interrupt(int eventfd) {
    const std::uint64_t number = writes_.load(std::memory_order_relaxed);
    writes_.store(number + 1, std::memory_order_relaxed);
    const int result = ::eventfd_write(eventfd, 1);
    const int error = errno;
    writes_.store(number + 2, std::memory_order_relaxed);
    return result == 0 || error != EINTR;
}

void Interrupter::look_after() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
        if (!on_) {
            changed_.wait(lock);
            continue;
        }
        const std::uint64_t before = writes_.load(std::memory_order_relaxed);
        changed_.wait_for(lock, kLimit);
        // The write that is under way is the same: this thread is in it, and so exists.
        if (on_ && before % 2 != 0 && writes_.load(std::memory_order_relaxed) == before) {
            ::pthread_kill(watched_, kSignal);
        }
    }
}

}  // namespace vgpu
