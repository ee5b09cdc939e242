// SPDX-License-Identifier: MIT
#include "ipc/foreign_fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "support/memory_peer.h"
#include "support/unix_socket.h"
#include "support/wire_peer.h"

namespace vgpu {
namespace {

using std::chrono::seconds;

struct CloseConnection : testing::Test {
    void SetUp() override {
        std::array<int, 2> ends{};
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
        mine = Fd(ends[0]);
        peer = test::WirePeer::adopt(Fd(ends[1]));
    }
    // Passes the write ends of new pipes with one message. Returns the read ends.
    std::vector<Fd> pass_pipes(std::size_t count) {
        std::vector<Fd> read_ends;
        std::vector<Fd> write_ends;
        std::vector<int> passed;
        for (std::size_t i = 0; i < count; ++i) {
            std::array<int, 2> ends{};
            EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
            read_ends.emplace_back(ends[0]);
            write_ends.emplace_back(ends[1]);
            passed.push_back(ends[1]);
        }
        EXPECT_TRUE(test::send_with_descriptors(peer, peer.header(VGPU_MSG_PING, 1), {}, passed));
        return read_ends;
    }
    static bool at_end(int fd, std::chrono::steady_clock::time_point deadline) {
        char byte = 0;
        return test::wait_readable(fd, deadline) && ::read(fd, &byte, 1) == 0;
    }

    Fd mine;
    test::WirePeer peer = test::WirePeer::adopt(Fd());
    Disposer disposer;
};

TEST_F(CloseConnection, ClosesTheDescriptorsThatWereNotRead) {
    std::vector<Fd> read_ends;
    for (const std::size_t count : {1U, 3U, 64U}) {
        // More bytes than one receive of the disposer takes.
        ASSERT_TRUE(peer.send_raw(std::vector<std::uint8_t>(10'000, 0xFF)));
        for (Fd& one : pass_pipes(count)) {
            read_ends.push_back(std::move(one));
        }
    }
    close_connection(std::move(mine), disposer.source());
    const auto deadline = std::chrono::steady_clock::now() + seconds(10);
    for (const Fd& one : read_ends) {
        EXPECT_TRUE(at_end(one.get(), deadline));
    }
    EXPECT_TRUE(peer.wait_closed());
}

// The peer keeps it open: closing it must not take an end that others use.
TEST_F(CloseConnection, LeavesWhatThePeerHasAsItIs) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const Fd read_end(ends[0]);
    const Fd write_end(ends[1]);
    ASSERT_TRUE(test::send_with_descriptors(peer, peer.header(VGPU_MSG_PING, 1), {},
                                            std::array{write_end.get()}));
    const Disposer::Source source = disposer.source();
    close_connection(std::move(mine), source);
    while (source.waiting() != 0) {
        std::this_thread::yield();
    }
    EXPECT_EQ(::write(write_end.get(), "x", 1), 1);
    char byte = 0;
    EXPECT_EQ(::read(read_end.get(), &byte, 1), 1);
}

// A TCP socket whose close blocks for 10 minutes, because its peer does not read.
struct Lingering {
    Lingering() {
        const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const int small = 1;
        ::setsockopt(listener.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        auto* const plain = reinterpret_cast<sockaddr*>(&address);
        EXPECT_EQ(::bind(listener.get(), plain, size), 0);
        EXPECT_EQ(::listen(listener.get(), 1), 0);
        EXPECT_EQ(::getsockname(listener.get(), plain, &size), 0);
        socket = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        EXPECT_EQ(::connect(socket.get(), plain, size), 0);
        other_end = Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        const std::array<char, 4096> bytes{};
        while (::send(socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
        }
        const linger option{.l_onoff = 1, .l_linger = 600};
        ::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &option, sizeof option);
    }
    Fd socket;
    Fd other_end;
};

// Sends a descriptor into a Unix socket of which nothing is read, and returns the other end.
Fd wrap(const Fd& inner, int type) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends.data()), 0);
    const Fd outer(ends[0]);
    char byte = 'x';
    iovec part{.iov_base = &byte, .iov_len = 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = inner.get();
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
    EXPECT_EQ(::sendmsg(outer.get(), &message, 0), 1);
    return Fd(ends[1]);
}

// Without draining what is in it, the close would block for 10 minutes.
TEST_F(CloseConnection, DrainsUnixSocketsInIt) {
    for (const int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
        Lingering lingering;
        Fd wrapped = wrap(lingering.socket, type);
        lingering.socket.reset();
        wrapped = wrap(wrapped, type);
        const Disposer::Source source = disposer.source();
        static_cast<void>(ForeignFd(std::move(wrapped), source));
        const auto deadline = std::chrono::steady_clock::now() + seconds(10);
        while (source.waiting() != 0 && std::chrono::steady_clock::now() < deadline) {
            std::this_thread::yield();
        }
        EXPECT_EQ(source.waiting(), 0U) << type;
    }
}

TEST_F(CloseConnection, WithoutUnreadBytesClosesAtOnce) {
    const Disposer::Source source = disposer.source();
    close_connection(std::move(mine), source);
    EXPECT_EQ(source.waiting(), 0U);
    EXPECT_TRUE(peer.wait_closed(std::chrono::milliseconds(0)));
}

}  // namespace
}  // namespace vgpu
