// SPDX-License-Identifier: MIT
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "fastpath.h"
#include "native_gpu.h"
#include "own_mediator.h"
#include "queue_device.h"
#include "statistics.h"

namespace vgpu::bench {

namespace {

using Bound = Figure::Bound;
using Clock = std::chrono::steady_clock;
constexpr std::uint32_t kVm = 1;
constexpr const char* kBytesCopied = "vgpu_heap_bytes_copied_by_processor_total";
constexpr std::uint64_t kMebibyte = std::uint64_t{1} << 20;
constexpr std::uint64_t kSmallestCopy = 4096;
// Bytes copied for one figure of one round: enough for timing, and at least a few copies, because
// bandwidth is that of back-to-back copies. The first copy after a pause is a separate figure.
constexpr std::uint64_t kRoundBytes = 256 * kMebibyte;
constexpr std::uint64_t kFewestCopies = 4;
constexpr std::uint64_t kMostCopies = 512;

// Takes (direction, bytes, copies, in flight), returns seconds.
using Copier = std::function<double(Direction, std::uint64_t, std::size_t, std::size_t)>;

// Copies over the fast path, between the heap and a buffer of the device.
class HeapCopier {
  public:
    HeapCopier(QueueDevice& device, std::uint64_t capacity)
        : device_(device),
          block_(device.allocate(capacity)),
          buffer_(device.allocate_buffer(capacity)) {
        points_.resize(64);
    }

    double copy(Direction direction, std::uint64_t bytes, std::size_t count,
                std::size_t most_in_flight) {
        const std::size_t in_flight = std::max<std::size_t>(most_in_flight, 1);
        const auto begin = Clock::now();
        std::uint64_t point = vgpu_queue_submitted(device_.queue());
        for (std::size_t i = 0; i < count; ++i) {
            if (i >= in_flight) {
                device_.wait(points_[i % in_flight]);
            }
            const std::uint64_t at = i % in_flight * bytes;
            device_.check(
                direction == Direction::kToDevice
                    ? vgpu_queue_push_copy_to(device_.queue(), buffer_, at, block_.offset + at,
                                              bytes, nullptr, &point, device_.why())
                    : vgpu_queue_push_copy_from(device_.queue(), buffer_, at, block_.offset + at,
                                                bytes, nullptr, &point, device_.why()));
            device_.flush();
            points_[i % in_flight] = point;
        }
        device_.wait(point);
        return std::chrono::duration<double>(Clock::now() - begin).count();
    }

    // Copies random bytes to the device and back and compares them.
    void prove(std::uint64_t bytes) {
        const std::span<std::byte> here(static_cast<std::byte*>(block_.pointer), bytes);
        std::vector<std::byte> wanted(bytes);
        std::mt19937_64 random(1);  // NOLINT(cert-msc32-c,cert-msc51-cpp)
        for (std::size_t at = 0; at + sizeof(std::uint64_t) <= bytes; at += sizeof(std::uint64_t)) {
            const std::uint64_t word = random();
            std::memcpy(wanted.data() + at, &word, sizeof word);
        }
        std::ranges::copy(wanted, here.begin());
        copy(Direction::kToDevice, bytes, 1, 1);
        std::ranges::fill(here, std::byte{0});
        copy(Direction::kFromDevice, bytes, 1, 1);
        device_.synchronize();
        if (!std::ranges::equal(here, wanted)) {
            throw std::runtime_error(
                "the data copied back from the device differ from the data copied to it");
        }
    }

  private:
    QueueDevice& device_;
    vgpu_heap_block block_;
    std::uint32_t buffer_;
    std::vector<std::uint64_t> points_;
};

// The same with the processor alone, the best that the CPU backend can achieve.
class MemoryCopier {
  public:
    explicit MemoryCopier(std::uint64_t capacity) : here_(capacity), there_(capacity) {}

    double copy(Direction direction, std::uint64_t bytes, std::size_t count,
                std::size_t most_in_flight) {
        const std::size_t in_flight = std::max<std::size_t>(most_in_flight, 1);
        const auto begin = Clock::now();
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint64_t at = i % in_flight * bytes;
            const bool there = direction == Direction::kToDevice;
            std::memcpy((there ? there_ : here_).data() + at, (there ? here_ : there_).data() + at,
                        bytes);
            asm volatile("" ::: "memory");
        }
        return std::chrono::duration<double>(Clock::now() - begin).count();
    }

  private:
    std::vector<std::byte> here_;
    std::vector<std::byte> there_;
};

struct Rates {  // GB/s, one value per round
    std::vector<double> fast;
    std::vector<double> native;
    std::vector<double> first;  // one copy, with mediator and worker asleep
};

std::string name_of(Direction direction) {
    return direction == Direction::kToDevice ? "heap to device" : "device to heap";
}

// Appends the ratio to the native rate of the same round, with a target only on CUDA.
void append_ratio(CopyFigures& result, const std::string& name, std::span<const double> fast,
                  std::span<const double> native, bool cuda, double target) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < fast.size(); ++i) {
        ratios.push_back(fast[i] / native[i]);
    }
    result.figures.push_back({.name = name,
                              .value = median(std::move(ratios)),
                              .unit = "times",
                              .bound = cuda ? Bound::kAtLeast : Bound::kNone,
                              .target = cuda ? target : 0});
}

CopyFigures measure(const FastPathPlan& plan, const Copier& fast, const Copier& native, bool cuda) {
    CopyFigures result;
    std::map<std::pair<Direction, std::uint64_t>, Rates> all;
    for (std::uint64_t bytes = kSmallestCopy; bytes <= plan.largest_copy; bytes *= 4) {
        const std::size_t in_flight =
            std::clamp<std::uint64_t>(plan.largest_copy / bytes, 1, plan.copies_in_flight);
        const std::size_t count =
            std::clamp<std::uint64_t>(kRoundBytes / bytes, kFewestCopies, kMostCopies);
        for (const Direction direction : {Direction::kToDevice, Direction::kFromDevice}) {
            Rates& rates = all[{direction, bytes}];
            const auto rate = [&](const Copier& copier, std::size_t copies) {
                return static_cast<double>(bytes * copies) /
                       copier(direction, bytes, copies, in_flight) / 1e9;
            };
            for (std::size_t round = 0; round <= plan.copy_rounds; ++round) {
                const double native_rate = rate(native, count);
                const double first_rate = rate(fast, 1);
                const double fast_rate = rate(fast, count);
                if (round != 0) {  // the first is the warm-up
                    rates.native.push_back(native_rate);
                    rates.first.push_back(first_rate);
                    rates.fast.push_back(fast_rate);
                }
            }
            const std::string floor = cuda ? "native pinned, " : "memcpy, ";
            result.points.push_back({name_of(direction), bytes, median(rates.fast)});
            result.points.push_back({floor + name_of(direction), bytes, median(rates.native)});
        }
    }
    for (const Direction direction : {Direction::kToDevice, Direction::kFromDevice}) {
        const std::string name = name_of(direction);
        const Rates& large = all.at({direction, plan.largest_copy});
        const std::string size = fmt::format("{} MiB", plan.largest_copy / kMebibyte);
        const std::string at_size = fmt::format("{}, {}", name, size);
        result.figures.push_back({.name = at_size, .value = median(large.fast), .unit = "GB/s"});
        append_ratio(result, at_size + " / native", large.fast, large.native, cuda, 0.95);
        result.figures.push_back({.name = at_size + ", the first after a pause",
                                  .value = median(large.first),
                                  .unit = "GB/s"});
        const auto small = all.find({direction, kMebibyte});
        if (small != all.end()) {
            const std::string label =
                fmt::format("{}, 1 MiB, {} in flight", name, plan.copies_in_flight);
            result.figures.push_back(
                {.name = label, .value = median(small->second.fast), .unit = "GB/s"});
            append_ratio(result, label + " / native", small->second.fast, small->second.native,
                         cuda, 0.8);
            append_ratio(result, fmt::format("{} / native {}", label, size), small->second.fast,
                         large.native, cuda, 0.8);
        }
    }
    return result;
}

// A GPU accesses the heap itself, so with CUDA the processor must not copy anything.
void append_bytes_copied(CopyFigures& result, const OwnMediator& mediator, bool cuda) {
    const auto bytes = mediator.metric(kBytesCopied);
    if (!bytes) {
        fmt::print("skipped: bytes copied by the processor: the mediator has no metric {}\n",
                   kBytesCopied);
        return;
    }
    result.figures.push_back({.name = "heap bytes copied by the processor",
                              .value = *bytes,
                              .unit = "bytes",
                              .bound = cuda ? Bound::kAtMost : Bound::kNone,
                              .target = 0});
}

}  // namespace

CopyFigures measure_copies(const FastPathPlan& plan) {
    OwnMediator mediator(plan.mediator, plan.backend,
                         fmt::format("[queues]\nmemory_max = {}\n", plan.shm_size));
    CopyFigures result;
    {
        QueueDevice device(mediator.socket(), kVm, QueueDevice::Wait::kDefault, plan.shm_size);
        const bool cuda = device.info().backend == VGPU_BACKEND_CUDA;
        HeapCopier heap(device, plan.largest_copy);
        heap.prove(std::min(plan.largest_copy, 64 * kMebibyte));
        const auto by = [](auto& copier) {
            return [&copier](Direction direction, std::uint64_t bytes, std::size_t count,
                             std::size_t in_flight) {
                return copier.copy(direction, bytes, count, in_flight);
            };
        };
        if (cuda) {
            auto made = NativeGpu::create(0, plan.largest_copy);
            if (!made) {
                throw std::runtime_error("no native copies to compare with: " +
                                         made.error().message);
            }
            result = measure(plan, by(heap), by(*made.value()), cuda);
        } else {
            MemoryCopier memory(plan.largest_copy);
            result = measure(plan, by(heap), by(memory), cuda);
        }
        device.synchronize();
        append_bytes_copied(result, mediator, cuda);
    }
    mediator.stop();
    return result;
}

}  // namespace vgpu::bench
