// SPDX-License-Identifier: MIT
//
// Claims: who, of the processes that use one device, has which of its queues and which part of its
// heap. A claim is a write lock on a byte of the file that stands for the shared memory (resource2
// in sysfs), held by an open file description (F_OFD_SETLK): so two opens of the file exclude each
// other, be they in one process or two, and the kernel gives up a dead process's claims. The bytes
// only name things; nobody reads or writes them. All processes of a VM have to agree on them:
//
//   byte 0 … 63      queue of that number
//   byte 64          held while queues or chunks change hands
//   byte 1024 + n    chunk n of the heap
//
// One open file cannot exclude itself, so whoever shares a Claims object keeps count of its own.
#pragma once

#include <cstdint>
#include <optional>

#include "base/fd.h"
#include "client/include/outcome.h"

namespace vgpu::client {

inline constexpr std::uint64_t kHandoverByte = 64;
inline constexpr std::uint64_t kFirstChunkByte = 1024;

class Claims {
  public:
    // Borrows: a file opened for reading and writing, which outlives this.
    explicit Claims(int file) : file_(file) {}

    // Claims bytes [first, first + count), all or none. False if another has one of them.
    // VGPU_E_SYSTEM.
    [[nodiscard]] Outcome<bool> take(std::uint64_t first, std::uint64_t count) const;
    void give_back(std::uint64_t first, std::uint64_t count) const;
    // The end of another's claim that overlaps [first, first + count); nothing if there is none.
    [[nodiscard]] std::optional<std::uint64_t> end_of_obstacle(std::uint64_t first,
                                                               std::uint64_t count) const;

  private:
    int file_;
};

}  // namespace vgpu::client
