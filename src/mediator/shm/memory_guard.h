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
#include <utility>

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
    // Returns false while memory of this VM, or of this user, is rejected.
    [[nodiscard]] bool allows(std::uint32_t vm_id, uid_t user) const;

    // Lets the AccessWatchdog watch the calling thread, the control loop. Until then, accesses that
    // block last as long as they do.
    void start() { watchdog_.emplace(); }
    // Its thread ends.
    void stop() { watchdog_.reset(); }

    // Calls `access`, which accesses the memory of these queues: it is ended if it blocks, and
    // measured if there is suspicion. Returns its result. May nest. The queues have to exist until
    // then.
    template <class Access>
    auto watch(GuestQueues& queues, const Access& access) {
        if (watched_ == &queues) {
            return access();
        }
        const Watch watch(*this, queues);
        return access();
    }
    // Calls `map`, which maps memory that this session offers, and returns its result. If it waited
    // for other users of the file, the session and its memory are treated as above. `unmaps`:
    // memory is being unmapped, which makes the mapping of any other wait if that one is punched.
    template <class Map>
    auto watch_mapping(Session& session, std::uint32_t vm_id, bool unmaps, const Map& map) {
        clock_.next();
        touches_.begin(clock_.now());
        auto result = map();
        clock_.next();
        if (touches_.waited(clock_.now()) && (!unmaps || users_.contains(session.peer().uid))) {
            // These are rare without intent, and may be long.
            constexpr unsigned kAsMany = 4;
            blame(session, vm_id, kAsMany);
        }
        return result;
    }

  private:
    struct Blocked {
        std::chrono::nanoseconds until{0};
        unsigned times = 0;
    };
    // One access. What precedes a nested one is attributed to the outer queues before it begins.
    class Watch {
      public:
        Watch(MemoryGuard& guard, GuestQueues& queues)
            : guard_(guard),
              queues_(queues),
              outer_(std::exchange(guard.watched_, &queues)),
              range_{queues.memory->base(), queues.memory->layout().size} {
            guard_.measure(outer_, false);
            outer_range_ = guard_.watchdog_ ? guard_.watchdog_->enter(range_) : nullptr;
        }
        Watch(const Watch&) = delete;
        Watch& operator=(const Watch&) = delete;
        ~Watch() {
            const bool replaced = guard_.watchdog_ && guard_.watchdog_->leave(range_, outer_range_);
            guard_.measure(&queues_, replaced);
            guard_.watched_ = outer_;
        }

      private:
        MemoryGuard& guard_;
        GuestQueues& queues_;
        GuestQueues* outer_;
        AccessWatchdog::Range range_;
        const AccessWatchdog::Range* outer_range_ = nullptr;
    };

    // Ends the measurement of the access to these queues, if there is one, and begins another.
    void measure(GuestQueues* queues, bool replaced) {
        if (touches_.suspicious() || replaced) {
            judge(queues, replaced);
        }
    }
    void judge(GuestQueues* queues, bool replaced);
    // `times`: offenses of the user that this is counted as.
    void blame(Session& session, std::uint32_t vm_id, unsigned times);

    WorkClock& clock_;
    TouchWatch touches_;
    GuestQueues* watched_ = nullptr;  // being accessed
    std::optional<AccessWatchdog> watchdog_;
    std::map<std::uint32_t, Blocked> vms_;
    std::map<uid_t, Blocked> users_;
};

}  // namespace vgpu
