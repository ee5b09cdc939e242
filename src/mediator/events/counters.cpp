// SPDX-License-Identifier: MIT
#include "mediator/events/counters.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "mediator/config/names.h"

namespace vgpu {
namespace {

void append_row(std::string& to, const std::string& name, const Counters::Counts& counts) {
    const std::uint64_t begun = counts.accepted - std::min(counts.accepted, counts.dropped);
    const double mean_wait_us =
        begun == 0 ? 0.0
                   : static_cast<double>(counts.waited.count()) / 1e3 / static_cast<double>(begun);
    to += fmt::format(
        "  {:<14}{:>10}{:>10}{:>8}{:>8}{:>8}{:>8}{:>11.1f}{:>11.1f}{:>12}{:>9}{:>9}\n", name,
        counts.accepted, counts.done, counts.failed, counts.refused, counts.dropped, counts.open(),
        mean_wait_us, static_cast<double>(counts.longest_wait.count()) / 1e3, counts.gpu_us,
        counts.limited, counts.overran);
}

template <typename Key>
Counters::Counts find_in(const std::map<Key, Counters::Counts>& counts, Key key) {
    const auto found = counts.find(key);
    return found == counts.end() ? Counters::Counts{} : found->second;
}

}  // namespace

Counters::Counts Counters::pool(char id) const {
    return find_in(by_pool_, id);
}

Counters::Counts Counters::vm(std::uint32_t vm_id) const {
    const auto found = by_vm_.find(vm_id);
    return found == by_vm_.end() ? Counts{} : found->second.counts;
}

Counters::Vm* Counters::find_or_add(std::uint32_t vm_id) {
    const auto found = by_vm_.find(vm_id);
    if (found != by_vm_.end()) {
        return &found->second;
    }
    if (by_vm_.size() >= kMostVms) {
        if (idle_.empty()) {
            return nullptr;
        }
        const auto given_up = by_vm_.find(idle_.front());
        other_vms_ += given_up->second.counts;
        by_vm_.erase(given_up);
        idle_.pop_front();
    }
    Vm& vm = by_vm_[vm_id];
    vm.idle = idle_.insert(idle_.end(), vm_id);
    return &vm;
}

Counters::Counts& Counters::Counts::operator+=(const Counts& other) {
    accepted += other.accepted;
    started += other.started;
    done += other.done;
    failed += other.failed;
    refused += other.refused;
    limited += other.limited;
    overran += other.overran;
    dropped += other.dropped;
    gpu_us += other.gpu_us;
    waited += other.waited;
    longest_wait = std::max(longest_wait, other.longest_wait);
    return *this;
}

template <typename Change>
void Counters::count(const RequestInfo& request, Change change) {
    change(by_pool_[is_pool_letter(request.pool) ? static_cast<char>(request.pool) : '?']);
    Vm* const vm = find_or_add(request.vm_id);
    change(vm == nullptr ? other_vms_ : vm->counts);
    if (request.priority < by_priority_.size()) {
        change(by_priority_[request.priority]);
    }
    change(total_);
}

void Counters::on(const SessionIdentified& event) {
    Vm* const vm = find_or_add(event.vm_id);
    if (vm != nullptr) {
        ++vm->connections;
        if (vm->idle) {
            idle_.erase(*std::exchange(vm->idle, std::nullopt));
        }
    }
}

void Counters::on(const SessionOpened& /*event*/) {
    ++connections_;
    ++connections_ever_;
}

void Counters::on(const SessionClosed& event) {
    --connections_;
    if (is_fault(event.reason)) {
        ++faults_;
    }
    // Rejected connections, which were never counted here, also close.
    const auto vm = event.vm_id ? by_vm_.find(*event.vm_id) : by_vm_.end();
    if (vm != by_vm_.end() && vm->second.connections > 0 && event.identified &&
        --vm->second.connections == 0) {
        vm->second.idle = idle_.insert(idle_.end(), vm->first);
    }
}

void Counters::on(const RequestAccepted& event) {
    count(event.request, [](Counts& counts) { ++counts.accepted; });
    if (const auto vm = by_vm_.find(event.request.vm_id); vm != by_vm_.end()) {
        vm->second.pool = static_cast<char>(event.request.pool);
        vm->second.priority = event.request.priority;
    }
}

void Counters::on(const RequestStarted& event) {
    count(event.request, [&](Counts& counts) {
        ++counts.started;
        counts.waited += event.waited;
        counts.longest_wait = std::max(counts.longest_wait, event.waited);
    });
}

void Counters::on(const RequestFinished& event) {
    count(event.request, [&](Counts& counts) {
        ++(event.status == VGPU_ERR_NONE ? counts.done : counts.failed);
        counts.gpu_us += event.exec_time_us;
    });
}

void Counters::on(const RequestRun& event) {
    count(event.request, [&](Counts& counts) {
        counts.accepted += event.count;
        counts.started += event.count;
        counts.done += event.count;
        counts.gpu_us += event.exec_time_us;
        counts.waited += event.waited;
        counts.longest_wait = std::max(counts.longest_wait, event.waited);
    });
    if (const auto vm = by_vm_.find(event.request.vm_id); vm != by_vm_.end()) {
        vm->second.pool = static_cast<char>(event.request.pool);
        vm->second.priority = event.request.priority;
    }
}

void Counters::on(const RequestRefused& event) {
    const bool limited = is_limit(event.status);
    count(event.request, [=](Counts& counts) {
        ++counts.refused;
        counts.limited += limited ? 1 : 0;
    });
}

void Counters::on(const RequestDropped& event) {
    count(event.request, [](Counts& counts) { ++counts.dropped; });
}

void Counters::on(const RequestOverran& event) {
    count(event.request, [](Counts& counts) { ++counts.overran; });
}

void Counters::on(const VmQuarantined& /*event*/) {
    ++quarantines_;
}

std::string Counters::table() const {
    std::string text = fmt::format(
        "counters: {} connections now, {} in total, {} closed for a fault; {} quarantines\n",
        connections_, connections_ever_, faults_, quarantines_);
    text += fmt::format("  {:<14}{:>10}{:>10}{:>8}{:>8}{:>8}{:>8}{:>11}{:>11}{:>12}{:>9}{:>9}\n",
                        "", "accepted", "done", "failed", "refused", "dropped", "open", "wait us",
                        "longest us", "GPU us", "limited", "overran");
    for (const auto& [id, counts] : by_pool_) {
        append_row(text, fmt::format("pool {}", id), counts);
    }
    for (const auto& [id, vm] : by_vm_) {
        append_row(text, fmt::format("vm {}", id), vm.counts);
    }
    if (other_vms_.accepted + other_vms_.refused > 0) {
        append_row(text, "other VMs", other_vms_);
    }
    for (std::size_t level = by_priority_.size(); level-- > 0;) {
        append_row(text, fmt::format("prio {}", level_name(level)), by_priority_.at(level));
    }
    append_row(text, "total", total_);
    return text;
}

}  // namespace vgpu
