// SPDX-License-Identifier: MIT
//
// Scheduler: decides which request runs next. Pure data: no threads, no I/O, no clock of its own;
// requests are opaque tokens. It never loses or duplicates a token: each accepted one comes out
// exactly once, from dequeue(), start_at_once(), close_flow() or take_all().
//
//   pool A   VM 7   high    t9 -> t12         a lane: the queue of one VM at one level, in order of
//                   medium  t3                arrival
//            VM 8   medium  t4 -> t10
//                   low     t1
//   pool B   …
//
// Every policy guarantees:
//   - One request of a VM runs at a time, and those of one lane in order: a VM is skipped from the
//     time that one of its requests is dequeued until finished() is called for it.
//   - Aging: a request that has waited longer than the pool's aging time goes before all that have
//     not, the oldest first. After that time only requests that came earlier, and its own VM's,
//     can go before it. With n of them waiting it starts after at most n + 1 executions (times the
//     number of pools, where pools take turns on one device).
//
// Policies:
//   strict  high before medium before low; first come, first served within a level.
//   fair    The VM with the least weighted GPU time; of its requests the highest level first. Time
//           is charged after use, divided by weight × factor of the level: 1 for low, 2 for medium,
//           4 for high. A VM that had nothing waiting or running restarts at the pool's present, so
//           it earns no credit while idle. While two VMs both have requests waiting, their weighted
//           times differ by at most one request of each.
//
// The head of each lane is in a heap of its level, ordered by age; under the fair policy each VM is
// also in a heap ordered by time used. A running VM is removed from a heap only when it reaches the
// top ("parked") and re-inserted when it has finished: enqueue, dequeue and finished cost O(log
// VMs) for any number of requests and, once grown, do not allocate.
//
// Use from one thread.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sched/clock.h"
#include "sched/indexed_heap.h"

namespace vgpu {

enum class Policy : std::uint8_t { kStrict, kFair };

struct PoolPolicy {
    Policy policy = Policy::kStrict;
    std::chrono::milliseconds aging{10000};  // 0: disabled

    bool operator==(const PoolPolicy&) const = default;
};

// Limits and weight of a VM, in all pools.
struct VmShare {
    double weight = 1.0;            // over 0; fair policy only
    std::size_t queue_depth = 256;  // queued entries in all its flows and pools

    bool operator==(const VmShare&) const = default;
};

class Scheduler {
  public:
    using Token = std::uint64_t;
    using PoolIndex = std::size_t;
    using FlowIndex = std::uint32_t;
    using VmIndex = std::uint32_t;
    static constexpr std::size_t kPriorities = 3;  // 0 low, 1 medium, 2 high
    static constexpr std::array<double, kPriorities> kPriorityFactors{1.0, 2.0, 4.0};
    // Minimum charge of a request, so that a flood of free requests does not always go first.
    static constexpr std::chrono::nanoseconds kLeastCharge{1000};

    struct Limits {
        std::size_t per_pool = 1024;  // queued entries of a pool at all levels
        std::size_t per_vm = 256;     // queued entries of a VM without a share
    };

    enum class Admission : std::uint8_t { kAccepted, kPoolFull, kVmFull };

    struct Entry {
        Token token = 0;
        VmIndex vm = 0;  // for finished()
        std::uint32_t vm_id = 0;
        std::size_t priority = 0;
        std::chrono::nanoseconds waited{0};
    };

    // Borrows `clock`, which must outlive the scheduler. All pools start with the default policy.
    Scheduler(std::size_t pool_count, Limits limits, const Clock& clock);

    // Takes effect at the next dequeue; queued entries stay. A change of the policy resets the time
    // used by all VMs in the pool.
    void set_policy(PoolIndex pool, const PoolPolicy& policy);
    // Takes effect at the next enqueue, also for VMs without a share of their own.
    void set_limits(const Limits& limits) { limits_ = limits; }

    // Opens a flow of this VM: one connection's stream of requests. A VM may have several.
    FlowIndex open_flow(std::uint32_t vm_id);
    // For a VM with an open flow; kept until the VM, long unused, is evicted. nullopt: the default.
    void set_share(std::uint32_t vm_id, const std::optional<VmShare>& share);
    // Closes a flow and returns its queued tokens, oldest first. O(queued entries of its VM).
    std::vector<Token> close_flow(FlowIndex flow);

    // Appends a token to the lane of its VM, pool and priority.
    // Preconditions: pool < pool_count, flow is open, priority < kPriorities.
    Admission enqueue(PoolIndex pool, FlowIndex flow, std::size_t priority, Token token);

    // enqueue() and dequeue() in one for a request that need not wait because nothing is queued:
    // same result, without going through the queue. Returns nullopt if this VM is running a
    // request. Preconditions: those of enqueue(), and depth() is 0.
    std::optional<Entry> start_at_once(PoolIndex pool, FlowIndex flow, std::size_t priority,
                                       Token token);
    // Takes out the pool's next request; nullopt if all waiting requests belong to running VMs.
    std::optional<Entry> dequeue(PoolIndex pool);
    // Ends the dequeued request of this VM, which has used this much GPU time. Precondition: a
    // request of this VM was dequeued and has not been finished.
    void finished(VmIndex vm, std::chrono::nanoseconds used);

    // Takes out all tokens, oldest first.
    std::vector<Token> take_all();

    // Queued entries.
    [[nodiscard]] std::size_t depth() const { return depth_; }
    [[nodiscard]] std::size_t depth(PoolIndex pool) const { return pools_[pool].depth; }
    [[nodiscard]] std::size_t depth(PoolIndex pool, std::size_t priority) const {
        return pools_[pool].depth_of[priority];
    }

  private:
    using Index = std::uint32_t;
    using Sequence = std::uint64_t;  // order of arrival
    static constexpr Index kNone = UINT32_MAX;

    struct alignas(32) Node {
        Token token = 0;
        std::chrono::nanoseconds queued_at{0};
        Sequence sequence = 0;
        FlowIndex flow = kNone;
        Index next = kNone;  // also links the free nodes
    };
    struct Lane {
        Index first = kNone;
        Index last = kNone;
    };
    // A VM in a pool.
    struct alignas(64) Member {
        VmIndex vm = kNone;
        std::uint32_t depth = 0;
        std::array<Lane, kPriorities> lanes;
        std::array<bool, kPriorities> lane_parked{};
        bool parked = false;  // like lane_parked, for by_time
        double used = 0;      // nanoseconds, weighted
    };
    using TimeKey = std::pair<double, Sequence>;  // ties: first come, first served
    struct Pool {
        PoolPolicy policy;
        std::vector<Member> members;
        std::vector<Index> free_members;
        std::array<IndexedHeap<Sequence>, kPriorities> by_age;  // lanes, by their first entry
        IndexedHeap<TimeKey> by_time;                           // members; fair policy only
        double present = 0;  // `used` of a VM that is neither behind nor ahead
        std::array<std::size_t, kPriorities> depth_of{};
        std::size_t depth = 0;
    };
    struct Vm {
        std::uint32_t id = 0;
        std::size_t flows = 0;
        std::size_t depth = 0;
        std::optional<VmShare> share;
        bool running = false;
        bool unused = false;           // is in unused_vms_
        PoolIndex pool = 0;            // of the running request
        std::size_t priority = 0;      // of the running request
        std::vector<Index> member_of;  // by pool; kNone where it has never queued anything
    };
    struct Flow {
        VmIndex vm = kNone;
        bool open = false;
    };

    Index take_node();
    void free_node(Index index);
    VmIndex find_or_add_vm(std::uint32_t vm_id);
    VmIndex take_vm();
    void note_if_unused(VmIndex vm);
    Member& member_in(PoolIndex pool, VmIndex vm);
    void wait_by_time(PoolIndex pool, Index member);
    [[nodiscard]] bool runs(const Pool& pool, Index member) const {
        return vms_[pool.members[member].vm].running;
    }
    void park_running(Pool& pool);
    void unpark(PoolIndex pool, Index member);
    // The level and member to run next.
    [[nodiscard]] std::optional<std::pair<std::size_t, Index>> choose(Pool& pool,
                                                                      std::chrono::nanoseconds now);
    Entry take_first(PoolIndex pool, Index member, std::size_t priority,
                     std::chrono::nanoseconds now);
    template <typename Wanted>
    void take_from(PoolIndex pool, Index member, Wanted wanted,
                   std::vector<std::pair<Sequence, Token>>& taken);

    Limits limits_;
    const Clock& clock_;
    std::size_t depth_ = 0;
    Sequence next_sequence_ = 0;
    std::vector<Pool> pools_;
    std::vector<Node> nodes_;
    Index free_node_ = kNone;
    std::vector<Flow> flows_;
    std::vector<FlowIndex> free_flows_;
    std::vector<Vm> vms_;
    // VMs without flows and without a running request, longest unused first. Kept, up to a limit,
    // so that a VM cannot shed its used time by reconnecting.
    std::deque<VmIndex> unused_vms_;
    std::unordered_map<std::uint32_t, VmIndex> vm_by_id_;
};

}  // namespace vgpu
