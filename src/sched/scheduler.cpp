// SPDX-License-Identifier: MIT
#include "sched/scheduler.h"

#include <algorithm>
#include <cassert>

namespace vgpu {
namespace {

constexpr std::size_t kMostUnusedVms = 1024;

template <typename Taken>
std::vector<Scheduler::Token> in_order(Taken& taken) {
    std::sort(taken.begin(), taken.end());
    std::vector<Scheduler::Token> tokens;
    tokens.reserve(taken.size());
    for (const auto& [sequence, token] : taken) {
        tokens.push_back(token);
    }
    return tokens;
}

}  // namespace

Scheduler::Scheduler(std::size_t pool_count, Limits limits, const Clock& clock)
    : limits_(limits), clock_(clock), pools_(pool_count) {}

void Scheduler::set_policy(PoolIndex pool_index, const PoolPolicy& policy) {
    Pool& pool = pools_[pool_index];
    const bool changed = policy.policy != pool.policy.policy;
    pool.policy = policy;
    if (!changed) {
        return;
    }
    pool.by_time.clear();
    pool.present = 0;
    for (Index index = 0; index < pool.members.size(); ++index) {
        Member& member = pool.members[index];
        member.used = 0;
        member.parked = false;
        if (policy.policy == Policy::kFair && member.depth > 0) {
            wait_by_time(pool_index, index);
        }
    }
}

// --- Flows and VMs ---

Scheduler::VmIndex Scheduler::take_vm() {
    while (unused_vms_.size() > kMostUnusedVms) {
        const VmIndex index = unused_vms_.front();
        unused_vms_.pop_front();
        Vm& vm = vms_[index];
        vm.unused = false;
        if (vm.flows > 0 || vm.running) {
            continue;  // reconnected
        }
        vm_by_id_.erase(vm.id);
        for (PoolIndex pool = 0; pool < pools_.size(); ++pool) {
            if (vm.member_of[pool] != kNone) {
                pools_[pool].members[vm.member_of[pool]] = Member{};
                pools_[pool].free_members.push_back(vm.member_of[pool]);
            }
        }
        return index;
    }
    vms_.emplace_back();
    return static_cast<VmIndex>(vms_.size() - 1);
}

Scheduler::VmIndex Scheduler::find_or_add_vm(std::uint32_t vm_id) {
    if (const auto found = vm_by_id_.find(vm_id); found != vm_by_id_.end()) {
        return found->second;
    }
    const VmIndex index = take_vm();
    vms_[index] = Vm{.id = vm_id, .share = {}, .member_of = {}};
    vms_[index].member_of.assign(pools_.size(), kNone);
    vm_by_id_.emplace(vm_id, index);
    return index;
}

void Scheduler::note_if_unused(VmIndex index) {
    Vm& vm = vms_[index];
    if (vm.flows == 0 && !vm.running && !vm.unused) {
        vm.unused = true;
        unused_vms_.push_back(index);
    }
}

Scheduler::FlowIndex Scheduler::open_flow(std::uint32_t vm_id) {
    const VmIndex vm = find_or_add_vm(vm_id);
    ++vms_[vm].flows;
    FlowIndex flow = 0;
    if (free_flows_.empty()) {
        flow = static_cast<FlowIndex>(flows_.size());
        flows_.emplace_back();
    } else {
        flow = free_flows_.back();
        free_flows_.pop_back();
    }
    flows_[flow] = Flow{.vm = vm, .open = true};
    return flow;
}

void Scheduler::set_share(std::uint32_t vm_id, const std::optional<VmShare>& share) {
    if (const auto found = vm_by_id_.find(vm_id); found != vm_by_id_.end()) {
        vms_[found->second].share = share;
    }
}

template <typename Wanted>
void Scheduler::take_from(PoolIndex pool_index, Index member_index, Wanted wanted,
                          std::vector<std::pair<Sequence, Token>>& taken) {
    Pool& pool = pools_[pool_index];
    Member& member = pool.members[member_index];
    for (std::size_t level = 0; level < kPriorities; ++level) {
        Lane kept;
        for (Index at = member.lanes[level].first; at != kNone;) {
            const Index next = nodes_[at].next;
            if (wanted(nodes_[at])) {
                taken.emplace_back(nodes_[at].sequence, nodes_[at].token);
                free_node(at);
                --member.depth;
                --vms_[member.vm].depth;
                --pool.depth_of[level];
                --pool.depth;
                --depth_;
            } else {
                nodes_[at].next = kNone;
                (kept.last == kNone ? kept.first : nodes_[kept.last].next) = at;
                kept.last = at;
            }
            at = next;
        }
        member.lanes[level] = kept;
        if (kept.first == kNone) {
            pool.by_age[level].erase(member_index);
            member.lane_parked[level] = false;
        } else if (!member.lane_parked[level]) {
            pool.by_age[level].set(member_index, nodes_[kept.first].sequence);
        }
    }
    if (member.depth == 0) {
        pool.by_time.erase(member_index);
        member.parked = false;
    }
}

std::vector<Scheduler::Token> Scheduler::close_flow(FlowIndex flow) {
    assert(flow < flows_.size() && flows_[flow].open);
    const VmIndex vm = flows_[flow].vm;
    std::vector<std::pair<Sequence, Token>> taken;
    for (PoolIndex pool = 0; pool < pools_.size(); ++pool) {
        const Index member = vms_[vm].member_of[pool];
        if (member != kNone && pools_[pool].members[member].depth > 0) {
            take_from(
                pool, member, [&](const Node& node) { return node.flow == flow; }, taken);
        }
    }
    flows_[flow].open = false;
    free_flows_.push_back(flow);
    --vms_[vm].flows;
    note_if_unused(vm);
    return in_order(taken);
}

std::vector<Scheduler::Token> Scheduler::take_all() {
    std::vector<std::pair<Sequence, Token>> taken;
    for (PoolIndex pool = 0; pool < pools_.size(); ++pool) {
        for (Index member = 0; member < pools_[pool].members.size(); ++member) {
            if (pools_[pool].members[member].depth > 0) {
                take_from(
                    pool, member, [](const Node& /*node*/) { return true; }, taken);
            }
        }
    }
    return in_order(taken);
}

// --- Queueing ---

Scheduler::Member& Scheduler::member_in(PoolIndex pool_index, VmIndex vm) {
    Index& index = vms_[vm].member_of[pool_index];
    Pool& pool = pools_[pool_index];
    if (index == kNone) {
        if (pool.free_members.empty()) {
            index = static_cast<Index>(pool.members.size());
            pool.members.emplace_back();
        } else {
            index = pool.free_members.back();
            pool.free_members.pop_back();
        }
        pool.members[index].vm = vm;
    }
    return pool.members[index];
}

// Inserts a member into by_time, or parks it if its VM is running.
void Scheduler::wait_by_time(PoolIndex pool_index, Index index) {
    Pool& pool = pools_[pool_index];
    Member& member = pool.members[index];
    member.parked = runs(pool, index);
    if (!member.parked) {
        pool.by_time.set(index, {member.used, next_sequence_++});
    }
}

Scheduler::Admission Scheduler::enqueue(PoolIndex pool_index, FlowIndex flow_index,
                                        std::size_t priority, Token token) {
    assert(pool_index < pools_.size() && priority < kPriorities);
    assert(flow_index < flows_.size() && flows_[flow_index].open);
    Pool& pool = pools_[pool_index];
    const VmIndex vm_index = flows_[flow_index].vm;
    Vm& vm = vms_[vm_index];
    if (vm.depth >= (vm.share ? vm.share->queue_depth : limits_.per_vm)) {
        return Admission::kVmFull;
    }
    if (pool.depth >= limits_.per_pool) {
        return Admission::kPoolFull;
    }
    Member& member = member_in(pool_index, vm_index);
    const Index member_index = vm.member_of[pool_index];
    const Index index = take_node();
    const Sequence sequence = next_sequence_++;
    nodes_[index] = Node{.token = token,
                         .queued_at = clock_.now(),
                         .sequence = sequence,
                         .flow = flow_index,
                         .next = kNone};
    Lane& lane = member.lanes[priority];
    if (lane.last == kNone) {
        lane.first = index;
        pool.by_age[priority].set(member_index, sequence);
    } else {
        nodes_[lane.last].next = index;
    }
    lane.last = index;
    if (member.depth++ == 0 && pool.policy.policy == Policy::kFair) {
        if (!vm.running || vm.pool != pool_index) {
            member.used = std::max(member.used, pool.present);
        }
        wait_by_time(pool_index, member_index);
    }
    ++pool.depth_of[priority];
    ++pool.depth;
    ++vm.depth;
    ++depth_;
    return Admission::kAccepted;
}

std::optional<Scheduler::Entry> Scheduler::start_at_once(PoolIndex pool_index, FlowIndex flow_index,
                                                         std::size_t priority, Token token) {
    assert(pool_index < pools_.size() && priority < kPriorities && depth_ == 0);
    assert(flow_index < flows_.size() && flows_[flow_index].open);
    Pool& pool = pools_[pool_index];
    const VmIndex vm_index = flows_[flow_index].vm;
    if (vms_[vm_index].running) {
        return std::nullopt;
    }
    Member& member = member_in(pool_index, vm_index);
    if (pool.policy.policy == Policy::kFair) {
        // It is the only VM with work, so it also sets the pool's present.
        member.used = pool.present = std::max(member.used, pool.present);
    }
    Vm& vm = vms_[vm_index];
    vm.running = true;
    vm.pool = pool_index;
    vm.priority = priority;
    return Entry{.token = token,
                 .vm = vm_index,
                 .vm_id = vm.id,
                 .priority = priority,
                 .waited = std::chrono::nanoseconds(0)};
}

// Removes members of running VMs from the tops of the heaps.
void Scheduler::park_running(Pool& pool) {
    for (std::size_t level = 0; level < kPriorities; ++level) {
        auto& heap = pool.by_age[level];
        while (!heap.empty() && runs(pool, heap.top())) {
            pool.members[heap.top()].lane_parked[level] = true;
            heap.erase(heap.top());
        }
    }
    while (!pool.by_time.empty() && runs(pool, pool.by_time.top())) {
        pool.members[pool.by_time.top()].parked = true;
        pool.by_time.erase(pool.by_time.top());
    }
}

void Scheduler::unpark(PoolIndex pool_index, Index index) {
    Pool& pool = pools_[pool_index];
    Member& member = pool.members[index];
    for (std::size_t level = 0; level < kPriorities; ++level) {
        if (member.lane_parked[level]) {
            member.lane_parked[level] = false;
            pool.by_age[level].set(index, nodes_[member.lanes[level].first].sequence);
        }
    }
    if (member.parked) {
        wait_by_time(pool_index, index);
    }
}

std::optional<std::pair<std::size_t, Scheduler::Index>> Scheduler::choose(
    Pool& pool, std::chrono::nanoseconds now) {
    park_running(pool);
    std::optional<std::size_t> highest;
    std::optional<std::size_t> oldest;
    for (std::size_t level = 0; level < kPriorities; ++level) {
        if (pool.by_age[level].empty()) {
            continue;
        }
        highest = level;
        if (!oldest || pool.by_age[level].top_key() < pool.by_age[*oldest].top_key()) {
            oldest = level;
        }
    }
    if (!highest) {
        return std::nullopt;
    }
    if (pool.policy.policy == Policy::kFair) {
        pool.present = std::max(pool.present, pool.by_time.top_key().first);
    }
    if (pool.policy.aging.count() > 0) {
        const Index member = pool.by_age[*oldest].top();
        const Node& node = nodes_[pool.members[member].lanes[*oldest].first];
        if (now - node.queued_at > pool.policy.aging) {
            return std::pair{*oldest, member};
        }
    }
    if (pool.policy.policy == Policy::kStrict) {
        return std::pair{*highest, pool.by_age[*highest].top()};
    }
    const Index member = pool.by_time.top();
    std::size_t level = kPriorities - 1;
    while (pool.members[member].lanes[level].first == kNone) {
        --level;
    }
    return std::pair{level, member};
}

Scheduler::Entry Scheduler::take_first(PoolIndex pool_index, Index member_index,
                                       std::size_t priority, std::chrono::nanoseconds now) {
    Pool& pool = pools_[pool_index];
    Member& member = pool.members[member_index];
    Lane& lane = member.lanes[priority];
    const Index index = lane.first;
    const Node node = nodes_[index];
    free_node(index);
    lane.first = node.next;
    if (lane.first == kNone) {
        lane.last = kNone;
        pool.by_age[priority].erase(member_index);
    } else {
        pool.by_age[priority].set(member_index, nodes_[lane.first].sequence);
    }
    if (pool.policy.policy == Policy::kFair) {
        pool.by_time.erase(member_index);
        member.parked = member.depth > 1;
    }
    Vm& vm = vms_[member.vm];
    vm.running = true;
    vm.pool = pool_index;
    vm.priority = priority;
    --member.depth;
    --vm.depth;
    --pool.depth_of[priority];
    --pool.depth;
    --depth_;
    return Entry{.token = node.token,
                 .vm = member.vm,
                 .vm_id = vm.id,
                 .priority = priority,
                 .waited = now - node.queued_at};
}

std::optional<Scheduler::Entry> Scheduler::dequeue(PoolIndex pool_index) {
    assert(pool_index < pools_.size());
    if (pools_[pool_index].depth == 0) {
        return std::nullopt;
    }
    const auto now = clock_.now();
    const auto chosen = choose(pools_[pool_index], now);
    if (!chosen) {
        return std::nullopt;
    }
    return take_first(pool_index, chosen->second, chosen->first, now);
}

void Scheduler::finished(VmIndex vm_index, std::chrono::nanoseconds used) {
    assert(vm_index < vms_.size() && vms_[vm_index].running);
    Vm& vm = vms_[vm_index];
    vm.running = false;
    Pool& ran_in = pools_[vm.pool];
    if (ran_in.policy.policy == Policy::kFair) {
        const double weight = vm.share ? vm.share->weight : VmShare{}.weight;
        ran_in.members[vm.member_of[vm.pool]].used +=
            static_cast<double>(std::max(used, kLeastCharge).count()) /
            (weight * kPriorityFactors.at(vm.priority));
    }
    for (PoolIndex pool = 0; pool < pools_.size(); ++pool) {
        if (vm.member_of[pool] != kNone) {
            unpark(pool, vm.member_of[pool]);
        }
    }
    note_if_unused(vm_index);
}

Scheduler::Index Scheduler::take_node() {
    if (free_node_ == kNone) {
        nodes_.emplace_back();
        return static_cast<Index>(nodes_.size() - 1);
    }
    const Index index = free_node_;
    free_node_ = nodes_[index].next;
    return index;
}

void Scheduler::free_node(Index index) {
    nodes_[index].next = free_node_;
    free_node_ = index;
}

}  // namespace vgpu
