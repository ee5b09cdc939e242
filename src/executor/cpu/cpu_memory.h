// SPDX-License-Identifier: MIT
//
// CpuMemory: the CPU backend's device memory. Allocates zeroed host memory up to a fixed amount, so
// that exhaustion is an error for the caller and never a danger for the host.
//
// Single-threaded, except for available().
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>

#include "executor/job.h"

namespace vgpu {

class CpuMemory {
  public:
    explicit CpuMemory(std::uint64_t capacity) : available_(capacity) {}

    // Returns a zeroed buffer; nullopt if the remaining memory is insufficient.
    std::optional<BufferId> allocate(std::uint64_t size);
    // No effect if the buffer does not exist.
    void release(BufferId buffer);
    // Returns the buffer's bytes; empty if the buffer does not exist.
    [[nodiscard]] std::span<std::byte> bytes(BufferId buffer) const;
    // Bytes not allocated. Any thread.
    [[nodiscard]] std::uint64_t available() const { return available_.load(); }

  private:
    struct Free {
        void operator()(void* memory) const { std::free(memory); }  // NOLINT(*-no-malloc)
    };
    struct Buffer {
        std::unique_ptr<std::byte, Free> memory;
        std::uint64_t size = 0;
    };

    std::unordered_map<BufferId, Buffer> buffers_;
    BufferId next_ = 1;
    std::atomic<std::uint64_t> available_;
};

}  // namespace vgpu
