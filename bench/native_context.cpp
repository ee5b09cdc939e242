// SPDX-License-Identifier: MIT
#include "native_context.h"

#include <fmt/core.h>

#include <cstring>
#include <utility>

namespace vgpu::bench {

Result<std::unique_ptr<NativeContext>> NativeContext::create(int ordinal, const char* ptx,
                                                             const char* kernel,
                                                             std::size_t streams,
                                                             std::size_t pinned,
                                                             std::size_t memory) {
    auto loaded = cuda::Api::load();
    if (!loaded) {
        return std::move(loaded).error();
    }
    const cuda::Api& api = loaded.value();
    std::unique_ptr<NativeContext> made(new NativeContext(api, streams));
    void* host = nullptr;
    cuda::Status status = api.init(0);
    const auto then = [&status](auto step) {
        if (status == cuda::kSuccess) {
            status = step();
        }
    };
    then([&] { return api.device_get(&made->device_, ordinal); });
    then([&] { return api.primary_context_retain(&made->context_, made->device_); });
    then([&] { return api.context_set_current(made->context_); });
    then([&] { return api.module_load_data_ex(&made->module_, ptx, 0, nullptr, nullptr); });
    then([&] { return api.module_get_function(&made->kernel_, made->module_, kernel); });
    for (cuda::Stream& stream : made->streams_) {
        then([&] { return api.stream_create(&stream, cuda::kStreamNonBlocking); });
    }
    then([&] { return api.mem_host_alloc(&host, pinned, cuda::kHostAllocDeviceMap); });
    made->pinned_ = static_cast<std::byte*>(host);
    then([&] { return api.mem_host_get_device_pointer(&made->pinned_address_, host, 0); });
    if (memory != 0) {
        then([&] { return api.mem_alloc(&made->memory_, memory); });
    }
    if (status != cuda::kSuccess) {
        return Error{"the GPU cannot be used: " + api.describe(status)};
    }
    std::memset(host, 0, pinned);
    return made;
}

NativeContext::~NativeContext() {
    if (memory_ != 0) {
        api_.mem_free(memory_);
    }
    if (pinned_ != nullptr) {
        api_.mem_free_host(pinned_);
    }
    for (cuda::Stream stream : streams_) {
        if (stream != nullptr) {
            api_.stream_destroy(stream);
        }
    }
    if (module_ != nullptr) {
        api_.module_unload(module_);
    }
    if (context_ != nullptr) {
        api_.context_set_current(nullptr);
        api_.primary_context_release(device_);
    }
}

void NativeContext::check(cuda::Status status, const char* what) const {
    if (status != cuda::kSuccess) {
        throw std::runtime_error(fmt::format("{}: {}", what, api_.describe(status)));
    }
}

void NativeContext::launch(void** params) const {
    check(api_.launch_kernel(kernel_, 1, 1, 1, 1, 1, 1, 0, streams_[0], params, nullptr),
          "cannot launch the kernel");
}

}  // namespace vgpu::bench
