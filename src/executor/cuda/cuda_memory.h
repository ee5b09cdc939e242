// SPDX-License-Identifier: MIT
//
// CudaMemory: the buffers on one GPU, by ids that outlive the context: when a context is lost its
// buffers are forgotten, and their ids find nothing in the next one, whatever addresses the driver
// gives there.
//
// Needs the context to be current, but for forget_all(). The backend's thread only.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "executor/cuda/cuda_api.h"
#include "executor/operation.h"

namespace vgpu::cuda {

class CudaMemory {
  public:
    // Borrows api.
    explicit CudaMemory(const Api& api) : api_(api) {}

    // Memory as the driver gives it: not zeroed.
    Status allocate(std::uint64_t size, BufferId& buffer);
    // Waits for what runs on the GPU, as the driver does. Nothing happens if there is no such
    // buffer.
    Status release(BufferId buffer);
    // 0 if there is no such buffer.
    [[nodiscard]] DeviceAddress address(BufferId buffer) const;
    // Gives all back.
    void release_all();
    // The context took them with it.
    void forget_all() { buffers_.clear(); }

  private:
    const Api& api_;
    std::unordered_map<BufferId, DeviceAddress> buffers_;
    BufferId next_ = 1;
};

}  // namespace vgpu::cuda
