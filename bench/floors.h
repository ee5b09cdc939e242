// SPDX-License-Identifier: MIT
//
// Baselines for the figures of the fast path: what two processes of this machine that share
// memory achieve with nothing in between. Each class forks a second process, which ends when the
// object is destroyed or when this process ends. Measured interleaved with the compared figure.
//
//   SpinPingPong     both sides poll a word: the minimum cost of a round trip
//   EventfdPingPong  both sides block in read(2) on an eventfd: the minimum cost of a wake-up
//   RawRing          a ring with one producer, one consumer, records of one cache line and a limit
//                    on records in flight: the maximum throughput of a queue
//
// They check the data they carry, as the measured paths do. All throw std::system_error if the
// system is out of processes or descriptors.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "base/fd.h"

namespace vgpu::bench {

// Zeroed memory shared with the processes that this process forks.
class SharedPages {
  public:
    // Throws std::system_error if the allocation fails.
    explicit SharedPages(std::size_t size);
    SharedPages(const SharedPages&) = delete;
    SharedPages& operator=(const SharedPages&) = delete;
    ~SharedPages();
    [[nodiscard]] void* data() const { return data_; }

  private:
    void* data_;
    std::size_t size_;
};

// A forked process. The destructor kills and reaps it.
class Child {
  public:
    // Runs `body` in the new process, then exits it. `body` may only make async-signal-safe calls,
    // because this process may have threads. Throws std::system_error.
    template <typename Body>
    explicit Child(Body body) : pid_(fork_off()) {
        if (pid_ == 0) {
            body();
            end_here();
        }
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child();
    [[nodiscard]] pid_t pid() const { return pid_; }
    // Returns whether it has exited on its own, which indicates an error.
    [[nodiscard]] bool gone() const;
    // Stops the process, so that it does not spin during another measurement, and resumes it.
    // pause() returns once the process has stopped.
    void pause() const;
    void resume() const;

  private:
    static pid_t fork_off();
    [[noreturn]] static void end_here();
    pid_t pid_;
};

class SpinPingPong {
  public:
    SpinPingPong();
    [[nodiscard]] const Child& other() const { return child_; }
    // Needs two cores: on one core each direction takes a time slice of the kernel's scheduler.
    // Throws std::runtime_error if the other process has exited.
    void round_trip();

  private:
    SharedPages pages_;
    Child child_;
    std::uint64_t count_ = 0;
};

class EventfdPingPong {
  public:
    EventfdPingPong();
    [[nodiscard]] const Child& other() const { return child_; }
    // Throws std::system_error on failure.
    void round_trip();

  private:
    Fd ping_;
    Fd pong_;
    Child child_;
};

class RawRing {
  public:
    static constexpr std::size_t kRecordSize = 64;  // bytes

    // `window`: maximum number of records in flight, 1 to 1024, or std::invalid_argument.
    explicit RawRing(std::size_t window);
    [[nodiscard]] const Child& other() const { return child_; }
    // Transfers `records` records, waits for their consumption and returns the seconds taken.
    // Throws std::runtime_error if the other process has exited, as it does on a wrong record.
    double carry(std::uint64_t records);

  private:
    std::size_t window_;
    SharedPages pages_;
    Child child_;
    std::uint64_t produced_ = 0;
};

}  // namespace vgpu::bench
