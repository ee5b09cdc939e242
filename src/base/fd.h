// SPDX-License-Identifier: MIT
//
// Fd: sole owner of a file descriptor, which it closes. Functions that only use a descriptor take
// an int ("borrow").
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <utility>

namespace vgpu {

class [[nodiscard]] Fd {
  public:
    Fd() = default;
    // Consumes fd; -1 means none.
    explicit Fd(int fd) : fd_(fd) {}
    Fd(Fd&& other) noexcept : fd_(other.release()) {}
    Fd& operator=(Fd&& other) noexcept {
        if (this != &other) {
            reset(other.release());
        }
        return *this;
    }
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    ~Fd() { reset(); }

    // Borrows: valid while this object owns it; -1 if empty.
    [[nodiscard]] int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }

    // Releases ownership to the caller, who must close the descriptor.
    [[nodiscard]] int release() { return std::exchange(fd_, -1); }

    // Closes the current descriptor, then consumes fd.
    void reset(int fd = -1) {
        const int old = std::exchange(fd_, fd);
        if (old >= 0) {
            ::close(old);
        }
    }

    // Duplicates the descriptor, close-on-exec; empty on failure, errno set.
    [[nodiscard]] Fd dup() const { return Fd(::fcntl(fd_, F_DUPFD_CLOEXEC, 0)); }

  private:
    int fd_ = -1;
};

}  // namespace vgpu
