// SPDX-License-Identifier: MIT
#include "mediator/vm_table.h"

#include <algorithm>
#include <utility>

#include "vgpu_protocol.h"

namespace vgpu {
namespace {

// VMs told apart. A peer can claim any id, so their number has to have an end; the rest share what
// the last id there is would have.
constexpr std::size_t kMostVms = 65536;
constexpr std::uint32_t kRest = UINT32_MAX;

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
            return Outcome::failure(VGPU_ERR_QUARANTINED, "this VM is in quarantine");
        case VmLimits::Verdict::kGpuTimeUsed:
            return Outcome::failure(VGPU_ERR_RATE_LIMITED,
                                    "this VM has used the GPU time it may use for now");
        default:
            return Outcome::failure(VGPU_ERR_RATE_LIMITED,
                                    "this VM sends more requests a second than it may");
    }
}

VmLimits& VmTable::of(std::uint32_t vm_id) {
    auto found = limits_.find(vm_id);
    if (found == limits_.end()) {
        const std::uint32_t key = limits_.size() < kMostVms ? vm_id : kRest;
        found = limits_.try_emplace(key, VmLimits(settings_.vm(key).limits, clock_.now())).first;
    }
    return found->second;
}

void VmTable::apply() {
    for (auto& [vm_id, limits] : limits_) {
        limits.apply(settings_.vm(vm_id).limits, clock_.now());
    }
}

void VmTable::count_fault(std::uint32_t vm_id) {
    VmLimits& limits = of(vm_id);
    if (limits.count_fault()) {
        events_.vm_quarantined({.vm_id = vm_id, .faults = limits.faults().faults()});
    }
}

bool VmTable::release(std::uint32_t vm_id) {
    const auto found = limits_.find(vm_id);
    if (found == limits_.end() || !found->second.faults().quarantined()) {
        return false;
    }
    found->second.faults().release();
    events_.vm_released({.vm_id = vm_id});
    return true;
}

bool VmTable::quarantine(std::uint32_t vm_id) {
    FaultCounter& faults = of(vm_id).faults();
    if (faults.quarantined()) {
        return false;
    }
    faults.quarantine();
    events_.vm_quarantined({.vm_id = vm_id, .faults = faults.faults()});
    return true;
}

const VmLimits* VmTable::find(std::uint32_t vm_id) const {
    const auto found = limits_.find(vm_id);
    return found == limits_.end() ? nullptr : &found->second;
}

std::size_t VmTable::quarantined() const {
    return static_cast<std::size_t>(
        std::count_if(limits_.begin(), limits_.end(),
                      [](const auto& entry) { return entry.second.faults().quarantined(); }));
}

}  // namespace vgpu
