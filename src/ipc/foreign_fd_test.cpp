// SPDX-License-Identifier: MIT
#include "ipc/foreign_fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "support/lingering.h"
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

// Passes a descriptor into a Unix socket of which nothing is read. Returns that end.
Fd wrap(int inner, int type) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends.data()), 0);
    test::WirePeer outer = test::WirePeer::adopt(Fd(ends[0]));
    EXPECT_TRUE(
        test::send_with_descriptors(outer, outer.header(VGPU_MSG_PING, 1), {}, std::array{inner}));
    return Fd(ends[1]);
}

// Without draining, the close would block for a minute.
TEST_F(CloseConnection, DrainsUnixSocketsInIt) {
    for (const int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
        test::Lingering lingering;
        Fd wrapped = wrap(lingering.fd(), type);
        lingering.close(true);
        wrapped = wrap(wrapped.get(), type);
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
