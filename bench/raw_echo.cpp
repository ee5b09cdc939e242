// SPDX-License-Identifier: MIT
#include "raw_echo.h"

#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <span>
#include <stdexcept>
#include <system_error>

#include "socket_io.h"

namespace vgpu::bench {

namespace {

constexpr std::size_t kMaxSize = 4096;

// Main loop of the child. Only async-signal-safe calls: the parent may have threads.
[[noreturn]] void serve(std::span<const Fd> ends, std::size_t request_size,
                        std::size_t reply_size) {
    std::array<std::byte, kMaxSize> buffer{};
    const auto answer = [&](int fd) {
        return receive_exactly(fd, std::span(buffer).first(request_size)) &&
               send_all(fd, std::span(buffer).first(reply_size));
    };
    if (ends.size() == 1) {
        while (answer(ends[0].get())) {
        }
        ::_exit(0);
    }
    const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
    for (const Fd& end : ends) {
        epoll_event event{.events = EPOLLIN, .data = {.fd = end.get()}};
        if (::epoll_ctl(epoll, EPOLL_CTL_ADD, end.get(), &event) != 0) {
            ::_exit(1);
        }
    }
    for (;;) {
        std::array<epoll_event, 64> events{};
        const int count = ::epoll_wait(epoll, events.data(), events.size(), -1);
        for (int i = 0; i < count; ++i) {
            if (!answer(events[static_cast<std::size_t>(i)].data.fd)) {
                ::_exit(0);
            }
        }
    }
}

}  // namespace

RawEcho::RawEcho(std::size_t request_size, std::size_t reply_size, std::size_t connections)
    : request_size_(request_size), reply_size_(reply_size) {
    if (request_size == 0 || reply_size == 0 || request_size > kMaxSize || reply_size > kMaxSize ||
        connections == 0) {
        throw std::invalid_argument("RawEcho: sizes are 1 to 4096 bytes, connections 1 or more");
    }
    std::vector<Fd> their_ends;
    for (std::size_t i = 0; i < connections; ++i) {
        std::array<int, 2> pair{};
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0) {
            throw std::system_error(errno, std::generic_category(), "socketpair");
        }
        ends_.emplace_back(pair[0]);
        their_ends.emplace_back(pair[1]);
    }
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0) {
        throw std::system_error(errno, std::generic_category(), "fork");
    }
    if (pid_ == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) {
            ::_exit(1);
        }
        for (const Fd& end : ends_) {
            ::close(end.get());
        }
        serve(their_ends, request_size, reply_size);
    }
}

RawEcho::~RawEcho() {
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
}

void RawEcho::round_trip(std::size_t connection) {
    std::array<std::byte, kMaxSize> buffer{};
    const int fd = ends_[connection].get();
    if (!send_all(fd, std::span(buffer).first(request_size_)) ||
        !receive_exactly(fd, std::span(buffer).first(reply_size_))) {
        throw std::system_error(errno, std::generic_category(), "raw ping-pong");
    }
}

}  // namespace vgpu::bench
