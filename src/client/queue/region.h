// SPDX-License-Identifier: MIT
//
// Region: the shared memory of one open device. Claims queues and heap chunks for this process
// (claims.h) and allocates blocks from the chunks.
//
// Memory must not change owners while commands of its previous owner can still write to it. A
// process that exits normally ensures this itself; one that dies leaves commands in flight.
// Therefore a process that claims chunks first checks every queue: it resets queues without an
// owner, and waits for resets in progress by a new owner. After that no command of a dead process
// is in flight. Claiming a queue requests its reset in the same step, under the handover lock, so
// that a claimed queue never shows commands of its previous owner without a pending reset.
//
// All functions are thread-safe.
#pragma once

#include <bitset>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "client/core/transport.h"
#include "client/include/expected.h"
#include "client/include/vgpu.h"
#include "client/queue/claims.h"
#include "client/queue/heap_map.h"
#include "client/queue/queue_port.h"
#include "ring/producer.h"

namespace vgpu::client {

// Maximum number of heap chunks.
inline constexpr std::uint64_t kMostChunks = 1024;

class Region {
  public:
    // `clock` must outlive this object.
    Region(std::unique_ptr<QueuePort> port, Clock& clock);
    Region(const Region&) = delete;
    Region& operator=(const Region&) = delete;
    ~Region() = default;

    [[nodiscard]] QueuePort& port() const { return *port_; }
    [[nodiscard]] const ring::Layout& layout() const { return layout_; }
    [[nodiscard]] std::byte* base() const { return port_->base(); }
    [[nodiscard]] Clock& clock() const { return clock_; }

    // Reads the generation in the header; 0 before the first mediator. Costs only memory loads.
    [[nodiscard]] std::uint64_t generation_in_memory() const {
        return layout_.read_generation(base());
    }
    // Returns the generation, or 0 if no mediator is attached.
    [[nodiscard]] std::uint64_t generation();
    [[nodiscard]] vgpu_shm_info info();

    // A queue owned by this Region, with a reset requested.
    struct ClaimedQueue {
        std::uint32_t index;
        ring::Producer producer;
    };
    // `index` may be VGPU_QUEUE_ANY. Errors: VGPU_E_IN_USE, VGPU_E_ARGUMENT, VGPU_E_WAIT_TIMEOUT,
    // VGPU_E_SYSTEM.
    Expected<ClaimedQueue> claim_queue(std::uint32_t index, Nanoseconds deadline);
    void give_queue_back(std::uint32_t index);

    // Returns whether the queue's control block shows it stopped with no command in flight.
    [[nodiscard]] bool is_idle(std::uint32_t queue) const;
    // Polls until a requested reset is done. Returns false at the deadline; true if done, or if no
    // mediator is attached that could still execute commands.
    bool await_reset(ring::Producer& producer, Nanoseconds deadline);

    // See vgpu_heap_alloc and vgpu_heap_free. `deadline` also bounds the waits for other processes:
    // VGPU_E_WAIT_TIMEOUT if it has passed, VGPU_E_BUSY at the limit of vgpu_heap_alloc.
    Expected<vgpu_heap_block> alloc(std::uint64_t size, std::uint64_t alignment,
                                    Nanoseconds deadline = kNever);
    Expected<void> free_block(const vgpu_heap_block& block);
    [[nodiscard]] vgpu_heap_info heap_info();

  private:
    // Holds the handover lock, which also excludes other threads of this process.
    class Handover;

    [[nodiscard]] std::optional<vgpu_heap_block> take_block(std::uint64_t size,
                                                            std::uint64_t alignment);
    [[nodiscard]] Failure still_busy(const std::string& why, Nanoseconds deadline);
    Expected<void> claim_chunks(std::uint64_t size, Nanoseconds deadline);
    Expected<void> quiesce_abandoned_queues(Nanoseconds deadline);
    bool quiesce(std::uint32_t queue, Nanoseconds deadline);
    void give_spare_chunks_back(std::uint64_t around);
    void give_free_chunks_back();
    void give_chunk_back_if_free(std::uint64_t chunk);
    [[nodiscard]] std::uint64_t chunk_offset(std::uint64_t chunk) const;
    [[nodiscard]] std::uint64_t chunk_end(std::uint64_t chunk) const;

    std::unique_ptr<QueuePort> port_;
    ring::Layout layout_;
    Clock& clock_;
    Claims claims_;
    std::uint64_t chunk_size_;  // bytes; the last chunk may be shorter
    std::uint64_t chunk_count_;

    std::mutex handover_;  // lock order: before mutex_
    std::mutex mutex_;     // guards the members below
    std::bitset<VGPU_QUEUES_MAX> own_queues_;
    std::bitset<kMostChunks> own_chunks_;
    HeapMap heap_;
};

}  // namespace vgpu::client
