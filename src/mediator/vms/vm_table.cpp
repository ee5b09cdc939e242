// SPDX-License-Identifier: MIT
#include "mediator/vms/vm_table.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "vgpu_protocol.h"

namespace vgpu {
namespace {

// Entries examined for eviction.
constexpr std::size_t kMostPolls = 64;

}  // namespace

bool is_vm_fault(std::uint32_t status) {
    switch (status) {
        case VGPU_ERR_INVALID_REQUEST:
        case VGPU_ERR_CUDA:
        case VGPU_ERR_CUDA_LAUNCH_FAILED:
        case VGPU_ERR_CUDA_DEVICE_LOST:
        case VGPU_ERR_CUDA_TIME_LIMIT:
            return true;
        default:
            return false;
    }
}

Outcome limit_outcome(VmLimits::Verdict verdict) {
    switch (verdict) {
        case VmLimits::Verdict::kQuarantined:
            return Outcome::failure(VGPU_ERR_QUARANTINED, "this VM is quarantined");
        case VmLimits::Verdict::kGpuTimeUsed:
            return Outcome::failure(VGPU_ERR_RATE_LIMITED,
                                    "this VM has used up its GPU time for now");
        default:
            return Outcome::failure(VGPU_ERR_RATE_LIMITED,
                                    "this VM exceeds its limit of requests per second");
    }
}

std::shared_ptr<VmLimits> VmTable::of(std::uint32_t vm_id) {
    if (const auto found = limits_.find(vm_id); found != limits_.end()) {
        return found->second;
    }
    if (limits_.size() >= kMostVms) {
        make_room();
    }
    auto limits = std::make_shared<VmLimits>(settings_.vm(vm_id).limits, clock_.now());
    limits_.emplace(vm_id, limits);
    order_.push_back(vm_id);
    return limits;
}

void VmTable::make_room() {
    const auto may_go = [this](std::uint32_t vm_id) {
        return limits_.at(vm_id).use_count() == 1 && !settings_.vms.contains(vm_id);
    };
    // Order of eviction: first entries without faults, last those in quarantine.
    const auto rank = [this](std::uint32_t vm_id) {
        const FaultCounter& faults = limits_.at(vm_id)->faults();
        return faults.quarantined() ? 2 : (faults.faults() > 0 ? 1 : 0);
    };
    std::optional<std::uint32_t> chosen;
    for (std::size_t polls = 0; polls < kMostPolls; ++polls) {
        const std::uint32_t vm_id = order_.front();
        order_.pop_front();
        order_.push_back(vm_id);
        if (may_go(vm_id) && (!chosen || rank(vm_id) < rank(*chosen))) {
            chosen = vm_id;
        }
        if (chosen && rank(*chosen) == 0) {
            break;
        }
    }
    if (!chosen) {
        // There are far more entries than VMs with connections.
        if (const auto oldest = std::find_if(order_.begin(), order_.end(), may_go);
            oldest != order_.end()) {
            chosen = *oldest;
        }
    }
    if (chosen) {
        limits_.erase(*chosen);
        // It has just been examined, or is among the first.
        const auto from_behind = std::find(order_.rbegin(), order_.rend(), *chosen);
        order_.erase(std::next(from_behind).base());
    }
}

void VmTable::apply() {
    for (auto& [vm_id, limits] : limits_) {
        limits->apply(settings_.vm(vm_id).limits, clock_.now());
    }
}

void VmTable::count_fault(std::uint32_t vm_id) {
    const auto limits = of(vm_id);
    if (limits->count_fault()) {
        events_.on_event(VmQuarantined{.vm_id = vm_id, .faults = limits->faults().faults()});
    }
}

bool VmTable::release(std::uint32_t vm_id) {
    const auto found = limits_.find(vm_id);
    if (found == limits_.end() || !found->second->faults().quarantined()) {
        return false;
    }
    found->second->faults().release();
    events_.on_event(VmReleased{.vm_id = vm_id});
    return true;
}

bool VmTable::quarantine(std::uint32_t vm_id) {
    FaultCounter& faults = of(vm_id)->faults();
    if (faults.quarantined()) {
        return false;
    }
    faults.quarantine();
    events_.on_event(VmQuarantined{.vm_id = vm_id, .faults = faults.faults(), .by_operator = true});
    return true;
}

const VmLimits* VmTable::find(std::uint32_t vm_id) const {
    const auto found = limits_.find(vm_id);
    return found == limits_.end() ? nullptr : found->second.get();
}

std::size_t VmTable::quarantined() const {
    return static_cast<std::size_t>(
        std::count_if(limits_.begin(), limits_.end(),
                      [](const auto& entry) { return entry.second->faults().quarantined(); }));
}

}  // namespace vgpu
