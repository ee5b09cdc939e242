// SPDX-License-Identifier: MIT
#include <fmt/core.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "fastpath.h"
#include "native_gpu.h"
#include "own_mediator.h"
#include "placement.h"
#include "queue_device.h"
#include "turns.h"

namespace vgpu::bench {

namespace {

using Bound = Figure::Bound;
using Clock = std::chrono::steady_clock;
constexpr std::uint32_t kVm = 1;
constexpr std::uint32_t kHeapVm = 2;
constexpr std::size_t kTurn = 100;

[[noreturn]] void wrong(std::uint32_t a, std::uint32_t b, std::uint32_t sum) {
    throw std::runtime_error(
        fmt::format("wrong sum from the fast path: {} + {} = {} (mod 2^32)", a, b, sum));
}

// Runs additions of changing numbers with replies, at most `window` in flight, submitted in batches
// of half of it. Reads every reply and checks every sum. Returns seconds.
double add_many(QueueDevice& device, std::size_t count, std::size_t window) {
    constexpr std::uint32_t kReplyBytes = 64;
    const vgpu_heap_block replies = device.allocate(window * kReplyBytes);
    const auto place = [&](std::uint64_t i) {
        return vgpu_reply_place{.offset = replies.offset + i % window * kReplyBytes,
                                .cookie = i,
                                .capacity = kReplyBytes,
                                .reserved = 0};
    };
    const auto a = [](std::uint64_t i) { return static_cast<std::uint32_t>(i * 0x01000193U); };
    const auto b = [](std::uint64_t i) { return static_cast<std::uint32_t>(i * 7 + 1); };
    const auto take = [&](std::uint64_t i) {
        const vgpu_reply_place where = place(i);
        vgpu_reply_view reply{};
        device.check(vgpu_queue_reply_read(device.queue(), &where, &reply, device.why()));
        if (reply.result_count != 1) {
            throw std::runtime_error("the response to an addition contains no sum");
        }
        if (reply.results[0] != a(i) + b(i)) {
            wrong(a(i), b(i), reply.results[0]);
        }
    };
    const auto begin = Clock::now();
    const std::size_t batch = window / 2;
    std::uint64_t before = 0;  // last timeline point of the previous batch
    std::uint64_t point = vgpu_queue_submitted(device.queue());
    std::uint64_t taken = 0;
    for (std::uint64_t sent = 0; taken < count;) {
        const std::uint64_t stop = std::min<std::uint64_t>(sent + batch, count);
        const std::uint64_t due = sent;  // all before this one were in earlier batches
        before = point;
        for (; sent < stop; ++sent) {
            const vgpu_reply_place where = place(sent);
            device.check(vgpu_queue_push_add(device.queue(), a(sent), b(sent), &where, &point,
                                             device.why()));
        }
        device.flush();
        // While this batch is in flight, wait for the previous one and read its replies.
        const bool last = due == count;
        device.wait(last ? point : before);
        for (; taken < (last ? count : due); ++taken) {
            take(taken);
        }
    }
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Adds one vector element in the heap at a time.
class HeapAdder {
  public:
    explicit HeapAdder(QueueDevice& device) : device_(device), block_(device.allocate(4096)) {}

    void add(std::uint32_t a, std::uint32_t b) {
        store(kA, a);
        store(kB, b);
        std::uint64_t point = 0;
        device_.check(vgpu_queue_push_vector_add(device_.queue(), VGPU_TYPE_I32, operand(kSum),
                                                 operand(kA), operand(kB), 1, nullptr, &point,
                                                 device_.why()));
        device_.wait(point);
        const std::uint32_t sum = load(kSum);
        if (sum != a + b) {
            device_.synchronize();  // throws the mediator's error, if there is one
            wrong(a, b, sum);
        }
    }

  private:
    static constexpr std::size_t kA = 0;
    static constexpr std::size_t kB = 256;
    static constexpr std::size_t kSum = 512;

    [[nodiscard]] std::uint32_t* word(std::size_t at) const {
        return reinterpret_cast<std::uint32_t*>(static_cast<std::byte*>(block_.pointer) + at);
    }
    void store(std::size_t at, std::uint32_t value) const {
        __atomic_store_n(word(at), value, __ATOMIC_RELEASE);
    }
    [[nodiscard]] std::uint32_t load(std::size_t at) const {
        return __atomic_load_n(word(at), __ATOMIC_ACQUIRE);
    }
    [[nodiscard]] std::uint64_t operand(std::size_t at) const {
        return VGPU_HEAP_OPERAND(block_.offset + at);
    }

    QueueDevice& device_;
    vgpu_heap_block block_;
};

void append_heap_adds(const FastPathPlan& plan, const OwnMediator& mediator,
                      std::vector<Figure>& figures) {
    QueueDevice device(mediator.socket(), kHeapVm, QueueDevice::Wait::kSpin);
    auto made = NativeGpu::create(0, 4096);
    if (!made) {
        throw std::runtime_error("no native additions to compare with: " + made.error().message);
    }
    const std::unique_ptr<NativeGpu> native = std::move(made).value();
    HeapAdder adder(device);
    const Placed placed(
        Placed::possible(Placement::kTwoCores) ? Placement::kTwoCores : Placement::kAny,
        {mediator.pid()});
    std::uint32_t number = 0;
    const auto with_numbers = [&](auto add) {
        return [&number, add](std::size_t calls, std::vector<std::int64_t>& times) {
            time_blocks(
                calls, 1,
                [&] {
                    number += 2;  // an even sum never equals the marker for "not yet"
                    add(number, number + 2);
                },
                times);
        };
    };
    const auto over_heap = with_numbers([&](std::uint32_t a, std::uint32_t b) { adder.add(a, b); });
    const auto checked = [](std::uint32_t a, std::uint32_t b, std::uint32_t sum) {
        if (sum != a + b) {
            throw std::runtime_error("the GPU returned a wrong sum");
        }
    };
    const auto in_place = with_numbers(
        [&](std::uint32_t a, std::uint32_t b) { checked(a, b, native->add_in_place(a, b)); });
    const auto with_copies = with_numbers(
        [&](std::uint32_t a, std::uint32_t b) { checked(a, b, native->add_with_copies(a, b)); });
    const std::size_t calls = plan.iterations / 4 + 1;
    const Pair best = measure_in_turns(plan.rounds, calls, kTurn, in_place, over_heap);
    const Pair usual = measure_in_turns(plan.rounds, calls, kTurn, with_copies, over_heap);
    figures.push_back(
        {.name = "native add in pinned memory, p50", .value = best.floor.p50 / 1e3, .unit = "us"});
    figures.push_back(
        {.name = "native copy, launch, copy, p50", .value = usual.floor.p50 / 1e3, .unit = "us"});
    figures.push_back(
        {.name = "add over the heap, p50", .value = best.measured.p50 / 1e3, .unit = "us"});
    figures.push_back(
        {.name = "add over the heap, p99", .value = best.measured.p99 / 1e3, .unit = "us"});
    figures.push_back({.name = "add over the heap / native in pinned memory",
                       .value = best.ratio,
                       .unit = "times",
                       .bound = Bound::kAtMost,
                       .target = 1.5});
    figures.push_back({.name = "add over the heap / native with copies",
                       .value = usual.ratio,
                       .unit = "times",
                       .bound = Bound::kAtMost,
                       .target = 1});
}

}  // namespace

std::vector<Figure> measure_adds(const FastPathPlan& plan) {
    OwnMediator mediator(plan.mediator, plan.backend);
    std::vector<Figure> figures;
    {
        QueueDevice device(mediator.socket(), kVm, QueueDevice::Wait::kDefault);
        if (device.info().backend == VGPU_BACKEND_CUDA) {
            append_heap_adds(plan, mediator, figures);
        }
        const double seconds = add_many(device, plan.adds, plan.add_window);
        figures.push_back(
            {.name = fmt::format("{} additions, {} in flight: errors", plan.adds, plan.add_window),
             .value = 0,  // the first error would have thrown
             .unit = "",
             .bound = Bound::kAtMost,
             .target = 0});
        figures.push_back({.name = fmt::format("additions, {} in flight", plan.add_window),
                           .value = static_cast<double>(plan.adds) / seconds / 1e6,
                           .unit = "M/s"});
    }
    mediator.stop();
    return figures;
}

}  // namespace vgpu::bench
