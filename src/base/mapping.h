// SPDX-License-Identifier: MIT
//
// Mapping: sole owner of a memory mapping.
#pragma once

#include <cstddef>

#include "base/result.h"

namespace vgpu {

class [[nodiscard]] Mapping {
  public:
    // Maps `length` bytes of `fd` from `offset` on, shared. Borrows fd: it may be closed
    // afterwards. `prot` as for mmap(2). Fails with mmap's errno.
    static Result<Mapping> create(int fd, std::size_t length, int prot, long offset = 0);

    Mapping() = default;
    Mapping(Mapping&& other) noexcept;
    Mapping& operator=(Mapping&& other) noexcept;
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    ~Mapping();

    // Borrows; null if empty.
    [[nodiscard]] std::byte* data() const { return data_; }
    [[nodiscard]] std::size_t size() const { return size_; }

  private:
    Mapping(std::byte* data, std::size_t size) : data_(data), size_(size) {}
    void unmap();

    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace vgpu
