// SPDX-License-Identifier: MIT
//
// VmTable: the limits of every VM that has been seen, and their usage. They outlive its
// connections: reconnecting neither ends a quarantine nor renews a budget.
//
// A peer can claim any id, so the number of entries is bounded. At the bound, a new VM replaces one
// that has no connection: of the entries examined, the oldest one without faults, else one that is
// not in quarantine, else the oldest. VMs named in the configuration are never evicted. No two VMs
// ever share an entry.
//
// Control loop only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>

#include "executor/job.h"
#include "mediator/config/settings.h"
#include "mediator/events/events.h"
#include "sched/clock.h"
#include "sched/vm_limits.h"

namespace vgpu {

// Returns true if a response with this status counts as a fault of the VM, unless the device
// failed: a malformed request, or an execution that failed for a reason other than lack of memory
// or a handle that is not its own.
bool is_vm_fault(std::uint32_t status);

// Returns the response to a request that was not allowed. Precondition: verdict is not kAllowed.
Outcome limit_outcome(VmLimits::Verdict verdict);

class VmTable {
  public:
    static constexpr std::size_t kMostVms = 16384;

    // Borrows all arguments.
    VmTable(const Settings& settings, EventSink& events, const Clock& clock)
        : settings_(settings), events_(events), clock_(clock) {}

    // Returns the entry of a VM, created if necessary. It is kept at least while others hold it.
    std::shared_ptr<VmLimits> of(std::uint32_t vm_id);
    // Applies changed settings.
    void apply();
    void count_fault(std::uint32_t vm_id);
    // Returns false if it is not in quarantine.
    bool release(std::uint32_t vm_id);
    // Returns false if it is already in quarantine.
    bool quarantine(std::uint32_t vm_id);
    // Returns null if it has no entry.
    [[nodiscard]] const VmLimits* find(std::uint32_t vm_id) const;
    [[nodiscard]] std::size_t quarantined() const;

  private:
    void make_room();

    const Settings& settings_;
    EventSink& events_;
    const Clock& clock_;
    std::unordered_map<std::uint32_t, std::shared_ptr<VmLimits>> limits_;
    std::deque<std::uint32_t> order_;  // ids in limits_, most recently examined last
};

}  // namespace vgpu
