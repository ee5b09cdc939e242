// SPDX-License-Identifier: MIT
//
// Scheduler: which request is next. Pure data: no threads, no I/O, no clock of its own; it knows
// requests only as tokens. It must never lose or double a token: each one that was accepted comes
// out once, by dequeue(), close_flow() or take_all().
//
//   pool A   VM 7   high    t9 -> t12         a lane: what one VM has waiting at one level, in the
//                   medium  t3                order of arrival
//            VM 8   medium  t4 -> t10
//                   low     t1
//   pool B   …
//
// What holds under every policy:
//   - One request of a VM runs at a time, and those of one lane in their order: a VM is passed over
//     from the moment that one of its requests was dequeued until finished() is called for it.
//   - Aging: a request that has waited longer than the pool's aging time goes before all that have
//     not, the oldest first. After that time only requests that came earlier, and its own VM's,
//     can go before it. With n of them waiting it starts at the latest n + 1 executions later (and
//     where pools take turns on one device, as many times that as there are pools).
//
// Policies:
//   strict  high before medium before low; first come, first served within a level.
//   fair    The VM that has used the least GPU time by its weight; of its requests the highest
//           level first. Time is charged when it was used, divided by weight × factor of the
//           level: 1 for low, 2 for medium, 4 for high. A VM that had nothing waiting or running
//           begins again at the pool's present, so its absence earns nothing. While two VMs both
//           have requests waiting, what they used by weight differs by one request of each at most.
//
// Each lane's first request stands in a heap of its level, by age; under the fair policy each VM
// stands in another one, by time used. A VM that runs is taken out of a heap only when it comes to
// the top ("parked") and put back when it has finished: enqueue, dequeue and finished cost
// O(log VMs) whatever the number of requests, and, once grown, do not allocate.
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
    std::chrono::milliseconds aging{10000};  // 0: none

    bool operator==(const PoolPolicy&) const = default;
};

// What a VM is allowed and worth, in all pools.
struct VmShare {
    double weight = 1.0;            // over 0; fair policy
    std::size_t queue_depth = 256;  // entries queued, all its flows and pools together

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
    // What a request is charged at least, so that a flood of free ones is not always the first.
    static constexpr std::chrono::nanoseconds kLeastCharge{1000};

    struct Limits {
        std::size_t per_pool = 1024;  // queued entries of a pool, all levels together
        std::size_t per_vm = 256;     // queued entries of a VM whose share says nothing else
    };

    enum class Admission : std::uint8_t { kAccepted, kPoolFull, kVmFull };

    struct Entry {
        Token token = 0;
        VmIndex vm = 0;  // for finished()
        std::uint32_t vm_id = 0;
        std::size_t priority = 0;
        std::chrono::nanoseconds waited{0};
    };

    // `clock` is borrowed and must outlive the scheduler. All pools begin with the default policy.
    Scheduler(std::size_t pool_count, Limits limits, const Clock& clock);

    // Takes effect with the next dequeue; nothing queued is touched. Under the fair policy
    // everybody begins anew.
    void set_policy(PoolIndex pool, const PoolPolicy& policy);
    // Takes effect with the next enqueue, for VMs without a share of their own, too.
    void set_limits(const Limits& limits) { limits_ = limits; }

    // Begins a flow of this VM: one connection's stream of requests. A VM may have several.
    FlowIndex open_flow(std::uint32_t vm_id);
    // Of a VM that has a flow open; kept until the VM has been gone for long. nullopt: the default.
    void set_share(std::uint32_t vm_id, const std::optional<VmShare>& share);
    // Ends a flow: its queued tokens, oldest first, now belong to the caller. O(what its VM has
    // queued).
    std::vector<Token> close_flow(FlowIndex flow);

    // Queues a token behind all others of its VM, pool and priority.
    // Preconditions: pool < pool_count, flow is open, priority < kPriorities.
    Admission enqueue(PoolIndex pool, FlowIndex flow, std::size_t priority, Token token);

    // enqueue() and dequeue() in one for a request that need not wait, because nothing does: what
    // they would give, without the queue between them. Nothing if this VM runs something.
    // Preconditions: those of enqueue(), and depth() is 0.
    std::optional<Entry> start_at_once(PoolIndex pool, FlowIndex flow, std::size_t priority,
                                       Token token);
    // Takes out the next of this pool; nothing if all that wait are of VMs that run something.
    std::optional<Entry> dequeue(PoolIndex pool);
    // What was dequeued of this VM has ended and has used so much GPU time.
    // Precondition: it was dequeued, and this has not been called for it.
    void finished(VmIndex vm, std::chrono::nanoseconds used);

    // Takes out everything, oldest first.
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
        Index next = kNone;  // links the free nodes, too
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
        bool parked = false;  // as lane_parked, of by_time
        double used = 0;      // nanoseconds, by weight
    };
    using TimeKey = std::pair<double, Sequence>;  // of the same time, whoever came first
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
        bool unused = false;           // stands in unused_vms_
        PoolIndex pool = 0;            // of what runs
        std::size_t priority = 0;      // of what runs
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
    // The level and member whose turn it is.
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
    // VMs without flow and without anything running, longest first. Kept, so that nobody sheds
    // what he has used by connecting anew, up to a number.
    std::deque<VmIndex> unused_vms_;
    std::unordered_map<std::uint32_t, VmIndex> vm_by_id_;
};

}  // namespace vgpu
