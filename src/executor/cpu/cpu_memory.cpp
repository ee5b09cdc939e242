// SPDX-License-Identifier: MIT
#include "executor/cpu/cpu_memory.h"

#include <utility>

namespace vgpu {

std::optional<BufferId> CpuMemory::allocate(std::uint64_t size) {
    if (size > available_.load()) {
        return std::nullopt;
    }
    // The kernel provides large blocks as zero pages, without writing them.
    std::unique_ptr<std::byte, Free> memory(
        static_cast<std::byte*>(std::calloc(1, size)));  // NOLINT(*-no-malloc)
    if (!memory) {
        return std::nullopt;
    }
    available_ -= size;
    buffers_.emplace(next_, Buffer{.memory = std::move(memory), .size = size});
    return next_++;
}

void CpuMemory::release(BufferId buffer) {
    const auto found = buffers_.find(buffer);
    if (found != buffers_.end()) {
        available_ += found->second.size;
        buffers_.erase(found);
    }
}

std::span<std::byte> CpuMemory::bytes(BufferId buffer) const {
    const auto found = buffers_.find(buffer);
    if (found == buffers_.end()) {
        return {};
    }
    return {found->second.memory.get(), found->second.size};
}

}  // namespace vgpu
