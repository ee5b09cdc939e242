// SPDX-License-Identifier: MIT
//
// TouchWatch: finds the device whose shared memory makes the control loop wait. A touch of a page
// can block in the kernel: while the process that shares the memory punches a hole around it
// (fallocate(2)), or while the page is read back from swap. No access to mapped memory fails
// instead of waiting. So the time that one touch can take is bounded by the size of the memory
// (Settings::queues_memory_max; Linux punches some 15 GB/s), and a device that has done it is found
// and closed (Dispatcher::judge_touches):
//
//   the loop was late by kLate --> suspicion, for a second: the devices' looks are measured;
//                                  one that took kSlow, and in which the thread had to wait for a
//                                  page --> blame
//
// Waiting, as against being preempted by the host's scheduler, is what the kernel counts as a
// voluntary context switch; that it was for a page, and not for a lock, is a page fault besides.
// While there is no suspicion this costs a comparison.
//
// Control loop only. Pure but for getrusage(2).
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

    // The control loop came this late to something.
    void late_by(std::chrono::nanoseconds time, std::chrono::nanoseconds now) {
        if (time >= kLate) {
            suspicious_until_ = now + kSuspicion;
            suspicious_ = true;
        }
    }
    [[nodiscard]] bool suspicious() const { return suspicious_; }

    // Touches begin. Precondition: suspicious().
    void begin(std::chrono::nanoseconds now) {
        began_ = now;
        seen_ = count();
        suspicious_ = now < suspicious_until_;
    }
    // Those of one device have ended; those of the next may follow. Whether it is to blame.
    [[nodiscard]] bool blames(std::chrono::nanoseconds now) {
        const auto took = now - began_;
        began_ = now;
        if (took < kSlow) {
            return false;
        }
        const Counts before = seen_;
        seen_ = count();
        return seen_.waits != before.waits && seen_.faults != before.faults;
    }

  private:
    // Of this thread since its start.
    struct Counts {
        std::int64_t waits = 0;  // gave up the processor to wait for something
        std::int64_t faults = 0;
    };
    static Counts count() {
        rusage used{};
        if (::getrusage(RUSAGE_THREAD, &used) != 0) {
            return {};
        }
        return {.waits = used.ru_nvcsw, .faults = used.ru_minflt + used.ru_majflt};
    }

    bool suspicious_ = false;
    std::chrono::nanoseconds suspicious_until_{0};
    std::chrono::nanoseconds began_{0};
    Counts seen_;
};

}  // namespace vgpu
