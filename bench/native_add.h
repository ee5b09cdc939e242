// SPDX-License-Identifier: MIT
//
// NativeAdd: one addition on the GPU by a program that has the GPU to itself and does nothing else:
// the kernel that the mediator uses, launched straight through the driver, its result and its
// completion written by one store into pinned memory that this process looks at without pause. No
// way through the driver is known that is faster. What the mediator adds to that is what a
// benchmark wants to know.
//
// Written on its own, without the executor's code: it is what that is measured against.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "executor/cuda/cuda_api.h"

namespace vgpu::bench {

class NativeAdd {
  public:
    // On the GPU with this ordinal; its context is current on the calling thread from then on. The
    // error is a sentence.
    static Result<std::unique_ptr<NativeAdd>> create(int ordinal);

    NativeAdd(const NativeAdd&) = delete;
    NativeAdd& operator=(const NativeAdd&) = delete;
    ~NativeAdd();

    // a + b modulo 2^32, there and back. On the thread that made it. Throws std::runtime_error if
    // the GPU fails or does not answer for 10 s.
    std::uint32_t add(std::uint32_t a, std::uint32_t b);

  private:
    struct alignas(8) Mailbox {  // written by the GPU, as one 64-bit word
        std::uint32_t done;
        std::uint32_t result;
    };

    NativeAdd() = default;
    Result<void> build(int ordinal);
    void check(cuda::Status status, const char* what) const;

    cuda::Api api_{};
    cuda::Device device_ = 0;
    cuda::Context context_ = nullptr;
    cuda::Module module_ = nullptr;
    cuda::Function kernel_ = nullptr;
    cuda::Stream stream_ = nullptr;
    Mailbox* mailbox_ = nullptr;
    cuda::DeviceAddress device_mailbox_ = 0;
    std::uint32_t count_ = 0;
};

}  // namespace vgpu::bench
