// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cerrno>
#include <string>

#include "base/fd.h"
#include "base/mapping.h"
#include "base/result.h"

namespace vgpu {
namespace {

bool is_open(int fd) {
    return ::fcntl(fd, F_GETFD) >= 0;
}

TEST(Fd, ClosesWhenDestroyed) {
    int raw = -1;
    {
        const Fd fd(::memfd_create("t", MFD_CLOEXEC));
        raw = fd.get();
        ASSERT_TRUE(is_open(raw));
    }
    EXPECT_FALSE(is_open(raw));
}

TEST(Fd, MoveLeavesTheSourceEmptyAndClosesTheTarget) {
    Fd a(::memfd_create("a", MFD_CLOEXEC));
    Fd b(::memfd_create("b", MFD_CLOEXEC));
    const int raw_a = a.get();
    const int raw_b = b.get();
    b = std::move(a);
    EXPECT_EQ(b.get(), raw_a);
    EXPECT_FALSE(is_open(raw_b));
}

TEST(Fd, DupIsIndependentAndCloseOnExec) {
    Fd a(::memfd_create("a", MFD_CLOEXEC));
    const Fd b = a.dup();
    a.reset();
    ASSERT_TRUE(is_open(b.get()));
    EXPECT_TRUE(::fcntl(b.get(), F_GETFD) & FD_CLOEXEC);
}

TEST(Mapping, SharesTheFile) {
    const Fd fd(::memfd_create("m", MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(fd.get(), 4096), 0);
    auto first = Mapping::create(fd.get(), 4096, PROT_READ | PROT_WRITE);
    auto second = Mapping::create(fd.get(), 4096, PROT_READ);
    ASSERT_TRUE(first && second);
    first->data()[7] = std::byte{42};
    EXPECT_EQ(second->data()[7], std::byte{42});
}

TEST(Mapping, FailureCarriesErrno) {
    const auto mapping = Mapping::create(-1, 4096, PROT_READ);
    ASSERT_FALSE(mapping);
    EXPECT_EQ(mapping.error().sys_errno, EBADF);
}

TEST(Result, HoldsAValueOrAnError) {
    const Result<std::string> good(std::string("x"));
    const Result<std::string> bad(Error{"no such thing", ENOENT});
    EXPECT_TRUE(good);
    EXPECT_EQ(*good, "x");
    ASSERT_FALSE(bad);
    EXPECT_EQ(bad.error().message, "no such thing");
    const Result<void> nothing;
    EXPECT_TRUE(nothing);
}

}  // namespace
}  // namespace vgpu
