// SPDX-License-Identifier: MIT
//
// Interrupter: writes interrupts for guests from the control loop, and lets none of these writes
// hold it. The eventfds come from the other side, which can make one blocking again, after it was
// made non-blocking here, and full; no flag of a single write prevents waiting then. So a thread
// looks now and then whether the control loop is still in the same write, and breaks that off with
// a signal. In a good world that thread is all it costs: no system call more for a write, and
// nothing at all while nobody has shared memory.
#pragma once

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>

namespace vgpu {

class Interrupter {
  public:
    // A write is broken off when it has taken so long, and twice that at most.
    static constexpr std::chrono::milliseconds kLimit{100};

    Interrupter() = default;
    Interrupter(const Interrupter&) = delete;
    Interrupter& operator=(const Interrupter&) = delete;
    // The thread that was watched is in no interrupt() any more.
    ~Interrupter();

    // Whether the writes of the calling thread are watched from now on. Switched on for the first
    // time, it takes SIGURG for itself, in the whole process. Throws std::system_error if there are
    // no more threads.
    void watch(bool on);

    // Adds 1 to an eventfd. False: it was broken off, and the descriptor had better be left alone.
    // An eventfd that is full and does not block is none of that: whoever it is for has not even
    // begun to read, and will find all at once. Precondition: this thread is watched.
    [[nodiscard]] bool interrupt(int eventfd);

  private:
    void look_after();

    std::atomic<std::uint64_t> writes_{0};  // begun and ended: odd while one is under way
    std::mutex mutex_;                      // of all below
    std::condition_variable changed_;
    bool on_ = false;
    bool stop_ = false;
    pthread_t watched_{};
    std::optional<std::thread> thread_;
};

}  // namespace vgpu
