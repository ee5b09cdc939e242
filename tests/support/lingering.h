// SPDX-License-Identifier: MIT
//
// Lingering: a TCP socket whose last close(2) blocks for a minute.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <vector>

#include "base/fd.h"

namespace vgpu::test {

// A TCP socket with SO_LINGER: its last close blocks until the peer has read all unsent data, which
// it never does.
class Lingering {
  public:
    Lingering() {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        listener_ = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sending_ = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        // Small buffers, so that there may be many of these.
        constexpr int kSmallest = 1;  // the kernel raises it to its minimum
        ::setsockopt(listener_.get(), SOL_SOCKET, SO_RCVBUF, &kSmallest, sizeof kSmallest);
        ::setsockopt(sending_.get(), SOL_SOCKET, SO_SNDBUF, &kSmallest, sizeof kSmallest);
        auto* const any = reinterpret_cast<sockaddr*>(&address);
        EXPECT_EQ(::bind(listener_.get(), any, size), 0);
        EXPECT_EQ(::getsockname(listener_.get(), any, &size), 0);
        EXPECT_EQ(::listen(listener_.get(), 1), 0);
        static_cast<void>(::connect(sending_.get(), any, size));
        receiving_ = Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        const std::vector<char> bytes(65536);
        while (::send(sending_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0) {
        }
        EXPECT_EQ(::fcntl(sending_.get(), F_SETFL, 0), 0);
        const linger seconds{.l_onoff = 1, .l_linger = 60};
        EXPECT_EQ(::setsockopt(sending_.get(), SOL_SOCKET, SO_LINGER, &seconds, sizeof seconds), 0);
    }
    // The descriptor to pass to the mediator.
    [[nodiscard]] int fd() const { return sending_.get(); }
    // Does not block. If `passed`, the mediator holds the last copy; otherwise disables lingering.
    void close(bool passed) {
        if (!passed) {
            const linger none{.l_onoff = 0, .l_linger = 0};
            EXPECT_EQ(::setsockopt(sending_.get(), SOL_SOCKET, SO_LINGER, &none, sizeof none), 0);
        }
        sending_.reset();
    }

  private:
    Fd listener_;
    Fd sending_;
    Fd receiving_;
};

}  // namespace vgpu::test
