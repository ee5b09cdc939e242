// SPDX-License-Identifier: MIT
//
// TouchWatch: identifies the device whose shared memory blocks the control loop. An access to a
// page can block in the kernel: while a process that shares the memory punches a hole around it
// (fallocate(2)), or while the page is read back from swap. No access to mapped memory fails
// instead of blocking. AccessWatchdog ends long ones; a device that caused several is identified
// and closed (MemoryGuard):
//
//   the loop was late by kLate --> suspicion for kSuspicion: accesses are measured per device;
//                                  one that took kSlow, during which the thread waited for a
//                                  page --> blame
//
// The kernel counts waiting, as opposed to preemption by the host's scheduler, as a voluntary
// context switch; a page fault in addition shows that the wait was for a page and not for a lock. A
// major fault means that the page came from swap: that is the host's doing.
// Without suspicion, the cost is one comparison.
//
// Control loop only. Pure data except for getrusage(2).
#pragma once

#include <sys/resource.h>

#include <chrono>
#include <cstdint>

namespace vgpu {

class TouchWatch {
  public:
    static constexpr std::chrono::milliseconds kLate{5};
    static constexpr std::chrono::milliseconds kSlow{2};
    static constexpr std::chrono::seconds kSuspicion{1};

    // Records that the control loop was late by `time`.
    void late_by(std::chrono::nanoseconds time, std::chrono::nanoseconds now) {
        if (time >= kLate) {
            suspicious_until_ = now + kSuspicion;
            suspicious_ = true;
        }
    }
    [[nodiscard]] bool suspicious() const { return suspicious_; }

    // Begins a measurement.
    void begin(std::chrono::nanoseconds now) {
        began_ = now;
        seen_ = count();
        suspicious_ = now < suspicious_until_;
    }
    // Ends it. Returns true if the thread has waited, for whatever, and this took kLate.
    [[nodiscard]] bool waited(std::chrono::nanoseconds now) const {
        return now - began_ >= kLate && count().waits != seen_.waits;
    }
    // Ends the accesses of one device and begins those of the next. Returns true if it is to blame.
    [[nodiscard]] bool blames(std::chrono::nanoseconds now) {
        const auto took = now - began_;
        began_ = now;
        if (took < kSlow) {
            return false;
        }
        const Counts before = seen_;
        seen_ = count();
        return seen_.waits != before.waits && seen_.minor_faults != before.minor_faults &&
               seen_.major_faults == before.major_faults;
    }

  private:
    // Of this thread since its start.
    struct Counts {
        std::int64_t waits = 0;  // voluntary context switches
        std::int64_t minor_faults = 0;
        std::int64_t major_faults = 0;
    };
    static Counts count() {
        rusage used{};
        if (::getrusage(RUSAGE_THREAD, &used) != 0) {
            return {};
        }
        return {
            .waits = used.ru_nvcsw, .minor_faults = used.ru_minflt, .major_faults = used.ru_majflt};
    }

    bool suspicious_ = false;
    std::chrono::nanoseconds suspicious_until_{0};
    std::chrono::nanoseconds began_{0};
    Counts seen_;
};

}  // namespace vgpu
