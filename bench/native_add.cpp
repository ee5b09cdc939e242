// SPDX-License-Identifier: MIT
#include "native_add.h"

#include <fmt/core.h>

#include <array>
#include <chrono>
#include <stdexcept>
#include <utility>

#include "executor/cuda/cuda_context.h"
#include "executor/cuda/kernels.h"
#include "executor/relax.h"

namespace vgpu::bench {
namespace {

constexpr std::chrono::seconds kAnswerLimit{10};
constexpr std::uint32_t kLooksPerClock = 4096;

}  // namespace

Result<std::unique_ptr<NativeAdd>> NativeAdd::create(int ordinal) {
    std::unique_ptr<NativeAdd> made(new NativeAdd);
    if (auto built = made->build(ordinal); !built) {
        return std::move(built).error();
    }
    return made;
}

Result<void> NativeAdd::build(int ordinal) {
    auto api = cuda::Api::load();
    if (!api) {
        return std::move(api).error();
    }
    api_ = api.value();
    void* mailbox = nullptr;
    cuda::Status status = api_.init(0);
    const auto then = [&status](auto step) {
        if (status == cuda::kSuccess) {
            status = step();
        }
    };
    then([&] { return api_.device_get(&device_, ordinal); });
    then([&] { return api_.primary_context_retain(&context_, device_); });
    then([&] { return api_.context_set_current(context_); });
    then([&] { return api_.module_load_data_ex(&module_, cuda::kAddPtx, 0, nullptr, nullptr); });
    then([&] { return api_.module_get_function(&kernel_, module_, "vgpu_add_u32"); });
    then([&] { return api_.stream_create(&stream_, cuda::kStreamNonBlocking); });
    then([&] { return api_.mem_host_alloc(&mailbox, sizeof(Mailbox), cuda::kHostAllocDeviceMap); });
    then([&] { return api_.mem_host_get_device_pointer(&device_mailbox_, mailbox, 0); });
    mailbox_ = static_cast<Mailbox*>(mailbox);
    if (status != cuda::kSuccess) {
        return Error{"the GPU cannot be used: " + api_.describe(status)};
    }
    *mailbox_ = {};
    return {};
}

NativeAdd::~NativeAdd() {
    if (mailbox_ != nullptr) {
        api_.mem_free_host(mailbox_);
    }
    if (stream_ != nullptr) {
        api_.stream_destroy(stream_);
    }
    if (module_ != nullptr) {
        api_.module_unload(module_);
    }
    if (context_ != nullptr) {
        api_.context_set_current(nullptr);
        api_.primary_context_release(device_);
    }
}

void NativeAdd::check(cuda::Status status, const char* what) const {
    if (status != cuda::kSuccess) {
        throw std::runtime_error(fmt::format("{}: {}", what, api_.describe(status)));
    }
}

std::uint32_t NativeAdd::add(std::uint32_t a, std::uint32_t b) {
    ++count_;
    // Nothing goes into a heap, and no timeline is stored.
    cuda::DeviceAddress heap_result = 0;
    cuda::Finish finish{.cell = device_mailbox_, .sequence = count_};
    std::array<void*, 4> params{&a, &b, &heap_result, &finish};
    check(api_.launch_kernel(kernel_, 1, 1, 1, 1, 1, 1, 0, stream_, params.data(), nullptr),
          "cannot launch the kernel");
    const auto began = std::chrono::steady_clock::now();
    std::uint32_t looks = 0;
    while (__atomic_load_n(&mailbox_->done, __ATOMIC_ACQUIRE) != count_) {
        relax_processor();
        if (++looks % kLooksPerClock == 0 &&
            std::chrono::steady_clock::now() - began > kAnswerLimit) {
            throw std::runtime_error("the GPU did not answer for 10 s");
        }
    }
    return mailbox_->result;
}

}  // namespace vgpu::bench
