// SPDX-License-Identifier: MIT
#include "ipc/foreign_fd.h"

#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <utility>

#include "ipc/descriptors.h"

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

// A socket with unread bytes. Drains and closes it on the disposer's thread. Precondition: it has
// been shut down, so that no more data arrives.
class Unread {
  public:
    explicit Unread(Fd socket) : socket_(std::move(socket)) {}
    Unread(const Unread&) = delete;
    Unread& operator=(const Unread&) = delete;
    ~Unread() {
        while (drop_some()) {
        }
    }

  private:
    // Receives some bytes and closes the descriptors that come with them. Returns false at the end.
    bool drop_some() {
        std::array<std::byte, 4096> bytes{};
        alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * kMostDescriptorsOfKernel)>
            control{};
        iovec part{.iov_base = bytes.data(), .iov_len = bytes.size()};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        const ssize_t count = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (count <= 0) {
            return count < 0 && errno == EINTR;
        }
        for_each_descriptor(message, [](Fd fd) { const LastHolder closed(std::move(fd)); });
        return true;
    }

    Fd socket_;
};

}  // namespace

void ForeignFd::dispose() {
    if (fd_) {
        disposer_->dispose(std::make_shared<LastHolder>(std::move(fd_)));
    }
}

bool close_connection(Fd socket, const Disposer::Source& disposer) {
    // No more data arrives after this.
    static_cast<void>(::shutdown(socket.get(), SHUT_RDWR));
    int unread = 0;
    if (::ioctl(socket.get(), FIONREAD, &unread) == 0 && unread == 0) {
        return false;
    }
    disposer.dispose(std::make_shared<Unread>(std::move(socket)));
    return true;
}

}  // namespace vgpu
