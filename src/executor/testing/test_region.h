// SPDX-License-Identifier: MIT
//
// A VM's shared memory for tests: a sealed memory file, mapped.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/fd.h"
#include "base/mapping.h"

namespace vgpu::test {

inline Fd memory_file(std::uint64_t size, int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) {
    Fd fd(::memfd_create("vgpu-test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
    EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
    return fd;
}

class TestRegion {
  public:
    explicit TestRegion(std::uint64_t size = std::uint64_t{1} << 20U) : fd_(memory_file(size)) {
        auto mapped = Mapping::create(fd_.get(), size, PROT_READ | PROT_WRITE);
        EXPECT_TRUE(mapped);
        mapping_ = std::move(mapped).value();
    }

    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] std::uint64_t size() const { return mapping_.size(); }
    // `offset` must be a multiple of T's size.
    template <typename T>
    [[nodiscard]] T* at(std::uint64_t offset) const {
        return reinterpret_cast<T*>(mapping_.data() + offset);
    }
    // A word that is written concurrently.
    [[nodiscard]] std::uint64_t word(std::uint64_t offset) const {
        return std::atomic_ref(*at<std::uint64_t>(offset)).load(std::memory_order_acquire);
    }
    [[nodiscard]] std::uint32_t half_word(std::uint64_t offset) const {
        return std::atomic_ref(*at<std::uint32_t>(offset)).load(std::memory_order_relaxed);
    }

  private:
    Fd fd_;
    Mapping mapping_;
};

}  // namespace vgpu::test
