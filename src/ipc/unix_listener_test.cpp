// SPDX-License-Identifier: MIT
#include "ipc/unix_listener.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "support/temp_dir.h"
#include "support/wire_peer.h"

namespace vgpu {
namespace {

using test::TempDir;
using test::WireListener;
using test::WirePeer;

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

}  // namespace
}  // namespace vgpu
