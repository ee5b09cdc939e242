// SPDX-License-Identifier: MIT
//
// CpuMemory: the CPU backend's device memory. It hands out zeroed host memory up to a fixed amount,
// so that running out of it is an error for whoever asks and never a danger for the host.
//
// Use from one thread, but for available().
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>

#include "executor/operation.h"

namespace vgpu {

class CpuMemory {
  public:
    explicit CpuMemory(std::uint64_t capacity) : available_(capacity) {}

    // A zeroed buffer; nothing where there is not so much left.
    std::optional<BufferId> allocate(std::uint64_t size);
    // Nothing happens if there is no such buffer.
    void release(BufferId buffer);
    // The buffer's bytes; empty if there is no such buffer.
    [[nodiscard]] std::span<std::byte> bytes(BufferId buffer) const;
    // Bytes not handed out. Any thread.
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
