// SPDX-License-Identifier: MIT
#include "ipc/foreign_fd.h"

#include <sys/ioctl.h>
#include <sys/socket.h>

#include <memory>

namespace vgpu {
namespace {

// Closes on the disposer's thread.
class LastHolder {
  public:
    explicit LastHolder(Fd fd) : fd_(std::move(fd)) {}
    LastHolder(const LastHolder&) = delete;
    LastHolder& operator=(const LastHolder&) = delete;
    ~LastHolder() {
        // Fails if the descriptor is not a socket. The other process may re-enable lingering before
        // the close, which then occupies one thread for as long as the socket lingers.
        const linger none{.l_onoff = 0, .l_linger = 0};
        static_cast<void>(::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &none, sizeof none));
    }

  private:
    Fd fd_;
};

}  // namespace

void ForeignFd::dispose() {
    if (fd_) {
        disposer_->dispose(std::make_shared<LastHolder>(std::move(fd_)));
    }
}

void close_connection(Fd socket, Disposer& disposer) {
    // No more data arrives after this.
    static_cast<void>(::shutdown(socket.get(), SHUT_RDWR));
    int unread = 0;
    if (::ioctl(socket.get(), FIONREAD, &unread) != 0 || unread > 0) {
        disposer.dispose(std::make_shared<Fd>(std::move(socket)));
    }
}

}  // namespace vgpu
