// SPDX-License-Identifier: MIT
//
// VmTable: the limits of every VM that has been seen, and how far each has gone. They outlive its
// connections: a VM gets neither out of quarantine nor a new budget by connecting again.
//
// A peer can claim any id, so the number of entries has a bound. At the bound a new VM takes the
// place of one that has no connection: of those looked at, the oldest one without faults, else one
// that is not in quarantine, else the oldest. VMs that the configuration names are never forgotten.
// So no two VMs ever share an entry.
//
// Control loop only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>

#include "executor/operation.h"
#include "mediator/config/settings.h"
#include "mediator/events/events.h"
#include "sched/clock.h"
#include "sched/vm_limits.h"

namespace vgpu {

// Whether an answer of this status counts as a fault of the VM, if it is not the device's: a
// malformed request, or an execution that failed for another reason than too little memory or a
// handle that is not its own.
bool is_vm_fault(std::uint32_t status);

// The answer to a request that was not allowed. Precondition: verdict is not kAllowed.
Outcome limit_outcome(VmLimits::Verdict verdict);

class VmTable {
  public:
    static constexpr std::size_t kMostVms = 16384;

    // Borrows all three.
    VmTable(const Settings& settings, EventSink& events, const Clock& clock)
        : settings_(settings), events_(events), clock_(clock) {}

    // An entry is kept at least as long as another holds it.
    std::shared_ptr<VmLimits> of(std::uint32_t vm_id);
    // The settings have changed.
    void apply();
    void count_fault(std::uint32_t vm_id);
    // False: it is in no quarantine.
    bool release(std::uint32_t vm_id);
    // False: it is in quarantine already.
    bool quarantine(std::uint32_t vm_id);
    // Null if it has not been seen.
    [[nodiscard]] const VmLimits* find(std::uint32_t vm_id) const;
    [[nodiscard]] std::size_t quarantined() const;

  private:
    void make_room();

    const Settings& settings_;
    EventSink& events_;
    const Clock& clock_;
    std::unordered_map<std::uint32_t, std::shared_ptr<VmLimits>> limits_;
    std::deque<std::uint32_t> order_;  // ids in limits_, those that were looked at last behind
};

}  // namespace vgpu
