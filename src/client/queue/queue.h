// SPDX-License-Identifier: MIT
//
// Queue: an open queue of a Region. Adds doorbells and waiting to the inlined ring codec
// (ring/producer.h).
//
// The hot path (push, flush, short waits) allocates no memory, makes no indirect call except to
// ring the doorbell, and reads no clock during its first polls, which take about a microsecond. One
// thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/relax.h"
#include "client/core/transport.h"
#include "client/include/expected.h"
#include "client/queue/region.h"
#include "ring/producer.h"

namespace vgpu::client {

// How to wait for a queue.
struct Waiting {
    WaitMode mode = WaitMode::kAuto;
    Nanoseconds spin{0};  // time to spin first; kNever: spin without limit
};

class Queue {
  public:
    // Claims a queue and returns when it is running. Errors as for vgpu_queue_open.
    static Expected<std::unique_ptr<Queue>> open(std::shared_ptr<Region> region,
                                                 std::uint32_t index, const Waiting& waiting,
                                                 Nanoseconds deadline);
    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;
    // See vgpu_queue_close.
    ~Queue();

    [[nodiscard]] std::uint32_t index() const { return index_; }
    [[nodiscard]] Region& region() const { return *region_; }

    [[nodiscard]] ring::Push push(const vgpu_record& command, std::span<const std::uint32_t> params,
                                  std::span<const std::byte> inline_data) {
        return producer_.push(command, params, inline_data);
    }
    [[nodiscard]] ring::Push push(const vgpu_record& command) { return producer_.push(command); }
    void flush() {
        published_ = producer_.submitted();
        if (producer_.publish()) {
            region_->port().ring_doorbell(index_);
        }
    }
    [[nodiscard]] std::uint64_t submitted() const { return producer_.submitted(); }
    [[nodiscard]] std::uint64_t completed() const {
        return ring::SharedMemory::load_acquire(view_.control->completed);
    }

    // Polls for about a microsecond, or once if waits do not spin. Returns VGPU_OK once the
    // timeline has reached `point`, or VGPU_E_WAIT_TIMEOUT: continue with wait().
    [[nodiscard]] int wait_a_moment(std::uint64_t point) {
        for (int polls = 0; polls != quick_polls_; ++polls) {
            if (completed() >= point) {
                return VGPU_OK;
            }
            relax_processor();
        }
        return VGPU_E_WAIT_TIMEOUT;
    }
    // Waits until the timeline reaches `point`, for at most `limit`. Errors: VGPU_E_WAIT_TIMEOUT,
    // VGPU_E_QUEUE_STOPPED, VGPU_E_MEDIATOR_LOST, VGPU_E_ARGUMENT, VGPU_E_SYSTEM.
    Expected<void> wait(std::uint64_t point, Nanoseconds limit);

    // Returns the queue's own reply buffer, which holds one reply at a time. Errors as for alloc()
    // of the Region.
    Expected<vgpu_reply_place> own_reply_place(Nanoseconds deadline);
    // Retires the reply buffer after a failed wait: the reply for `point` may still arrive.
    void give_up_reply_place(std::uint64_t point);
    // Takes ownership of a heap block and frees it once `point` has completed. Does not throw after
    // make_room_to_keep().
    void make_room_to_keep() { kept_.reserve(kept_.size() + 1); }
    void keep_until(std::uint64_t point, const vgpu_heap_block& block);

  private:
    Queue(std::shared_ptr<Region> region, Region::ClaimedQueue claimed, const Waiting& waiting,
          std::unique_ptr<InterruptSource> interrupt);
    Expected<void> begin(Nanoseconds deadline);
    template <typename Poll, typename PrepareSleep>
    Expected<bool> await(Poll poll, PrepareSleep prepare_sleep, Nanoseconds deadline);
    [[nodiscard]] bool mediator_is_lost();
    [[nodiscard]] Failure why_stopped();

    static constexpr int kQuickPolls = 32;

    std::shared_ptr<Region> region_;
    std::uint32_t index_;
    ring::QueueView view_;
    ring::Producer producer_;
    Waiting waiting_;
    int quick_polls_;
    std::unique_ptr<InterruptSource> interrupt_;  // null: none
    std::uint64_t generation_ = 0;                // at the last reset
    std::uint64_t published_ = 0;                 // point of the last flushed command
    std::optional<vgpu_heap_block> reply_block_;
    std::uint64_t cookie_ = 0;
    // Blocks in use by commands in flight, with the point at which each can be freed.
    std::vector<std::pair<std::uint64_t, vgpu_heap_block>> kept_;
};

}  // namespace vgpu::client

// Definition of the C API's opaque vgpu_queue.
struct vgpu_queue {
    std::unique_ptr<vgpu::client::Queue> impl;
};
