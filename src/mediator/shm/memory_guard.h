// SPDX-License-Identifier: MIT
//
// MemoryGuard: finds the device whose shared memory blocks the control loop (TouchWatch), ends an
// access that blocks for long (AccessWatchdog), closes the device's connection, and rejects memory
// of its VM for a time, or of its user after repeated offenses. Control loop only.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>

#include "mediator/shm/access_watchdog.h"
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

    // Lets the AccessWatchdog watch the calling thread, the control loop. Until then, accesses that
    // block last as long as they do.
    void start() { watchdog_.emplace(); }
    // Its thread ends.
    void stop() { watchdog_.reset(); }

    // Calls `access`, which accesses the memory of these queues: it is ended if it blocks, and
    // measured if there is suspicion. Returns its result, which may not be void. The queues have to
    // exist until then.
    template <class Access>
    auto watch(GuestQueues& queues, const Access& access) {
        const bool measured = touches_.suspicious();
        if (measured) {
            clock_.next();
            touches_.begin(clock_.now());
        }
        const AccessWatchdog::Range range{queues.memory->base(), queues.memory->layout().size};
        const AccessWatchdog::Range* const outer = watchdog_ ? watchdog_->enter(range) : nullptr;
        const auto result = access();
        const bool replaced = watchdog_ && watchdog_->leave(outer);
        if (measured || replaced) {
            judge(queues, replaced);
        }
        return result;
    }
    // Calls `map`, which maps memory that this session offers, and returns its result. If it waited
    // for other users of the file, the session and its memory are treated as above.
    template <class Map>
    auto watch_mapping(Session& session, std::uint32_t vm_id, const Map& map) {
        clock_.next();
        touches_.begin(clock_.now());
        auto result = map();
        clock_.next();
        if (touches_.waited(clock_.now())) {
            blame(session, vm_id);
        }
        return result;
    }

  private:
    struct Blocked {
        std::chrono::nanoseconds until{0};
        unsigned times = 0;
    };
    void judge(GuestQueues& queues, bool replaced);
    void blame(Session& session, std::uint32_t vm_id);

    WorkClock& clock_;
    TouchWatch touches_;
    std::optional<AccessWatchdog> watchdog_;
    std::map<std::uint32_t, Blocked> vms_;
    std::map<uid_t, Blocked> users_;
};

}  // namespace vgpu
