// SPDX-License-Identifier: MIT
#include "sched/scheduler.h"

#include <cassert>

namespace vgpu {

Scheduler::Scheduler(std::size_t pool_count, Limits limits, const Clock& clock)
    : limits_(limits), clock_(clock), pools_(pool_count) {}

Scheduler::Index Scheduler::find_or_add_vm(std::uint32_t vm_id) {
    if (const auto found = vm_by_id_.find(vm_id); found != vm_by_id_.end()) {
        return found->second;
    }
    Index index = 0;
    if (free_vms_.empty()) {
        index = static_cast<Index>(vms_.size());
        vms_.emplace_back();
    } else {
        index = free_vms_.back();
        free_vms_.pop_back();
    }
    vms_[index] = Vm{.id = vm_id, .flows = 0, .depth = 0};
    vm_by_id_.emplace(vm_id, index);
    return index;
}

Scheduler::FlowIndex Scheduler::open_flow(std::uint32_t vm_id) {
    const Index vm = find_or_add_vm(vm_id);
    ++vms_[vm].flows;
    FlowIndex flow = 0;
    if (free_flows_.empty()) {
        flow = static_cast<FlowIndex>(flows_.size());
        flows_.emplace_back();
    } else {
        flow = free_flows_.back();
        free_flows_.pop_back();
    }
    flows_[flow] = Flow{.vm = vm, .first = kNone, .last = kNone, .open = true};
    return flow;
}

std::vector<Scheduler::Token> Scheduler::close_flow(FlowIndex flow) {
    assert(flow < flows_.size() && flows_[flow].open);
    std::vector<Token> tokens;
    while (flows_[flow].first != kNone) {
        const Index index = flows_[flow].first;
        tokens.push_back(nodes_[index].token);
        remove(index);
    }
    const Index vm = flows_[flow].vm;
    if (--vms_[vm].flows == 0) {
        vm_by_id_.erase(vms_[vm].id);
        free_vms_.push_back(vm);
    }
    flows_[flow].open = false;
    free_flows_.push_back(flow);
    return tokens;
}

Scheduler::Admission Scheduler::enqueue(PoolIndex pool_index, FlowIndex flow_index,
                                        std::size_t priority, Token token) {
    assert(pool_index < pools_.size() && priority < kPriorities);
    assert(flow_index < flows_.size() && flows_[flow_index].open);
    Pool& pool = pools_[pool_index];
    Flow& flow = flows_[flow_index];
    Vm& vm = vms_[flow.vm];
    if (vm.depth >= limits_.per_vm) {
        return Admission::kVmFull;
    }
    if (pool.depth >= limits_.per_pool) {
        return Admission::kPoolFull;
    }
    Level& level = pool.levels[priority];
    const Index index = take_node();
    nodes_[index] = Node{.token = token,
                         .queued_at = clock_.now(),
                         .pool = pool_index,
                         .priority = priority,
                         .flow = flow_index,
                         .queue_previous = level.last,
                         .queue_next = kNone,
                         .flow_previous = flow.last,
                         .flow_next = kNone};
    (level.last == kNone ? level.first : nodes_[level.last].queue_next) = index;
    level.last = index;
    (flow.last == kNone ? flow.first : nodes_[flow.last].flow_next) = index;
    flow.last = index;
    ++level.depth;
    ++pool.depth;
    ++vm.depth;
    ++depth_;
    return Admission::kAccepted;
}

std::optional<Scheduler::Entry> Scheduler::dequeue(PoolIndex pool_index, const Skip& skip) {
    assert(pool_index < pools_.size());
    const Pool& pool = pools_[pool_index];
    if (pool.depth == 0) {
        return std::nullopt;
    }
    for (std::size_t priority = kPriorities; priority-- > 0;) {
        Index index = pool.levels[priority].first;
        while (index != kNone && skip && skip(vms_[flows_[nodes_[index].flow].vm].id)) {
            index = nodes_[index].queue_next;
        }
        if (index != kNone) {
            const Node& node = nodes_[index];
            const Entry entry{.token = node.token,
                              .vm_id = vms_[flows_[node.flow].vm].id,
                              .priority = priority,
                              .waited = clock_.now() - node.queued_at};
            remove(index);
            return entry;
        }
    }
    return std::nullopt;
}

Scheduler::Index Scheduler::take_node() {
    if (free_node_ == kNone) {
        nodes_.emplace_back();
        return static_cast<Index>(nodes_.size() - 1);
    }
    const Index index = free_node_;
    free_node_ = nodes_[index].queue_next;
    return index;
}

void Scheduler::remove(Index index) {
    Node& node = nodes_[index];
    Pool& pool = pools_[node.pool];
    Level& level = pool.levels[node.priority];
    Flow& flow = flows_[node.flow];
    (node.queue_previous == kNone ? level.first : nodes_[node.queue_previous].queue_next) =
        node.queue_next;
    (node.queue_next == kNone ? level.last : nodes_[node.queue_next].queue_previous) =
        node.queue_previous;
    (node.flow_previous == kNone ? flow.first : nodes_[node.flow_previous].flow_next) =
        node.flow_next;
    (node.flow_next == kNone ? flow.last : nodes_[node.flow_next].flow_previous) =
        node.flow_previous;
    --level.depth;
    --pool.depth;
    --vms_[flow.vm].depth;
    --depth_;
    node.queue_next = free_node_;
    free_node_ = index;
}

}  // namespace vgpu
