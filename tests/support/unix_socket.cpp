// SPDX-License-Identifier: MIT
#include "support/unix_socket.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace vgpu::test {

using Clock = std::chrono::steady_clock;

sockaddr_un unix_address(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        throw std::system_error(ENAMETOOLONG, std::generic_category(), path);
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    return address;
}

Fd stream_socket() {
    Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd) {
        throw std::system_error(errno, std::generic_category(), "socket");
    }
    return fd;
}

Fd connect_unix(const std::string& path) {
    Fd fd = stream_socket();
    const sockaddr_un address = unix_address(path);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        throw std::system_error(errno, std::generic_category(), "connect " + path);
    }
    return fd;
}

Fd listen_unix(const std::string& path, int backlog) {
    Fd fd = stream_socket();
    const sockaddr_un address = unix_address(path);
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(fd.get(), backlog) != 0) {
        throw std::system_error(errno, std::generic_category(), "listen " + path);
    }
    return fd;
}

bool wait_readable(int fd, Clock::time_point deadline) {
    pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
    for (;;) {
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
        const int ready = ::poll(&entry, 1, static_cast<int>(std::max<long>(left, 0)));
        if (ready >= 0 || errno != EINTR) {
            return ready > 0;
        }
    }
}

bool read_exactly(int fd, std::span<std::uint8_t> into, std::vector<Fd>& descriptors,
                  Clock::time_point deadline) {
    // The kernel's limit per message (SCM_MAX_FD in its include/net/scm.h).
    static constexpr std::size_t kMostDescriptors = 253;
    while (!into.empty()) {
        if (!wait_readable(fd, deadline)) {
            return false;
        }
        alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * kMostDescriptors)>
            control{};
        iovec part{.iov_base = into.data(), .iov_len = into.size()};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        const ssize_t got = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return false;
        }
        for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
            if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
                continue;
            }
            const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (std::size_t i = 0; i < count; i++) {
                int one = -1;
                std::memcpy(&one, CMSG_DATA(c) + i * sizeof(int), sizeof one);
                descriptors.emplace_back(one);
            }
        }
        if ((message.msg_flags & MSG_CTRUNC) != 0) {
            throw std::runtime_error("descriptors were lost: this process has too many open");
        }
        into = into.subspan(static_cast<std::size_t>(got));
    }
    return true;
}

}  // namespace vgpu::test
