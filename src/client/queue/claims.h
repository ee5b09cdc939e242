// SPDX-License-Identifier: MIT
//
// Claims: ownership of queues and heap chunks among the processes that use a device. A claim is a
// write lock on a byte of the file that backs the shared memory (resource2 in sysfs), held by an
// open file description (F_OFD_SETLK). Two opens of the file exclude each other, in one process or
// in two, and the kernel releases the claims of a dead process. The bytes are lock keys only and
// are never read or written. All processes of a VM must use the same assignment:
//
//   byte 0 … 63      queue with that index
//   byte 64          handover lock: held while ownership of queues or chunks changes
//   byte 1024 + n    chunk n of the heap
//
// An open file never conflicts with itself: users of a Claims object track their own claims.
#pragma once

#include <cstdint>
#include <optional>

#include "base/fd.h"
#include "client/include/expected.h"

namespace vgpu::client {

inline constexpr std::uint64_t kHandoverByte = 64;
inline constexpr std::uint64_t kFirstChunkByte = 1024;

class Claims {
  public:
    // `file`: a descriptor opened for reading and writing. Not owned; must outlive this object.
    explicit Claims(int file) : file_(file) {}

    // Claims bytes [first, first + count), all or none. Returns false if another open file holds
    // one of them. Error: VGPU_E_SYSTEM.
    [[nodiscard]] Expected<bool> take(std::uint64_t first, std::uint64_t count) const;
    void give_back(std::uint64_t first, std::uint64_t count) const;
    // Returns the end of another open file's claim in [first, first + count), or nullopt.
    [[nodiscard]] std::optional<std::uint64_t> end_of_obstacle(std::uint64_t first,
                                                               std::uint64_t count) const;

  private:
    int file_;
};

}  // namespace vgpu::client
