// SPDX-License-Identifier: MIT
//
// NativeGpu: additions and copies by a program that has the GPU to itself, directly through the
// driver: the baseline for additions and copies over the fast path. Like NativeAdd, it is
// independent of the executor, which is measured against it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "base/result.h"
#include "native_context.h"

namespace vgpu::bench {

// Direction of a copy between host memory that the device can access and device memory.
enum class Direction : std::uint8_t { kToDevice, kFromDevice };

class NativeGpu {
  public:
    static constexpr std::size_t kMostInFlight = 8;

    // Uses the GPU with this ordinal, with `capacity` bytes for copies on each side. Makes its
    // context current on the calling thread, the only one that may use it. Returns an error message
    // on failure.
    static Result<std::unique_ptr<NativeGpu>> create(int ordinal, std::size_t capacity);

    // These throw std::runtime_error if the GPU fails or does not answer for 10 s.

    // Returns a + b modulo 2^32. A kernel of one thread reads its operands from pinned memory and
    // writes the sum there; this process polls for it. Precondition: the sum is not 2^32 - 1.
    std::uint32_t add_in_place(std::uint32_t a, std::uint32_t b);
    // The conventional way: two copies in, the kernel, one copy out, all on one stream and with
    // pinned memory; polls until the stream is idle.
    std::uint32_t add_with_copies(std::uint32_t a, std::uint32_t b);

    // Returns the seconds for `count` copies of `bytes` of pinned memory, at most `in_flight` in
    // flight, each on its own stream. Precondition: in_flight * bytes <= capacity, and in_flight is
    // 1 to kMostInFlight.
    double copy(Direction direction, std::size_t bytes, std::size_t count, std::size_t in_flight);

  private:
    explicit NativeGpu(std::unique_ptr<NativeContext> context)
        : context_(std::move(context)),
          host_(context_->pinned()),
          mapped_(context_->pinned_address()),
          memory_(context_->memory()) {}
    void launch(cuda::DeviceAddress to, cuda::DeviceAddress a, cuda::DeviceAddress b);
    // Uses the same offset on both sides.
    void start_copy(Direction direction, std::size_t offset, std::size_t bytes, std::size_t stream);
    void wait_for(std::size_t stream);

    std::unique_ptr<NativeContext> context_;  // its first stream also runs the additions
    std::byte* host_;                         // pinned; also holds operands and sum
    cuda::DeviceAddress mapped_;              // device address of host_
    cuda::DeviceAddress memory_;              // device memory
};

}  // namespace vgpu::bench
