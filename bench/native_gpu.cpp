// SPDX-License-Identifier: MIT
#include "native_gpu.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "executor/relax.h"

namespace vgpu::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kAnswerLimit{10};
constexpr std::uint32_t kLooksPerClock = 4096;
constexpr std::uint32_t kNotYet = 0xFFFFFFFF;

// Words in the pinned memory, far enough apart.
constexpr std::size_t kA = 0;
constexpr std::size_t kB = 256;
constexpr std::size_t kSum = 512;

// *to = *a + *b, nothing else: by hand, as no compiler is needed for it.
constexpr const char* kPtx = R"(.version 6.4
.target sm_60
.address_size 64
.visible .entry add_one(.param .u64 to, .param .u64 a, .param .u64 b)
{
    .reg .b32 %r<4>;
    .reg .b64 %rd<7>;
    ld.param.u64 %rd1, [to];
    ld.param.u64 %rd2, [a];
    ld.param.u64 %rd3, [b];
    cvta.to.global.u64 %rd4, %rd1;
    cvta.to.global.u64 %rd5, %rd2;
    cvta.to.global.u64 %rd6, %rd3;
    ld.volatile.global.u32 %r1, [%rd5];
    ld.volatile.global.u32 %r2, [%rd6];
    add.u32 %r3, %r1, %r2;
    st.volatile.global.u32 [%rd4], %r3;
    ret;
}
)";

void store(std::byte* place, std::uint32_t value) {
    __atomic_store_n(reinterpret_cast<std::uint32_t*>(place), value, __ATOMIC_RELEASE);
}

std::uint32_t load(std::byte* place) {
    return __atomic_load_n(reinterpret_cast<std::uint32_t*>(place), __ATOMIC_ACQUIRE);
}

}  // namespace

Result<std::unique_ptr<NativeGpu>> NativeGpu::create(int ordinal, std::size_t capacity) {
    std::unique_ptr<NativeGpu> made(new NativeGpu);
    if (auto built = made->build(ordinal, capacity); !built) {
        return std::move(built).error();
    }
    return made;
}

Result<void> NativeGpu::build(int ordinal, std::size_t capacity) {
    auto api = cuda::Api::load();
    if (!api) {
        return std::move(api).error();
    }
    api_ = api.value();
    const std::size_t size = std::max<std::size_t>(capacity, 4096);
    void* host = nullptr;
    cuda::Status status = api_.init(0);
    const auto then = [&status](auto step) {
        if (status == cuda::kSuccess) {
            status = step();
        }
    };
    then([&] { return api_.device_get(&device_, ordinal); });
    then([&] { return api_.primary_context_retain(&context_, device_); });
    then([&] { return api_.context_set_current(context_); });
    then([&] { return api_.module_load_data_ex(&module_, kPtx, 0, nullptr, nullptr); });
    then([&] { return api_.module_get_function(&kernel_, module_, "add_one"); });
    for (cuda::Stream& stream : streams_) {
        then([&] { return api_.stream_create(&stream, cuda::kStreamNonBlocking); });
    }
    then([&] { return api_.mem_host_alloc(&host, size, cuda::kHostAllocDeviceMap); });
    host_ = static_cast<std::byte*>(host);
    then([&] { return api_.mem_host_get_device_pointer(&mapped_, host, 0); });
    then([&] { return api_.mem_alloc(&memory_, size); });
    if (status != cuda::kSuccess) {
        return Error{"the GPU cannot be used: " + api_.describe(status)};
    }
    std::memset(host_, 0, size);
    return {};
}

NativeGpu::~NativeGpu() {
    if (memory_ != 0) {
        api_.mem_free(memory_);
    }
    if (host_ != nullptr) {
        api_.mem_free_host(host_);
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

void NativeGpu::check(cuda::Status status, const char* what) const {
    if (status != cuda::kSuccess) {
        throw std::runtime_error(fmt::format("{}: {}", what, api_.describe(status)));
    }
}

void NativeGpu::launch(cuda::DeviceAddress to, cuda::DeviceAddress a, cuda::DeviceAddress b) {
    std::array<void*, 3> params{&to, &a, &b};
    check(api_.launch_kernel(kernel_, 1, 1, 1, 1, 1, 1, 0, streams_[0], params.data(), nullptr),
          "cannot launch the kernel");
}

template <typename Done>
void NativeGpu::spin_until(Done done) {
    const auto began = Clock::now();
    for (std::uint32_t looks = 1; !done(); ++looks) {
        relax_processor();
        if (looks % kLooksPerClock == 0 && Clock::now() - began > kAnswerLimit) {
            throw std::runtime_error("the GPU did not answer for 10 s");
        }
    }
}

void NativeGpu::wait_for(cuda::Stream stream) {
    cuda::Status status = cuda::kNotReady;
    spin_until([&] { return (status = api_.stream_query(stream)) != cuda::kNotReady; });
    check(status, "cannot wait for the GPU");
}

std::uint32_t NativeGpu::add_in_place(std::uint32_t a, std::uint32_t b) {
    store(host_ + kA, a);
    store(host_ + kB, b);
    store(host_ + kSum, kNotYet);
    launch(mapped_ + kSum, mapped_ + kA, mapped_ + kB);
    spin_until([&] { return load(host_ + kSum) != kNotYet; });
    return load(host_ + kSum);
}

std::uint32_t NativeGpu::add_with_copies(std::uint32_t a, std::uint32_t b) {
    store(host_ + kA, a);
    store(host_ + kB, b);
    constexpr std::size_t kSize = sizeof(std::uint32_t);
    check(api_.memcpy_htod_async(memory_ + kA, host_ + kA, kSize, streams_[0]), "cannot copy");
    check(api_.memcpy_htod_async(memory_ + kB, host_ + kB, kSize, streams_[0]), "cannot copy");
    launch(memory_ + kSum, memory_ + kA, memory_ + kB);
    check(api_.memcpy_dtoh_async(host_ + kSum, memory_ + kSum, kSize, streams_[0]), "cannot copy");
    wait_for(streams_[0]);
    return load(host_ + kSum);
}

double NativeGpu::copy(Direction direction, std::size_t bytes, std::size_t count,
                       std::size_t in_flight) {
    const auto begin = Clock::now();
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t slot = i % in_flight;
        if (i >= in_flight) {
            wait_for(streams_.at(slot));
        }
        std::byte* const host = host_ + slot * bytes;
        const cuda::DeviceAddress memory = memory_ + slot * bytes;
        check(direction == Direction::kToDevice
                  ? api_.memcpy_htod_async(memory, host, bytes, streams_.at(slot))
                  : api_.memcpy_dtoh_async(host, memory, bytes, streams_.at(slot)),
              "cannot copy");
    }
    for (std::size_t i = count - std::min(count, in_flight); i < count; ++i) {
        wait_for(streams_.at(i % in_flight));
    }
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace vgpu::bench
