// SPDX-License-Identifier: MIT
#include "native_add.h"

#include <array>
#include <utility>

#include "executor/cuda/cuda_context.h"
#include "executor/cuda/kernels.h"

namespace vgpu::bench {

Result<std::unique_ptr<NativeAdd>> NativeAdd::create(int ordinal) {
    auto context =
        NativeContext::create(ordinal, cuda::kAddPtx, "vgpu_add_u32", 1, sizeof(Mailbox), 0);
    if (!context) {
        return std::move(context).error();
    }
    return std::unique_ptr<NativeAdd>(new NativeAdd(std::move(context).value()));
}

std::uint32_t NativeAdd::add(std::uint32_t a, std::uint32_t b) {
    ++count_;
    // No heap result and no timeline store.
    cuda::DeviceAddress heap_result = 0;
    cuda::Finish finish{.cell = context_->pinned_address(), .sequence = count_};
    std::array<void*, 4> params{&a, &b, &heap_result, &finish};
    context_->launch(params.data());
    context_->spin_until(
        [&] { return __atomic_load_n(&mailbox_->done, __ATOMIC_ACQUIRE) == count_; });
    return mailbox_->result;
}

}  // namespace vgpu::bench
