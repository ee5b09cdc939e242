// SPDX-License-Identifier: MIT
//
// Scheduler: which request is next. Pure data: no threads, no I/O, no clock of its own; it knows
// requests only as tokens. It must never lose or double a token: each one that was accepted comes
// out once, by dequeue() or by close_flow().
//
//   pool A   high    t9 -> t12            dequeue(A): first of the highest level that has one
//            medium  t3 -> t4 -> t10
//            low     t1
//   pool B   …
//
// A flow is one connection's stream of requests. Each queued entry is linked twice: in its queue
// (order) and in its flow (so that what belongs to a connection can be taken out when it goes).
// Entries live in one slab and links are indices, so enqueue and dequeue cost O(1), without
// searching and, once the slab has grown, without allocating.
//
// Use from one thread.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>
#include <vector>

#include "sched/clock.h"

namespace vgpu {

class Scheduler {
  public:
    using Token = std::uint64_t;
    using PoolIndex = std::size_t;
    using FlowIndex = std::uint32_t;
    static constexpr std::size_t kPriorities = 3;  // 0 low, 1 medium, 2 high

    struct Limits {
        std::size_t per_pool = 1024;  // queued entries of a pool, all levels together
        std::size_t per_vm = 256;     // queued entries of a VM, all its flows and pools together
    };

    using Skip = std::function<bool(std::uint32_t vm_id)>;

    enum class Admission : std::uint8_t { kAccepted, kPoolFull, kVmFull };

    struct Entry {
        Token token = 0;
        std::uint32_t vm_id = 0;
        std::size_t priority = 0;
        std::chrono::nanoseconds waited{0};
    };

    // `clock` is borrowed and must outlive the scheduler.
    Scheduler(std::size_t pool_count, Limits limits, const Clock& clock);

    // Begins a flow of this VM. A VM may have several.
    FlowIndex open_flow(std::uint32_t vm_id);
    // Ends a flow: its queued tokens, oldest first, now belong to the caller.
    std::vector<Token> close_flow(FlowIndex flow);

    // Queues a token behind all others of its pool and priority.
    // Preconditions: pool < pool_count, flow is open, priority < kPriorities.
    Admission enqueue(PoolIndex pool, FlowIndex flow, std::size_t priority, Token token);

    // Takes out the next of this pool; nothing if it is empty. Entries of VMs that `skip` names are
    // passed over and keep their places; each one passed costs a step.
    std::optional<Entry> dequeue(PoolIndex pool, const Skip& skip = {});

    // Queued entries.
    [[nodiscard]] std::size_t depth() const { return depth_; }
    [[nodiscard]] std::size_t depth(PoolIndex pool) const { return pools_[pool].depth; }
    [[nodiscard]] std::size_t depth(PoolIndex pool, std::size_t priority) const {
        return pools_[pool].levels[priority].depth;
    }

  private:
    using Index = std::uint32_t;
    static constexpr Index kNone = UINT32_MAX;

    struct Node {
        Token token = 0;
        std::chrono::nanoseconds queued_at{0};
        PoolIndex pool = 0;
        std::size_t priority = 0;
        FlowIndex flow = kNone;
        Index queue_previous = kNone;
        Index queue_next = kNone;  // links the free nodes, too
        Index flow_previous = kNone;
        Index flow_next = kNone;
    };
    struct Level {
        Index first = kNone;
        Index last = kNone;
        std::size_t depth = 0;
    };
    struct Pool {
        std::array<Level, kPriorities> levels;
        std::size_t depth = 0;
    };
    struct Vm {
        std::uint32_t id = 0;
        std::size_t flows = 0;
        std::size_t depth = 0;
    };
    struct Flow {
        Index vm = kNone;
        Index first = kNone;
        Index last = kNone;
        bool open = false;
    };

    Index take_node();
    // Unlinks the node from queue and flow and frees it.
    void remove(Index index);
    Index find_or_add_vm(std::uint32_t vm_id);

    Limits limits_;
    const Clock& clock_;
    std::size_t depth_ = 0;
    std::vector<Pool> pools_;
    std::vector<Node> nodes_;
    Index free_node_ = kNone;
    std::vector<Flow> flows_;
    std::vector<FlowIndex> free_flows_;
    std::vector<Vm> vms_;
    std::vector<Index> free_vms_;
    std::unordered_map<std::uint32_t, Index> vm_by_id_;
};

}  // namespace vgpu
