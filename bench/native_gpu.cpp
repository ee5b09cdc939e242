// SPDX-License-Identifier: MIT
#include "native_gpu.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

namespace vgpu::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::uint32_t kNotYet = 0xFFFFFFFF;

// Offsets of the words in pinned memory, far enough apart.
constexpr std::size_t kA = 0;
constexpr std::size_t kB = 256;
constexpr std::size_t kSum = 512;

// *to = *a + *b. Handwritten PTX, so that no compiler is needed.
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
    const std::size_t size = std::max<std::size_t>(capacity, 4096);
    auto context = NativeContext::create(ordinal, kPtx, "add_one", kMostInFlight, size, size);
    if (!context) {
        return std::move(context).error();
    }
    return std::unique_ptr<NativeGpu>(new NativeGpu(std::move(context).value()));
}

void NativeGpu::launch(cuda::DeviceAddress to, cuda::DeviceAddress a, cuda::DeviceAddress b) {
    std::array<void*, 3> params{&to, &a, &b};
    context_->launch(params.data());
}

void NativeGpu::start_copy(Direction direction, std::size_t offset, std::size_t bytes,
                           std::size_t stream) {
    const cuda::Api& api = context_->api();
    context_->check(direction == Direction::kToDevice
                        ? api.memcpy_htod_async(memory_ + offset, host_ + offset, bytes,
                                                context_->stream(stream))
                        : api.memcpy_dtoh_async(host_ + offset, memory_ + offset, bytes,
                                                context_->stream(stream)),
                    "cannot copy");
}

void NativeGpu::wait_for(std::size_t stream) {
    cuda::Status status = cuda::kNotReady;
    context_->spin_until([&] {
        status = context_->api().stream_query(context_->stream(stream));
        return status != cuda::kNotReady;
    });
    context_->check(status, "cannot wait for the GPU");
}

std::uint32_t NativeGpu::add_in_place(std::uint32_t a, std::uint32_t b) {
    store(host_ + kA, a);
    store(host_ + kB, b);
    store(host_ + kSum, kNotYet);
    launch(mapped_ + kSum, mapped_ + kA, mapped_ + kB);
    context_->spin_until([&] { return load(host_ + kSum) != kNotYet; });
    return load(host_ + kSum);
}

std::uint32_t NativeGpu::add_with_copies(std::uint32_t a, std::uint32_t b) {
    store(host_ + kA, a);
    store(host_ + kB, b);
    constexpr std::size_t kSize = sizeof(std::uint32_t);
    start_copy(Direction::kToDevice, kA, kSize, 0);
    start_copy(Direction::kToDevice, kB, kSize, 0);
    launch(memory_ + kSum, memory_ + kA, memory_ + kB);
    start_copy(Direction::kFromDevice, kSum, kSize, 0);
    wait_for(0);
    return load(host_ + kSum);
}

double NativeGpu::copy(Direction direction, std::size_t bytes, std::size_t count,
                       std::size_t in_flight) {
    const auto begin = Clock::now();
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t slot = i % in_flight;
        if (i >= in_flight) {
            wait_for(slot);
        }
        start_copy(direction, slot * bytes, bytes, slot);
    }
    for (std::size_t i = count - std::min(count, in_flight); i < count; ++i) {
        wait_for(i % in_flight);
    }
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace vgpu::bench
