// SPDX-License-Identifier: MIT
//
// Shared by both halves of the benchmark: the memory, its layout, and the computation of figures
// from samples.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/mapping.h"
#include "base/nearest_rank.h"
#include "base/relax.h"
#include "gpu/heap_bench.h"

namespace vgpu::cuda::bench {

using Clock = std::chrono::steady_clock;

inline constexpr std::uint64_t kMebibyte = std::uint64_t{1} << 20U;
inline constexpr std::uint64_t kTimeline = 64;
inline constexpr std::uint64_t kOperands = 4096;  // three words
inline constexpr std::uint64_t kBulk = kMebibyte;
inline constexpr int kInFlight = 4;
inline constexpr std::chrono::seconds kLimit{20};

inline double micros(Clock::duration time) {
    return std::chrono::duration<double, std::micro>(time).count();
}

// The median and the 99th percentile of the samples.
inline Figure of_samples(std::string name, std::vector<double> samples) {
    if (samples.empty()) {
        return {std::move(name), 0, "us", 0};
    }
    std::sort(samples.begin(), samples.end());
    return {std::move(name), samples[nearest_rank(samples.size(), 0.50) - 1], "us",
            samples[nearest_rank(samples.size(), 0.99) - 1]};
}

inline Figure bandwidth(std::string name, std::uint64_t bytes, Clock::duration time) {
    return {std::move(name), static_cast<double>(bytes) / micros(time) / 1000.0, "GB/s"};
}

inline std::string size_name(std::uint64_t bytes) {
    return std::to_string(bytes / kMebibyte) + " MiB";
}

// Memory as shared by a VM, with all its pages populated.
struct Region {
    Fd fd;
    Mapping mapping;

    static Result<Region> create(std::uint64_t size) {
        Region made{Fd(::memfd_create("vgpu-bench", MFD_CLOEXEC | MFD_ALLOW_SEALING)), {}};
        if (!made.fd || ::ftruncate(made.fd.get(), static_cast<off_t>(size)) != 0 ||
            ::fcntl(made.fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
            return Error::from_errno("cannot make shared memory", errno);
        }
        auto mapped = Mapping::create(made.fd.get(), size, PROT_READ | PROT_WRITE);
        if (!mapped) {
            return std::move(mapped).error();
        }
        made.mapping = std::move(mapped).value();
        std::fill_n(made.mapping.data(), size, std::byte{1});
        return made;
    }
    [[nodiscard]] std::uint64_t word(std::uint64_t offset) const {
        return std::atomic_ref(*reinterpret_cast<std::uint64_t*>(mapping.data() + offset))
            .load(std::memory_order_acquire);
    }
    [[nodiscard]] bool wait_for(std::uint64_t offset, std::uint64_t value) const {
        const auto deadline = Clock::now() + kLimit;
        while (word(offset) != value) {
            if (Clock::now() > deadline) {
                return false;
            }
            relax_processor();
        }
        return true;
    }
};

// Copies cycle through up to kInFlight places of `length` bytes.
inline std::uint64_t place(int number, std::uint64_t length, std::uint64_t largest) {
    const std::uint64_t places =
        std::max<std::uint64_t>(std::min<std::uint64_t>(largest / length, kInFlight), 1);
    return static_cast<std::uint64_t>(number) % places * length;
}

inline std::string copy_name(bool to_device, std::uint64_t length) {
    return (to_device ? "heap to GPU " : "GPU to heap ") + size_name(length);
}

}  // namespace vgpu::cuda::bench
