// SPDX-License-Identifier: MIT
//
// ForeignFd: sole owner of a descriptor received from another process. That process chooses what it
// refers to, and closing it may block, so a Disposer closes it.
#pragma once

#include <optional>
#include <utility>

#include "base/disposer.h"
#include "base/fd.h"

namespace vgpu {

class [[nodiscard]] ForeignFd {
  public:
    ForeignFd() = default;
    // Consumes fd. `disposer` closes it.
    ForeignFd(Fd fd, Disposer::Source disposer)
        : fd_(std::move(fd)), disposer_(std::move(disposer)) {}
    ForeignFd(ForeignFd&& other) noexcept = default;
    ForeignFd& operator=(ForeignFd&& other) noexcept {
        if (this != &other) {
            dispose();
            fd_ = std::move(other.fd_);
            disposer_ = std::move(other.disposer_);
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
    std::optional<Disposer::Source> disposer_;
};

// Closes a connected Unix socket without blocking. Unread bytes may carry descriptors, which the
// kernel closes with the socket, as they are: if there are unread bytes, the disposer receives and
// closes them first, each like a ForeignFd. Returns true in that case.
bool close_connection(Fd socket, const Disposer::Source& disposer);

}  // namespace vgpu
