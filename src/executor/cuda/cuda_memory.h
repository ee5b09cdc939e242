// SPDX-License-Identifier: MIT
//
// CudaMemory: the buffers on one GPU, identified by ids that outlive the context. When a context is
// lost its buffers are forgotten, and their ids are invalid in the next one, whatever addresses the
// driver assigns there.
//
// Buffers come from a driver's memory pool and are returned to it in the order of a dedicated
// stream without other work: neither waits for work on the GPU. cuMemFree() waits for all of it, so
// one VM's long kernel would delay every VM of that GPU. Unused pool memory serves the next
// allocation; all but kKept is returned to the device once the GPU is idle, or when memory is
// short. If the driver has no pools (before 11.2), cuMemFree() is used.
//
// Requires the context to be current, except for forget_all(). Backend thread only.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "base/result.h"
#include "executor/cuda/cuda_api.h"
#include "executor/job.h"

namespace vgpu::cuda {

class CudaMemory {
  public:
    // Bytes of unused memory that the pool keeps for the next allocation.
    static constexpr std::uint64_t kKept = std::uint64_t{64} << 20U;

    // Borrows api.
    explicit CudaMemory(const Api& api) : api_(api) {}

    // Creates the pool, if the driver has pools. Call once, before all other functions.
    Result<void> open(Device device);

    // Allocates memory, not zeroed, for work submitted to this stream from now on.
    Status allocate(std::uint64_t size, Stream stream, BufferId& buffer);
    // No effect if the buffer does not exist. Precondition: no work in flight uses it.
    Status release(BufferId buffer);
    // Makes the buffer invalid for new work; it stays allocated until it is released.
    void hide(BufferId buffer);
    // Returns 0 if the buffer does not exist or is hidden.
    [[nodiscard]] DeviceAddress address(BufferId buffer) const;
    // Bytes that the pool has unused: free, though the driver does not count them as free.
    [[nodiscard]] std::uint64_t unused() const;
    // Returns unused memory to the device. Call when the GPU is idle.
    void give_back();
    // Frees all buffers and the pool.
    void close();
    // Forgets all buffers: they were lost with the context.
    void forget_all();

  private:
    using Buffers = std::unordered_map<BufferId, DeviceAddress>;

    Status allocate_from_pool(std::uint64_t size, DeviceAddress& address);
    Status free_address(DeviceAddress address);

    const Api& api_;
    Pool pool_ = nullptr;
    Stream stream_ = nullptr;
    Event given_ = nullptr;
    bool released_ = false;  // since the last give_back()
    Buffers buffers_;
    Buffers hidden_;
    BufferId next_ = 1;
};

}  // namespace vgpu::cuda
