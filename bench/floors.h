// SPDX-License-Identifier: MIT
//
// The floors under the figures of the fast path: what two processes of this machine that share
// memory can do with nothing between them. Each class forks a second process, which ends when the
// object goes, or with this process. What is held to a floor is measured in turns with it.
//
//   SpinPingPong     both look at a word without pause: the least that a round trip can cost
//   EventfdPingPong  both sleep in read(2) on an eventfd: the least that waking up can cost
//   RawRing          a ring with one producer, one consumer and records of one cache line, of which
//                    so many at most are under way: the most that a queue can carry
//
// They check what they carry, as what is held to them does. All throw std::system_error if there
// are no more processes or descriptors.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "base/fd.h"

namespace vgpu::bench {

// Memory that this process shares with those that it forks; zeroed.
class SharedPages {
  public:
    // Throws std::system_error if there is no memory.
    explicit SharedPages(std::size_t size);
    SharedPages(const SharedPages&) = delete;
    SharedPages& operator=(const SharedPages&) = delete;
    ~SharedPages();
    [[nodiscard]] void* data() const { return data_; }

  private:
    void* data_;
    std::size_t size_;
};

// A forked process: killed and waited for when the object goes.
class Child {
  public:
    // Runs `body` in the new process, which never returns from here. Only async-signal-safe calls
    // there, as this process may have threads. Throws std::system_error.
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
    // Whether it has ended by itself, which none of them does unless something went wrong.
    [[nodiscard]] bool gone() const;
    // Takes it off the processor, so that it does not spin while something else is measured, and
    // lets it go on. pause() returns when it stands still.
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
    // Needs two cores: on one it takes a turn of the kernel's scheduler each way. Throws
    // std::runtime_error if the other process has ended.
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
    // Throws std::system_error if it fails.
    void round_trip();

  private:
    Fd ping_;
    Fd pong_;
    Child child_;
};

class RawRing {
  public:
    static constexpr std::size_t kRecordSize = 64;  // bytes

    // `window`: records under way at most, 1 to 1024, or std::invalid_argument.
    explicit RawRing(std::size_t window);
    [[nodiscard]] const Child& other() const { return child_; }
    // Carries `records` records over and waits until all have been taken. Seconds. Throws
    // std::runtime_error if the other process has ended, which it does if a record is wrong.
    double carry(std::uint64_t records);

  private:
    std::size_t window_;
    SharedPages pages_;
    Child child_;
    std::uint64_t produced_ = 0;
};

}  // namespace vgpu::bench
