// SPDX-License-Identifier: MIT
//
// MemoryGuard: finds the device whose shared memory blocks the control loop (TouchWatch), closes
// its connection, and rejects memory of its VM for a time, or of its user after repeated offenses.
// Control loop only.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>

#include "mediator/shm/guest_queues.h"
#include "mediator/shm/touch_watch.h"
#include "sched/clock.h"

namespace vgpu {

class MemoryGuard {
  public:
    // Borrows the clock.
    explicit MemoryGuard(WorkClock& clock) : clock_(clock) {}

    // Records that the control loop was late by `time`.
    void late_by(std::chrono::nanoseconds time) { touches_.late_by(time, clock_.now()); }
    // Returns true if watch() measures.
    [[nodiscard]] bool suspicious() const { return touches_.suspicious(); }
    // Returns false while memory of this VM, or of this user, is rejected.
    [[nodiscard]] bool allows(std::uint32_t vm_id, uid_t user) const;

    // Calls `access`, which accesses the memory of these queues, and measures it if there is
    // suspicion. Returns its result, which may not be void.
    template <class Access>
    auto watch(GuestQueues& queues, const Access& access) {
        if (!touches_.suspicious()) {
            return access();
        }
        clock_.next();
        touches_.begin(clock_.now());
        const auto result = access();
        judge(queues);
        return result;
    }

  private:
    struct Blocked {
        std::chrono::nanoseconds until{0};
        unsigned times = 0;
    };
    void judge(GuestQueues& queues);

    WorkClock& clock_;
    TouchWatch touches_;
    std::map<std::uint32_t, Blocked> vms_;
    std::map<uid_t, Blocked> users_;
};

}  // namespace vgpu
