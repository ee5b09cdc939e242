// SPDX-License-Identifier: MIT
//
// NativeGpu: what a program that has the GPU to itself gets out of it, through the driver and with
// nothing between: the floors under additions and copies over the fast path. Like NativeAdd it is
// written without the executor's code, which is what is measured against it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/result.h"
#include "executor/cuda/cuda_api.h"

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

    NativeGpu(const NativeGpu&) = delete;
    NativeGpu& operator=(const NativeGpu&) = delete;
    ~NativeGpu();

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
    NativeGpu() = default;
    Result<void> build(int ordinal, std::size_t capacity);
    void check(cuda::Status status, const char* what) const;
    void launch(cuda::DeviceAddress to, cuda::DeviceAddress a, cuda::DeviceAddress b);
    template <typename Done>
    void spin_until(Done done);
    void wait_for(cuda::Stream stream);

    cuda::Api api_{};
    cuda::Device device_ = 0;
    cuda::Context context_ = nullptr;
    cuda::Module module_ = nullptr;
    cuda::Function kernel_ = nullptr;
    std::array<cuda::Stream, kMostInFlight> streams_{};  // the first one for the additions, too
    std::byte* host_ = nullptr;       // pinned; the first words are operands and sum, too
    cuda::DeviceAddress mapped_ = 0;  // the same as the GPU sees it
    cuda::DeviceAddress memory_ = 0;  // the GPU's own
};

}  // namespace vgpu::bench
