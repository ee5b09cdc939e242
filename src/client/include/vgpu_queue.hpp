// SPDX-License-Identifier: MIT
//
// vgpu_queue.hpp: queues and heap in C++, a header-only wrapper of vgpu_queue.h with the same
// contracts. Included by vgpu.hpp.
//
//   auto queue = vgpu::Queue::open(gpu);
//   auto block = vgpu::HeapBlock::take(gpu, 3 * n * sizeof(float));
//   std::span<float> numbers = block->as<float>();
//   …
//   const auto point = queue->push_vector_add(VGPU_TYPE_F32, block->operand(2 * n * 4),
//                                             block->operand(0), block->operand(n * 4), n);
//   const auto done = queue->wait(*point);
#pragma once

#ifndef VGPU_HPP
#error "include vgpu.hpp, which includes this file"
#endif

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

namespace vgpu {

using ShmInfo = ::vgpu_shm_info;            // size, layout and state of the shared memory
using HeapInfo = ::vgpu_heap_info;          // usage of the heap
using ReplyPlace = ::vgpu_reply_place;      // a reply buffer
using ReplyView = ::vgpu_reply_view;        // a validated reply
using QueueCommand = ::vgpu_queue_command;  // a command

// A heap block, freed by the destructor. Move-only. Destroy it before the device, and after the
// last command that uses it has completed.
class HeapBlock {
  public:
    static Expected<HeapBlock> take(const Device& device, std::uint64_t size,
                                    std::uint64_t alignment = 0) {
        vgpu_failure why{};
        vgpu_heap_block block{};
        if (vgpu_heap_alloc(device.get(), size, alignment, &block, &why) != VGPU_OK) {
            return detail::to_failure(why);
        }
        return HeapBlock(device.get(), block);
    }
    // Takes the block of another object, which then has none.
    //
    // other: the object
    HeapBlock(HeapBlock&& other) noexcept
        : device_(std::exchange(other.device_, nullptr)), block_(other.block_) {}
    // Frees the own block and takes that of another object. Returns this object.
    //
    // other: the object
    HeapBlock& operator=(HeapBlock&& other) noexcept {
        if (this != &other) {
            give_back();
            device_ = std::exchange(other.device_, nullptr);
            block_ = other.block_;
        }
        return *this;
    }
    HeapBlock(const HeapBlock&) = delete;
    HeapBlock& operator=(const HeapBlock&) = delete;
    ~HeapBlock() { give_back(); }

    // Returns the offset of the first byte in the shared memory.
    [[nodiscard]] std::uint64_t offset() const { return block_.offset; }
    // Returns the size in bytes, at least the size requested.
    [[nodiscard]] std::uint64_t size() const { return block_.size; }
    // Returns the memory of the block in this process.
    [[nodiscard]] std::span<std::byte> bytes() const {
        return {static_cast<std::byte*>(block_.pointer), block_.size};
    }
    // Returns the block as an array of T, with as many elements as fit.
    template <typename T>
    [[nodiscard]] std::span<T> as() const {
        return {static_cast<T*>(block_.pointer), block_.size / sizeof(T)};
    }
    // Returns the operand for the GPU at a place in the block.
    //
    // at: bytes from the start of the block, a multiple of 4
    [[nodiscard]] std::uint64_t operand(std::uint64_t at = 0) const {
        return VGPU_HEAP_OPERAND(block_.offset + at);
    }
    // Returns a reply buffer in the block.
    //
    // at: bytes from the start of the block, a multiple of VGPU_REPLY_ALIGN
    // capacity: bytes; 256 are enough for useful error texts
    // cookie: any value; a reply with a different one is VGPU_E_BAD_RESPONSE
    [[nodiscard]] ReplyPlace reply_place(std::uint64_t at, std::uint32_t capacity,
                                         std::uint64_t cookie = 0) const {
        return {block_.offset + at, cookie, capacity, 0};
    }

  private:
    HeapBlock(vgpu_device* device, const vgpu_heap_block& block) : device_(device), block_(block) {}
    void give_back() {
        if (device_ != nullptr) {
            (void)vgpu_heap_free(device_, &block_, nullptr);
        }
    }

    vgpu_device* device_;
    vgpu_heap_block block_;
};

// A queue of a device, closed by the destructor. Move-only. The device must outlive it. The members
// are equivalent to the corresponding C functions. A push_…() function returns the command's point
// on the timeline; flush() or wait() makes the command visible to the mediator.
class Queue {
  public:
    // Waits indefinitely.
    static constexpr std::chrono::nanoseconds kNoTimeout = Device::kNoTimeout;
    using Limit = std::chrono::nanoseconds;  // a time-out, rounded up to milliseconds
    using Point = std::uint64_t;             // a point on the timeline
    using Operand = std::uint64_t;           // a handle, or HeapBlock::operand()

    static Expected<Queue> open(const Device& device, std::uint32_t index = VGPU_QUEUE_ANY,
                                Limit limit = std::chrono::seconds(5)) {
        vgpu_failure why{};
        vgpu_queue* queue = nullptr;
        if (vgpu_queue_open(device.get(), index, detail::to_ms(limit), &queue, &why) != VGPU_OK) {
            return detail::to_failure(why);
        }
        return Queue(queue);
    }

    [[nodiscard]] std::uint32_t index() const { return vgpu_queue_index(get()); }
    [[nodiscard]] Point completed() const { return vgpu_queue_completed(get()); }
    [[nodiscard]] Point submitted() const { return vgpu_queue_submitted(get()); }

    Expected<void> flush() {
        return done([&](auto* why) { return vgpu_queue_flush(get(), why); });
    }
    Expected<void> wait(Point point, Limit limit = kNoTimeout) {
        return done(
            [&](auto* why) { return vgpu_queue_wait(get(), point, detail::to_ms(limit), why); });
    }
    Expected<ReplyView> read_reply(const ReplyPlace& place) {
        return value<ReplyView>(
            [&](auto* view, auto* why) { return vgpu_queue_reply_read(get(), &place, view, why); });
    }
    Expected<ReplyView> finish(Point point, const ReplyPlace& place, Limit limit = kNoTimeout) {
        return value<ReplyView>([&](auto* view, auto* why) {
            return vgpu_queue_finish(get(), point, &place, detail::to_ms(limit), view, why);
        });
    }

    // Any command; call() waits for the reply.
    Expected<Point> push(const QueueCommand& command) {
        return value<Point>(
            [&](auto* point, auto* why) { return vgpu_queue_push(get(), &command, point, why); });
    }
    Expected<Reply> call(const QueueCommand& command, Limit limit = kNoTimeout) {
        return value<Reply>([&](auto* reply, auto* why) {
            return vgpu_queue_call(get(), &command, detail::to_ms(limit), reply, why);
        });
    }

    // Operations as commands, without waiting.
    using Place = std::optional<ReplyPlace>;
    Expected<Point> push_nop(const Place& reply = {}) {
        return pushed(reply, [&](auto... rest) { return vgpu_queue_push_nop(get(), rest...); });
    }
    Expected<Point> push_add(std::uint32_t a, std::uint32_t b, const Place& reply = {}) {
        return pushed(reply,
                      [&](auto... rest) { return vgpu_queue_push_add(get(), a, b, rest...); });
    }
    Expected<Point> push_alloc(std::uint64_t size, const Place& reply) {
        return pushed(reply,
                      [&](auto... rest) { return vgpu_queue_push_alloc(get(), size, rest...); });
    }
    Expected<Point> push_free(std::uint32_t handle, const Place& reply = {}) {
        return pushed(reply,
                      [&](auto... rest) { return vgpu_queue_push_free(get(), handle, rest...); });
    }
    Expected<Point> push_copy_to(std::uint32_t handle, std::uint64_t offset,
                                 std::uint64_t heap_offset, std::uint64_t length,
                                 const Place& reply = {}) {
        return pushed(reply, [&](auto... rest) {
            return vgpu_queue_push_copy_to(get(), handle, offset, heap_offset, length, rest...);
        });
    }
    Expected<Point> push_copy_from(std::uint32_t handle, std::uint64_t offset,
                                   std::uint64_t heap_offset, std::uint64_t length,
                                   const Place& reply = {}) {
        return pushed(reply, [&](auto... rest) {
            return vgpu_queue_push_copy_from(get(), handle, offset, heap_offset, length, rest...);
        });
    }
    Expected<Point> push_copy_within(std::uint32_t to, std::uint64_t to_offset, std::uint32_t from,
                                     std::uint64_t from_offset, std::uint64_t length,
                                     const Place& reply = {}) {
        return pushed(reply, [&](auto... rest) {
            return vgpu_queue_push_copy_within(get(), to, to_offset, from, from_offset, length,
                                               rest...);
        });
    }
    Expected<Point> push_device_info(const Place& reply) {
        return pushed(reply,
                      [&](auto... rest) { return vgpu_queue_push_device_info(get(), rest...); });
    }
    Expected<Point> push_synchronize(const Place& reply = {}) {
        return pushed(reply,
                      [&](auto... rest) { return vgpu_queue_push_synchronize(get(), rest...); });
    }
    Expected<Point> push_vector_add(vgpu_type type, Operand to, Operand a, Operand b,
                                    std::uint64_t count, const Place& reply = {}) {
        return pushed(reply, [&](auto... rest) {
            return vgpu_queue_push_vector_add(get(), type, to, a, b, count, rest...);
        });
    }
    Expected<Point> push_saxpy(vgpu_type type, Operand y, Operand x, std::uint32_t alpha_bits,
                               std::uint64_t count, const Place& reply = {}) {
        return pushed(reply, [&](auto... rest) {
            return vgpu_queue_push_saxpy(get(), type, y, x, alpha_bits, count, rest...);
        });
    }
    Expected<Point> push_matmul(vgpu_type type, Operand to, Operand a, Operand b, std::uint32_t m,
                                std::uint32_t n, std::uint32_t k, const Place& reply = {}) {
        return pushed(reply, [&](auto... rest) {
            return vgpu_queue_push_matmul(get(), type, to, a, b, m, n, k, rest...);
        });
    }
    Expected<Point> push_reduce_sum(vgpu_type type, Operand from, std::uint64_t count,
                                    const Place& reply) {
        return pushed(reply, [&](auto... rest) {
            return vgpu_queue_push_reduce_sum(get(), type, from, count, rest...);
        });
    }

    // Operations as blocking calls.
    Expected<void> nop(Limit limit = kNoTimeout) {
        return done([&](auto* why) { return vgpu_queue_nop(get(), detail::to_ms(limit), why); });
    }
    Expected<std::uint32_t> add(std::uint32_t a, std::uint32_t b, Limit limit = kNoTimeout) {
        return value<std::uint32_t>([&](auto* sum, auto* why) {
            return vgpu_queue_add(get(), a, b, detail::to_ms(limit), sum, why);
        });
    }
    Expected<GpuInfo> info(Limit limit = kNoTimeout) {
        return value<GpuInfo>([&](auto* info, auto* why) {
            return vgpu_queue_device_info(get(), detail::to_ms(limit), info, why);
        });
    }
    Expected<std::uint32_t> alloc(std::uint64_t size, Limit limit = kNoTimeout) {
        return value<std::uint32_t>([&](auto* handle, auto* why) {
            return vgpu_queue_alloc(get(), size, detail::to_ms(limit), handle, why);
        });
    }
    Expected<void> free(std::uint32_t handle, Limit limit = kNoTimeout) {
        return done(
            [&](auto* why) { return vgpu_queue_free(get(), handle, detail::to_ms(limit), why); });
    }
    Expected<void> copy_to(std::uint32_t handle, std::uint64_t offset,
                           std::span<const std::byte> from, Limit limit = kNoTimeout) {
        return done([&](auto* why) {
            return vgpu_queue_copy_to(get(), handle, offset, from.data(), from.size(),
                                      detail::to_ms(limit), why);
        });
    }
    Expected<void> copy_from(std::uint32_t handle, std::uint64_t offset, std::span<std::byte> to,
                             Limit limit = kNoTimeout) {
        return done([&](auto* why) {
            return vgpu_queue_copy_from(get(), handle, offset, to.data(), to.size(),
                                        detail::to_ms(limit), why);
        });
    }
    Expected<void> copy_within(std::uint32_t to, std::uint64_t to_offset, std::uint32_t from,
                               std::uint64_t from_offset, std::uint64_t length,
                               Limit limit = kNoTimeout) {
        return done([&](auto* why) {
            return vgpu_queue_copy_within(get(), to, to_offset, from, from_offset, length,
                                          detail::to_ms(limit), why);
        });
    }
    Expected<void> synchronize(Limit limit = kNoTimeout) {
        return done(
            [&](auto* why) { return vgpu_queue_synchronize(get(), detail::to_ms(limit), why); });
    }
    Expected<void> vector_add(vgpu_type type, Operand to, Operand a, Operand b, std::uint64_t count,
                              Limit limit = kNoTimeout) {
        return done([&](auto* why) {
            return vgpu_queue_vector_add(get(), type, to, a, b, count, detail::to_ms(limit), why);
        });
    }
    Expected<void> saxpy(vgpu_type type, Operand y, Operand x, std::uint32_t alpha_bits,
                         std::uint64_t count, Limit limit = kNoTimeout) {
        return done([&](auto* why) {
            return vgpu_queue_saxpy(get(), type, y, x, alpha_bits, count, detail::to_ms(limit),
                                    why);
        });
    }
    Expected<void> matmul(vgpu_type type, Operand to, Operand a, Operand b, std::uint32_t m,
                          std::uint32_t n, std::uint32_t k, Limit limit = kNoTimeout) {
        return done([&](auto* why) {
            return vgpu_queue_matmul(get(), type, to, a, b, m, n, k, detail::to_ms(limit), why);
        });
    }
    // Returns the bit pattern of the sum.
    Expected<std::uint32_t> reduce_sum(vgpu_type type, Operand from, std::uint64_t count,
                                       Limit limit = kNoTimeout) {
        return value<std::uint32_t>([&](auto* bits, auto* why) {
            return vgpu_queue_reduce_sum(get(), type, from, count, detail::to_ms(limit), bits, why);
        });
    }

    // Returns the handle, without ownership, for direct use of vgpu_queue.h in hot loops.
    [[nodiscard]] vgpu_queue* get() const { return queue_.get(); }

  private:
    struct Close {
        void operator()(vgpu_queue* queue) const { vgpu_queue_close(queue); }
    };
    explicit Queue(vgpu_queue* queue) : queue_(queue) {}

    template <typename Call>
    static Expected<void> done(Call call) {
        vgpu_failure why{};
        return call(&why) == VGPU_OK ? Expected<void>() : Expected<void>(detail::to_failure(why));
    }
    template <typename T, typename Call>
    static Expected<T> value(Call call) {
        vgpu_failure why{};
        T made{};
        if (call(&made, &why) != VGPU_OK) {
            return detail::to_failure(why);
        }
        return made;
    }
    template <typename Call>
    static Expected<Point> pushed(const Place& reply, Call call) {
        const ReplyPlace* const place = reply ? &*reply : nullptr;
        return value<Point>([&](auto* point, auto* why) { return call(place, point, why); });
    }

    std::unique_ptr<vgpu_queue, Close> queue_;
};

}  // namespace vgpu
