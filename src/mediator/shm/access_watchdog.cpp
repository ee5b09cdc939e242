// SPDX-License-Identifier: MIT
#include "mediator/shm/access_watchdog.h"

#include <fcntl.h>
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "base/thread.h"

namespace vgpu {
namespace {

// The watchdog goes to sleep after so many periods without an access.
constexpr unsigned kIdlePeriods = 200;

// mmap(2) over a range that other threads access. Not by mmap(): ThreadSanitizer takes that for a
// write to the range, which races with the access that waits for it.
bool map_empty(void* data, std::size_t size) {
    return ::syscall(SYS_mmap, data, size, PROT_READ | PROT_WRITE,
                     MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0L) != -1;
}

bool barrier(int command) {
    return ::syscall(SYS_membarrier, command, 0, 0) == 0;
}

// Reads a small file of /proc from its beginning.
std::string read_again(const Fd& file, std::array<char, 512>& buffer) {
    const ssize_t length = ::pread(file.get(), buffer.data(), buffer.size(), 0);
    return {buffer.data(), static_cast<std::size_t>(length > 0 ? length : 0)};
}

Fd open_of_thread(const char* name) {
    const std::string path = "/proc/self/task/" + std::to_string(::gettid()) + "/" + name;
    return Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
}

}  // namespace

AccessWatchdog::AccessWatchdog()
    : stat_(open_of_thread("stat")),
      wchan_(open_of_thread("wchan")),
      works_(stat_ && wchan_ && barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)),
      thread_(start_thread([this] { run(); })) {}

AccessWatchdog::~AccessWatchdog() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    changed_.notify_one();
    thread_.join();
}

void AccessWatchdog::wake() {
    {
        const std::lock_guard lock(mutex_);
        awake_.store(true);
    }
    changed_.notify_one();
}

bool AccessWatchdog::settle(const Range& range) {
    // Wait for the watchdog's thread, which holds the mutex while it replaces memory.
    const std::lock_guard lock(mutex_);
    if (replaced_ != &range) {
        return false;  // that of an outer access, which learns of it when it ends, or none
    }
    replaced_ = nullptr;
    state_.store(State::kNone);
    return true;
}

void AccessWatchdog::run() {
    std::unique_lock lock(mutex_);
    std::uint64_t seen = 0;
    unsigned idle = 0;
    while (!stop_ && works_) {
        if (idle >= kIdlePeriods) {
            idle = 0;
            awake_.store(false);
            // Either this sees an access that has begun, or its thread sees that it has to wake the
            // watchdog.
            if (barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) && count_.load() == seen) {
                changed_.wait(lock, [this] { return stop_ || awake_.load(); });
            } else {
                awake_.store(true);
            }
            continue;
        }
        changed_.wait_for(lock, kPeriod, [this] { return stop_; });
        const std::uint64_t count = count_.load();
        const Range* const range = range_.load();
        if (count != seen) {
            seen = count;
            idle = 0;
        } else if (range == nullptr) {
            ++idle;
        } else if (waits_for_page()) {
            replace(range, count);
        }
    }
}

bool AccessWatchdog::waits_for_page() const {
    std::array<char, 512> buffer{};
    // "pid (name) state …"; the name may contain anything.
    const std::string stat = read_again(stat_, buffer);
    const std::size_t name_end = stat.rfind(')');
    if (name_end == std::string::npos || stat.substr(name_end, 3) != ") D") {
        return false;
    }
    const std::string function = read_again(wchan_, buffer);
    return function.starts_with("shmem_");
}

void AccessWatchdog::replace(const Range* range, std::uint64_t count) {
    state_.store(State::kReplacing);
    // From here on, the thread has left the access and this sees it, or it will wait in settle().
    if (barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) && range_.load() == range &&
        count_.load() == count && map_empty(range->data, range->size)) {
        replaced_ = range;
    }
    state_.store(replaced_ != nullptr ? State::kReplaced : State::kNone);
}

}  // namespace vgpu
