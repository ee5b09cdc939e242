// SPDX-License-Identifier: MIT
//
// CudaMemory: the buffers on one GPU, by ids that outlive the context: when a context is lost its
// buffers are forgotten, and their ids find nothing in the next one, whatever addresses the driver
// gives there.
//
// Buffers come from a pool of the driver's, and go back to it in the order of a stream that has no
// other work: neither waits for what runs on the GPU. cuMemFree() does, for all of it, and so one
// VM's long kernel would hold up every VM of that GPU. What the pool has unused serves the
// next allocation; all but kKept goes back to the device once the GPU is idle, or when memory is
// short. Where the driver has no pools (before 11.2), cuMemFree() is what there is.
//
// Needs the context to be current, but for forget_all(). The backend's thread only.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "base/result.h"
#include "executor/cuda/cuda_api.h"
#include "executor/operation.h"

namespace vgpu::cuda {

class CudaMemory {
  public:
    // Unused memory that the pool keeps for the next allocation, bytes.
    static constexpr std::uint64_t kKept = std::uint64_t{64} << 20U;

    // Borrows api.
    explicit CudaMemory(const Api& api) : api_(api) {}

    // Makes the pool, if the driver has pools. Once, first; the error is a sentence.
    Result<void> open(Device device);

    // Memory as the driver gives it, not zeroed, for work in this stream from now on.
    Status allocate(std::uint64_t size, Stream stream, BufferId& buffer);
    // Nothing happens if there is no such buffer. Precondition: no work in flight uses it.
    Status release(BufferId buffer);
    // No work can name the buffer any more; it is there until it is released.
    void hide(BufferId buffer);
    // 0 if there is no such buffer, or it is hidden.
    [[nodiscard]] DeviceAddress address(BufferId buffer) const;
    // Bytes that the pool has unused: free, though the driver does not say so.
    [[nodiscard]] std::uint64_t unused() const;
    // Gives unused memory back to the device. For a time at which the GPU has nothing to do.
    void give_back();
    // Gives all back, and the pool.
    void close();
    // The context took them with it.
    void forget_all();

  private:
    using Buffers = std::unordered_map<BufferId, DeviceAddress>;

    Status allocate_from_pool(std::uint64_t size, DeviceAddress& address);
    Status free_address(DeviceAddress address);

    const Api& api_;
    Pool pool_ = nullptr;
    Stream stream_ = nullptr;
    Event given_ = nullptr;
    bool released_ = false;  // since give_back()
    Buffers buffers_;
    Buffers hidden_;
    BufferId next_ = 1;
};

}  // namespace vgpu::cuda
