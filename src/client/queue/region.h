// SPDX-License-Identifier: MIT
//
// Region: the shared memory of one open device: what its queues and its heap have in common. It
// decides which queues and which chunks of the heap this process has (claims.h), and parts the
// chunks into blocks.
//
// Memory that changes hands must not be written any more for whoever had it before. A process that
// ends in order sees to that itself; one that dies leaves commands under way. So whoever claims
// chunks first looks at every queue: one that nobody has is reset, and one that is just being reset
// by a new owner is waited for. Only then is nothing of the dead left that could write there. Who
// claims a queue asks for its reset in the same step, under the handover claim; so no queue is ever
// seen with an owner and still with the commands of the one before.
//
// All functions may be called by any thread at any time.
#pragma once

#include <bitset>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "client/core/transport.h"
#include "client/include/outcome.h"
#include "client/include/vgpu.h"
#include "client/queue/claims.h"
#include "client/queue/heap_map.h"
#include "client/queue/queue_port.h"
#include "ring/producer.h"

namespace vgpu::client {

// The heap has at most so many chunks.
inline constexpr std::uint64_t kMostChunks = 1024;

class Region {
  public:
    // `clock` must outlive it.
    Region(std::unique_ptr<QueuePort> port, Clock& clock);
    Region(const Region&) = delete;
    Region& operator=(const Region&) = delete;
    ~Region() = default;

    [[nodiscard]] QueuePort& port() const { return *port_; }
    [[nodiscard]] const ring::Layout& layout() const { return layout_; }
    [[nodiscard]] std::byte* base() const { return port_->base(); }
    [[nodiscard]] Clock& clock() const { return clock_; }

    // What the header says now; 0 before the first mediator. A load or a few.
    [[nodiscard]] std::uint64_t generation_in_memory() const {
        return layout_.read_generation(base());
    }
    // 0 unless a mediator serves the memory.
    [[nodiscard]] std::uint64_t generation();
    [[nodiscard]] vgpu_shm_info info();

    // A queue that is this Region's alone, and whose reset has been asked for.
    struct ClaimedQueue {
        std::uint32_t index;
        ring::Producer producer;
    };
    // `index` may be VGPU_QUEUE_ANY. VGPU_E_IN_USE, VGPU_E_ARGUMENT, VGPU_E_WAIT_TIMEOUT,
    // VGPU_E_SYSTEM.
    Outcome<ClaimedQueue> claim_queue(std::uint32_t index, Nanoseconds deadline);
    void give_queue_back(std::uint32_t index);

    // Whether nothing of a queue's commands is under way any more, as far as that shows: it is
    // stopped, and what was begun has ended.
    [[nodiscard]] bool is_idle(std::uint32_t queue) const;
    // Waits until a reset that was asked for is done, without an interrupt. False at the deadline;
    // true also where there is no mediator that could do anything any more.
    bool await_reset(ring::Producer& producer, Nanoseconds deadline);

    // As vgpu_heap_alloc, vgpu_heap_free. Another process is waited for at most until `deadline`,
    // and never longer than vgpu_heap_alloc does: VGPU_E_WAIT_TIMEOUT, VGPU_E_BUSY.
    Outcome<vgpu_heap_block> alloc(std::uint64_t size, std::uint64_t alignment,
                                   Nanoseconds deadline = kNever);
    Outcome<void> free_block(const vgpu_heap_block& block);
    [[nodiscard]] vgpu_heap_info heap_info();

  private:
    // Holds the handover claim, and keeps this process's other threads out as well.
    class Handover;

    [[nodiscard]] std::optional<vgpu_heap_block> take_block(std::uint64_t size,
                                                            std::uint64_t alignment);
    [[nodiscard]] Failure still_busy(const std::string& why, Nanoseconds deadline);
    Outcome<void> claim_chunks(std::uint64_t size, Nanoseconds deadline);
    Outcome<void> quiesce_abandoned_queues(Nanoseconds deadline);
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
    std::uint64_t chunk_size_;  // bytes; the last one may be shorter
    std::uint64_t chunk_count_;

    std::mutex handover_;  // taken before mutex_
    std::mutex mutex_;     // of all that follows
    std::bitset<VGPU_QUEUES_MAX> own_queues_;
    std::bitset<kMostChunks> own_chunks_;
    HeapMap heap_;
};

}  // namespace vgpu::client
