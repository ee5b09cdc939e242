// SPDX-License-Identifier: MIT
//
// NativeContext: shared by NativeAdd and NativeGpu: the primary context of a GPU with one kernel,
// streams, and memory on host and device, directly through the driver. Independent of the executor,
// which is measured against it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

#include "base/relax.h"
#include "base/result.h"
#include "executor/cuda/cuda_api.h"

namespace vgpu::bench {

class NativeContext {
  public:
    // Uses the GPU with this ordinal, the kernel of this name in this PTX, 1 or more streams,
    // `pinned` bytes of zeroed pinned memory, and `memory` bytes of device memory (0: none). Makes
    // the context current on the calling thread, the only one that may use it. Returns an error
    // message on failure.
    static Result<std::unique_ptr<NativeContext>> create(int ordinal, const char* ptx,
                                                         const char* kernel, std::size_t streams,
                                                         std::size_t pinned, std::size_t memory);

    NativeContext(const NativeContext&) = delete;
    NativeContext& operator=(const NativeContext&) = delete;
    // Leaves no context current. Ignores errors.
    ~NativeContext();

    [[nodiscard]] const cuda::Api& api() const { return api_; }
    [[nodiscard]] cuda::Stream stream(std::size_t index) const { return streams_.at(index); }
    [[nodiscard]] std::byte* pinned() const { return pinned_; }
    // Device address of pinned().
    [[nodiscard]] cuda::DeviceAddress pinned_address() const { return pinned_address_; }
    [[nodiscard]] cuda::DeviceAddress memory() const { return memory_; }

    // These throw std::runtime_error if the GPU fails or does not answer for 10 s.
    void check(cuda::Status status, const char* what) const;
    // Launches the kernel with one thread on the first stream; does not wait for it.
    void launch(void** params) const;
    // Polls until done() returns true.
    template <typename Done>
    void spin_until(Done done) const;

  private:
    NativeContext(const cuda::Api& api, std::size_t streams) : api_(api), streams_(streams) {}

    cuda::Api api_;
    cuda::Device device_ = 0;
    cuda::Context context_ = nullptr;
    cuda::Module module_ = nullptr;
    cuda::Function kernel_ = nullptr;
    std::vector<cuda::Stream> streams_;
    std::byte* pinned_ = nullptr;
    cuda::DeviceAddress pinned_address_ = 0;
    cuda::DeviceAddress memory_ = 0;
};

template <typename Done>
void NativeContext::spin_until(Done done) const {
    constexpr std::uint32_t kPollsPerClock = 4096;
    using Clock = std::chrono::steady_clock;
    const auto began = Clock::now();
    for (std::uint32_t polls = 1; !done(); ++polls) {
        relax_processor();
        if (polls % kPollsPerClock == 0 && Clock::now() - began > std::chrono::seconds(10)) {
            throw std::runtime_error("the GPU did not answer for 10 s");
        }
    }
}

}  // namespace vgpu::bench
