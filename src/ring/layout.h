// SPDX-License-Identifier: MIT
//
// Layout: offsets of everything in BAR2. Layout::compute(), which guest and host share, derives it
// from the memory's size and the number of queues only, so the host never takes an offset from
// memory that a guest can write. The guest compares the header with its own result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

#include "ring/shared_memory.h"
#include "vgpu_protocol.h"

namespace vgpu::ring {

// One queue in a mapping; the pointers are borrowed. ring_size is in bytes, a power of two.
struct QueueView {
    vgpu_queue_control* control;
    std::uint64_t* ring;
    std::uint32_t ring_size;
};

struct Layout {
    std::uint64_t size;          // bytes
    std::uint32_t queue_count;   // 1 … VGPU_QUEUES_MAX
    std::uint32_t ring_size;     // bytes, power of two
    std::uint32_t queue_stride;  // bytes
    std::uint64_t heap_offset;   // bytes from the start of BAR2, a multiple of 4096
    std::uint64_t heap_size;     // bytes, at least size / 2 - 4096

    // Returns nullopt unless `size` is a power of two within VGPU_SHM_SIZE_MIN … VGPU_SHM_SIZE_MAX
    // and `queues` is within 1 … VGPU_QUEUES_MAX and at most size / VGPU_SHM_BYTES_PER_QUEUE.
    [[nodiscard]] static constexpr std::optional<Layout> compute(std::uint64_t size,
                                                                 std::uint32_t queues) {
        const bool power_of_two = size != 0 && (size & (size - 1)) == 0;
        if (!power_of_two || size < VGPU_SHM_SIZE_MIN || size > VGPU_SHM_SIZE_MAX || queues == 0 ||
            queues > VGPU_QUEUES_MAX || queues > size / VGPU_SHM_BYTES_PER_QUEUE) {
            return std::nullopt;
        }
        // The bound on `queues` makes the smallest ring fit.
        static_assert(VGPU_QUEUE_CONTROL_SIZE + VGPU_RING_SIZE_MIN <= VGPU_SHM_BYTES_PER_QUEUE / 2);
        std::uint32_t ring = VGPU_RING_SIZE_MAX;
        while (std::uint64_t{queues} * (VGPU_QUEUE_CONTROL_SIZE + ring) > size / 2) {
            ring /= 2;
        }
        const std::uint32_t stride = VGPU_QUEUE_CONTROL_SIZE + ring;
        const std::uint64_t heap = VGPU_SHM_QUEUES_OFFSET + std::uint64_t{queues} * stride;
        return Layout{size, queues, ring, stride, heap, size - heap};
    }

    // Bytes from the start of BAR2. Precondition: queue < queue_count.
    [[nodiscard]] constexpr std::uint64_t control_offset(std::uint32_t queue) const {
        return VGPU_SHM_QUEUES_OFFSET + std::uint64_t{queue} * queue_stride;
    }
    [[nodiscard]] constexpr std::uint64_t ring_offset(std::uint32_t queue) const {
        return control_offset(queue) + VGPU_QUEUE_CONTROL_SIZE;
    }

    // Returns whether [offset, offset + length), bytes from the start of BAR2, lies in the heap.
    // Accepts any values without overflow. An empty range may start at the heap's end.
    [[nodiscard]] constexpr bool in_heap(std::uint64_t offset, std::uint64_t length) const {
        return offset >= heap_offset && offset <= size && length <= size - offset;
    }

    // `base` is a page-aligned mapping of all of BAR2. Precondition: queue < queue_count.
    [[nodiscard]] QueueView queue(std::byte* base, std::uint32_t queue) const {
        return {reinterpret_cast<vgpu_queue_control*>(base + control_offset(queue)),
                reinterpret_cast<std::uint64_t*>(base + ring_offset(queue)), ring_size};
    }

    // Mediator. Publishes the layout and the start of a generation: first construct a Consumer for
    // each queue, then call this, then notify the device. `generation` is not 0.
    void write_header(std::byte* base, std::uint64_t generation) const {
        auto& header = *reinterpret_cast<vgpu_shm_header*>(base);
        SharedMemory::store_relaxed<std::uint32_t>(header.magic, VGPU_SHM_MAGIC);
        SharedMemory::store_relaxed<std::uint32_t>(header.layout_version, VGPU_SHM_LAYOUT_VERSION);
        SharedMemory::store_relaxed(header.size, size);
        SharedMemory::store_relaxed(header.queue_count, queue_count);
        SharedMemory::store_relaxed(header.queue_stride, queue_stride);
        SharedMemory::store_relaxed(header.ring_size, ring_size);
        SharedMemory::store_relaxed<std::uint32_t>(header.reserved, 0);
        SharedMemory::store_relaxed(header.heap_offset, heap_offset);
        SharedMemory::store_relaxed(header.heap_size, heap_size);
        SharedMemory::store_release(header.generation, generation);
    }

    // Guest. Returns the generation if the mediator has initialised the memory with this layout; 0
    // if it has not yet, or with another layout.
    [[nodiscard]] std::uint64_t read_generation(std::byte* base) const {
        auto& header = *reinterpret_cast<vgpu_shm_header*>(base);
        const std::uint64_t generation = SharedMemory::load_acquire(header.generation);
        const bool same =
            SharedMemory::load_relaxed(header.magic) == VGPU_SHM_MAGIC &&
            SharedMemory::load_relaxed(header.layout_version) == VGPU_SHM_LAYOUT_VERSION &&
            SharedMemory::load_relaxed(header.size) == size &&
            SharedMemory::load_relaxed(header.queue_count) == queue_count &&
            SharedMemory::load_relaxed(header.queue_stride) == queue_stride &&
            SharedMemory::load_relaxed(header.ring_size) == ring_size &&
            SharedMemory::load_relaxed(header.heap_offset) == heap_offset &&
            SharedMemory::load_relaxed(header.heap_size) == heap_size;
        return same ? generation : 0;
    }
};

}  // namespace vgpu::ring
