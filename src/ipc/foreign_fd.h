// SPDX-License-Identifier: MIT
//
// ForeignFd: sole owner of a descriptor received from another process. That process chooses what it
// refers to, and closing it may block, so a Disposer closes it.
#pragma once

#include <utility>

#include "base/disposer.h"
#include "base/fd.h"

namespace vgpu {

class [[nodiscard]] ForeignFd {
  public:
    ForeignFd() = default;
    // Consumes fd. Borrows the disposer, which must outlive this object.
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
    // Releases the descriptor to a caller who has verified that closing it does not block.
    [[nodiscard]] Fd take() { return std::move(fd_); }

  private:
    void dispose();

    Fd fd_;
    Disposer* disposer_ = nullptr;
};

// Closes a connected Unix socket without blocking. Unread bytes may carry descriptors, which are
// closed with the socket: if there are unread bytes, the disposer closes it.
void close_connection(Fd socket, Disposer& disposer);

}  // namespace vgpu
