// SPDX-License-Identifier: MIT
//
// NativeAdd: one addition on the GPU by a program that has the GPU to itself: the kernel that the
// mediator uses, launched directly through the driver. One store writes result and completion to
// pinned memory, which this process polls. No faster way through the driver is known. It is the
// baseline for the overhead of the mediator.
//
// Independent of the executor, which is measured against it.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "base/result.h"
#include "native_context.h"

namespace vgpu::bench {

class NativeAdd {
  public:
    // Uses the GPU with this ordinal and makes its context current on the calling thread. Returns
    // an error message on failure.
    static Result<std::unique_ptr<NativeAdd>> create(int ordinal);

    // Returns a + b modulo 2^32, computed on the GPU. Call on the thread that created it. Throws
    // std::runtime_error if the GPU fails or does not answer for 10 s.
    std::uint32_t add(std::uint32_t a, std::uint32_t b);

  private:
    struct alignas(8) Mailbox {  // written by the GPU, as one 64-bit word
        std::uint32_t done;
        std::uint32_t result;
    };

    explicit NativeAdd(std::unique_ptr<NativeContext> context)
        : context_(std::move(context)), mailbox_(reinterpret_cast<Mailbox*>(context_->pinned())) {}

    std::unique_ptr<NativeContext> context_;
    Mailbox* mailbox_;  // in the context's pinned memory
    std::uint32_t count_ = 0;
};

}  // namespace vgpu::bench
