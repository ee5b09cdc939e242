// SPDX-License-Identifier: MIT
//
// NativeGpu: what a program that has the GPU to itself gets out of it, through the driver and with
// nothing between: the floors under additions and copies over the fast path. Like NativeAdd it is
// written without the executor's code, which is what is measured against it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "base/result.h"
#include "native_context.h"

namespace vgpu::bench {

// Where copies go: from host memory that the device can reach to memory of the device, or back.
enum class Direction : std::uint8_t { kToDevice, kFromDevice };

class NativeGpu {
  public:
    static constexpr std::size_t kMostInFlight = 8;

    // On the GPU with this ordinal, with `capacity` bytes for copies on either side. Its context is
    // current on the calling thread from then on; that thread alone may use it. The error is a
    // sentence.
    static Result<std::unique_ptr<NativeGpu>> create(int ordinal, std::size_t capacity);

    // These throw std::runtime_error if the GPU fails or does not answer for 10 s.

    // a + b modulo 2^32 by a kernel of one thread that reads its operands from pinned memory and
    // writes the sum there, which this process looks at without pause. Precondition: the sum is not
    // 2^32 - 1.
    std::uint32_t add_in_place(std::uint32_t a, std::uint32_t b);
    // The usual way: two copies in, the kernel, one copy out, all on one stream, from and to pinned
    // memory; spins until the stream is idle.
    std::uint32_t add_with_copies(std::uint32_t a, std::uint32_t b);

    // Seconds for `count` copies of `bytes` of pinned memory, of which at most `in_flight` are
    // under way, each on a stream of its own. Precondition: in_flight * bytes <= capacity, and
    // in_flight is 1 to kMostInFlight.
    double copy(Direction direction, std::size_t bytes, std::size_t count, std::size_t in_flight);

  private:
    explicit NativeGpu(std::unique_ptr<NativeContext> context)
        : context_(std::move(context)),
          host_(context_->pinned()),
          mapped_(context_->pinned_address()),
          memory_(context_->memory()) {}
    void launch(cuda::DeviceAddress to, cuda::DeviceAddress a, cuda::DeviceAddress b);
    // From and to the same offset on either side.
    void start_copy(Direction direction, std::size_t offset, std::size_t bytes, std::size_t stream);
    void wait_for(std::size_t stream);

    std::unique_ptr<NativeContext> context_;  // its first stream is for the additions, too
    std::byte* host_;                         // pinned; the first words are operands and sum, too
    cuda::DeviceAddress mapped_;              // the same as the GPU sees it
    cuda::DeviceAddress memory_;              // the GPU's own
};

}  // namespace vgpu::bench
