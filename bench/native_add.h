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
#include <utility>

#include "base/result.h"
#include "native_context.h"

namespace vgpu::bench {

class NativeAdd {
  public:
    // On the GPU with this ordinal; its context is current on the calling thread from then on. The
    // error is a sentence.
    static Result<std::unique_ptr<NativeAdd>> create(int ordinal);

    // a + b modulo 2^32, there and back. On the thread that made it. Throws std::runtime_error if
    // the GPU fails or does not answer for 10 s.
    std::uint32_t add(std::uint32_t a, std::uint32_t b);

  private:
    struct alignas(8) Mailbox {  // written by the GPU, as one 64-bit word
        std::uint32_t done;
        std::uint32_t result;
    };

    explicit NativeAdd(std::unique_ptr<NativeContext> context)
        : context_(std::move(context)), mailbox_(reinterpret_cast<Mailbox*>(context_->pinned())) {}

    std::unique_ptr<NativeContext> context_;
    Mailbox* mailbox_;  // in its pinned memory
    std::uint32_t count_ = 0;
};

}  // namespace vgpu::bench
