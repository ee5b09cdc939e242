// SPDX-License-Identifier: MIT
//
// ForeignFd: sole owner of a descriptor that another process has passed. What stands behind it is
// that process's choice, and closing it may block; so it is closed by a Disposer.
#pragma once

#include <utility>

#include "base/disposer.h"
#include "base/fd.h"

namespace vgpu {

class [[nodiscard]] ForeignFd {
  public:
    ForeignFd() = default;
    // Consumes fd. Borrows the disposer, which outlives this object.
    ForeignFd(Fd fd, Disposer& disposer) : fd_(std::move(fd)), disposer_(&disposer) {}
    ForeignFd(ForeignFd&& other) noexcept = default;
    ForeignFd& operator=(ForeignFd&& other) noexcept {
        if (this != &other) {
            dispose();
            fd_ = std::move(other.fd_);
            disposer_ = other.disposer_;
        }
        return *this;
    }
    ForeignFd(const ForeignFd&) = delete;
    ForeignFd& operator=(const ForeignFd&) = delete;
    ~ForeignFd() { dispose(); }

    // Borrows; -1 if empty.
    [[nodiscard]] int get() const { return fd_.get(); }
    // Hands the descriptor over to a caller who has seen that closing it does not block.
    [[nodiscard]] Fd take() { return std::move(fd_); }

  private:
    void dispose();

    Fd fd_;
    Disposer* disposer_ = nullptr;
};

// Closes a connected Unix socket without waiting. Its unread bytes may carry descriptors, which
// closing the socket closes, too: where there are any, the disposer does it.
void close_connection(Fd socket, Disposer& disposer);

}  // namespace vgpu
