// SPDX-License-Identifier: MIT
#include "ipc/foreign_fd.h"

#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "ipc/descriptors.h"

namespace vgpu {
namespace {

int option(int fd, int name) {
    int value = 0;
    socklen_t size = sizeof value;
    return ::getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

// Descriptors of another process, closed on the disposer's thread.
//
// The kernel closes what is queued in a Unix socket together with it, as it is: with a TCP socket
// that lingers, that blocks. So Unix sockets are drained first, and those in them.
class Foreign {
  public:
    explicit Foreign(Fd fd) { add(std::move(fd)); }
    Foreign(const Foreign&) = delete;
    Foreign& operator=(const Foreign&) = delete;
    ~Foreign() {
        while (!sockets_.empty()) {
            const int socket = sockets_.back().get();
            const bool more =
                option(socket, SO_ACCEPTCONN) == 1 ? accept_one(socket) : receive_some(socket);
            if (!more) {
                remove(socket);
            }
        }
    }

  private:
    // Closes a descriptor, or keeps it to drain it.
    void add(Fd fd) {
        if (option(fd.get(), SO_DOMAIN) == AF_UNIX) {
            // Nothing is added to it after this.
            static_cast<void>(::shutdown(fd.get(), SHUT_RDWR));
            sockets_.push_back(std::move(fd));
            return;
        }
        // Fails if the descriptor is not a socket. The other process may re-enable lingering before
        // the close, which then occupies one thread for as long as the socket lingers.
        const linger none{.l_onoff = 0, .l_linger = 0};
        static_cast<void>(::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &none, sizeof none));
    }
    // What was found in it has been added behind it.
    void remove(int socket) {
        std::erase_if(sockets_, [socket](const Fd& one) { return one.get() == socket; });
    }
    // Returns false if there is nothing more to be had from the socket.
    bool accept_one(int socket) {
        Fd pending(::accept4(socket, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!pending) {
            return errno == EINTR;
        }
        add(std::move(pending));
        return true;
    }
    bool receive_some(int socket) {
        std::array<std::byte, 4096> bytes{};
        alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * kMostDescriptorsOfKernel)>
            control{};
        iovec part{.iov_base = bytes.data(), .iov_len = bytes.size()};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        const ssize_t count = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (count < 0) {
            return errno == EINTR;
        }
        for_each_descriptor(message, [this](Fd fd) { add(std::move(fd)); });
        if (count > 0) {
            return true;
        }
        // The end, or an empty message, of which the kernel queues at most a few hundred.
        return option(socket, SO_TYPE) != SOCK_STREAM && ++empty_ < kMostEmpty;
    }

    static constexpr unsigned kMostEmpty = 4096;

    unsigned empty_ = 0;  // messages received
    // Being drained: the last one first. The kernel lets Unix sockets contain each other four deep.
    std::vector<Fd> sockets_;
};

}  // namespace

void ForeignFd::dispose() {
    if (fd_) {
        disposer_->dispose(std::make_shared<Foreign>(std::move(fd_)));
    }
}

bool close_connection(Fd socket, const Disposer::Source& disposer) {
    // No more data arrives after this.
    static_cast<void>(::shutdown(socket.get(), SHUT_RDWR));
    int unread = 0;
    if (::ioctl(socket.get(), FIONREAD, &unread) == 0 && unread == 0) {
        return false;
    }
    disposer.dispose(std::make_shared<Foreign>(std::move(socket)));
    return true;
}

}  // namespace vgpu
