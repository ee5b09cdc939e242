// SPDX-License-Identifier: MIT
#include "ipc/unix_listener.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "support/temp_dir.h"
#include "support/unix_socket.h"
#include "support/wire_peer.h"

namespace vgpu {
namespace {

using test::TempDir;
using test::WireListener;
using test::WirePeer;
using testing::HasSubstr;

TEST(UnixListener, TakesConnectionsAndKnowsWhoTheyAre) {
    const TempDir dir;
    auto listener = UnixListener::create(dir.file("s"));
    ASSERT_TRUE(listener) << listener.error().message;
    EXPECT_FALSE(listener->accept());
    EXPECT_EQ(errno, EAGAIN);
    const WirePeer peer = WirePeer::connect(dir.file("s"));
    const Fd accepted = listener->accept();
    ASSERT_TRUE(accepted);
    const auto who = peer_credentials(accepted.get());
    ASSERT_TRUE(who);
    EXPECT_EQ(who->pid, ::getpid());
    EXPECT_EQ(who->uid, ::getuid());
}

TEST(UnixListener, FileHasMode0660WhateverTheUmaskAndGoesWithIt) {
    const TempDir dir;
    for (const mode_t mask : {0000, 0077}) {
        const mode_t before = ::umask(mask);
        {
            const auto listener = UnixListener::create(dir.file("s"));
            ASSERT_TRUE(listener);
            struct stat info {};
            ASSERT_EQ(::stat(dir.file("s").c_str(), &info), 0);
            EXPECT_EQ(info.st_mode & 0777, 0660U);
        }
        ::umask(before);
        EXPECT_FALSE(std::filesystem::exists(dir.file("s")));
    }
}

TEST(UnixListener, FileHasTheModeThatIsWanted) {
    const TempDir dir;
    for (const mode_t mode : {0600, 0666}) {
        const auto listener = UnixListener::create(dir.file("s"), "--socket", mode);
        ASSERT_TRUE(listener);
        struct stat info {};
        ASSERT_EQ(::stat(dir.file("s").c_str(), &info), 0);
        EXPECT_EQ(info.st_mode & 0777, mode);
    }
}

TEST(UnixListener, ReplacesAStaleSocket) {
    const TempDir dir;
    { const WireListener dead(dir.file("s")); }
    ASSERT_TRUE(std::filesystem::exists(dir.file("s")));
    EXPECT_TRUE(UnixListener::create(dir.file("s")));
}

TEST(UnixListener, RefusesALiveSocket) {
    const TempDir dir;
    WireListener live(dir.file("s"));
    const auto second = UnixListener::create(dir.file("s"));
    ASSERT_FALSE(second);
    EXPECT_NE(second.error().message.find("another process is listening on"), std::string::npos);
    EXPECT_TRUE(live.accept());  // the check left the file unchanged
}

TEST(UnixListener, LeavesOtherFilesAlone) {
    const TempDir dir;
    std::ofstream(dir.file("s")) << "precious";
    const auto listener = UnixListener::create(dir.file("s"));
    ASSERT_FALSE(listener);
    EXPECT_NE(listener.error().message.find("is not a socket"), std::string::npos);
    EXPECT_TRUE(std::filesystem::is_regular_file(dir.file("s")));
}

TEST(UnixListener, DoesNotRemoveAFileThatIsNotItsOwnAnyMore) {
    const TempDir dir;
    {
        const auto listener = UnixListener::create(dir.file("s"));
        ASSERT_TRUE(listener);
        std::filesystem::remove(dir.file("s"));
        std::ofstream(dir.file("s")) << "somebody else's";
    }
    EXPECT_TRUE(std::filesystem::exists(dir.file("s")));
}

TEST(UnixListener, SaysWhatToDoAboutAMissingFolder) {
    const TempDir dir;
    const auto listener = UnixListener::create(dir.file("nowhere/s"));
    ASSERT_FALSE(listener);
    EXPECT_NE(listener.error().message.find("mkdir"), std::string::npos);
}

TEST(UnixListener, RefusesAPathThatDoesNotFit) {
    EXPECT_FALSE(UnixListener::create("/tmp/" + std::string(120, 'x')));
    EXPECT_FALSE(UnixListener::create(""));
}

TEST(UnixListener, AdoptsASocketAndLeavesItsFile) {
    const TempDir dir;
    const Fd bound = test::listen_unix(dir.file("s"), 4);
    {
        auto adopted = UnixListener::adopt(bound.dup());
        ASSERT_TRUE(adopted) << adopted.error().message;
        EXPECT_EQ(adopted->path(), dir.file("s"));
        EXPECT_EQ(::fcntl(adopted->fd(), F_GETFD), FD_CLOEXEC);
        EXPECT_FALSE(adopted->accept());
        EXPECT_EQ(errno, EAGAIN);  // it is non-blocking
        const WirePeer peer = WirePeer::connect(dir.file("s"));
        EXPECT_TRUE(adopted->accept());
    }
    // The file and the other holder's socket are still in use.
    const WirePeer later = WirePeer::connect(dir.file("s"));
    EXPECT_TRUE(Fd(::accept4(bound.get(), nullptr, nullptr, SOCK_CLOEXEC)));
}

TEST(UnixListener, AdoptsNothingButAListeningUnixSocketWithAPath) {
    const TempDir dir;
    const auto refused = [](Fd fd) {
        const auto adopted = UnixListener::adopt(std::move(fd));
        return adopted ? "" : adopted.error().message;
    };
    EXPECT_THAT(refused(Fd(::open("/dev/null", O_RDWR | O_CLOEXEC))),
                HasSubstr("is not a listening Unix stream socket"));
    for (const auto& [domain, type] :
         {std::pair(AF_INET, SOCK_STREAM), {AF_UNIX, SOCK_SEQPACKET}}) {
        Fd other(::socket(domain, type | SOCK_CLOEXEC, 0));
        static_cast<void>(::listen(other.get(), 1));
        EXPECT_THAT(refused(std::move(other)), HasSubstr("is not a listening Unix stream socket"));
    }
    EXPECT_THAT(refused(Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0))),
                HasSubstr("is not a listening Unix stream socket"));
    // Bound to an abstract address.
    Fd abstract(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    ASSERT_EQ(::bind(abstract.get(), reinterpret_cast<const sockaddr*>(&address),
                     sizeof address.sun_family),
              0);
    ASSERT_EQ(::listen(abstract.get(), 1), 0);
    EXPECT_THAT(refused(std::move(abstract)), HasSubstr("is a socket without a path"));
}

}  // namespace
}  // namespace vgpu
