// SPDX-License-Identifier: MIT
//
// Limits of one VM and their usage: requests per second, GPU time per window, faults. Pure data
// like the scheduler: the caller passes the time.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "sched/hold_back.h"
#include "sched/token_bucket.h"

namespace vgpu {

struct VmLimitSettings {
    double requests_per_second = 0;                  // 0: unlimited
    std::uint32_t burst = 50;                        // requests that may come at once
    std::chrono::milliseconds gpu_time{0};           // per window; 0: unlimited
    std::chrono::milliseconds gpu_window{1000};      // over 0
    std::uint32_t quarantine_after_faults = 0;       // 0: never
    std::chrono::milliseconds longest_execution{0};  // before it is reported; 0: unlimited

    bool operator==(const VmLimitSettings&) const = default;
};

// GPU time per window. Starts full and refills at a constant rate: in any window a VM with constant
// demand gets its time, plus at most as much again saved before, plus the overrun of its last
// request, which is a debt.
class GpuTimeBudget {
  public:
    // Preconditions: both over 0.
    GpuTimeBudget(std::chrono::nanoseconds per_window, std::chrono::nanoseconds window,
                  std::chrono::nanoseconds now)
        : per_window_(static_cast<double>(per_window.count())),
          rate_(per_window_ / static_cast<double>(window.count())),
          left_(per_window_),
          at_(now) {}

    // Returns whether any time is left.
    bool allows(std::chrono::nanoseconds now) {
        fill(now);
        return left_ > 0;
    }
    void charge(std::chrono::nanoseconds used, std::chrono::nanoseconds now) {
        fill(now);
        left_ -= static_cast<double>(used.count());
    }

  private:
    void fill(std::chrono::nanoseconds now) {
        left_ = std::min(per_window_, left_ + static_cast<double>((now - at_).count()) * rate_);
        at_ = now;
    }

    double per_window_;  // nanoseconds
    double rate_;        // nanoseconds per nanosecond
    double left_;
    std::chrono::nanoseconds at_;
};

// Counts faults up to the quarantine threshold.
class FaultCounter {
  public:
    // Returns true if this fault puts the VM into quarantine. `most` 0: never.
    bool count(std::uint32_t most) {
        ++faults_;
        if (quarantined_ || most == 0 || faults_ < most) {
            return false;
        }
        quarantined_ = true;
        return true;
    }
    [[nodiscard]] bool quarantined() const { return quarantined_; }
    [[nodiscard]] std::uint32_t faults() const { return faults_; }
    void quarantine() { quarantined_ = true; }
    // Ends the quarantine and clears the count.
    void release() { *this = FaultCounter(); }

  private:
    std::uint32_t faults_ = 0;
    bool quarantined_ = false;
};

class VmLimits {
  public:
    enum class Verdict : std::uint8_t { kAllowed, kTooManyRequests, kGpuTimeUsed, kQuarantined };

    VmLimits(const VmLimitSettings& settings, std::chrono::nanoseconds now)
        : hold_(HoldBack::kVm, now) {
        apply(settings, now);
    }

    // Changes the settings. Budgets whose settings changed restart full; faults and quarantine
    // stay.
    void apply(const VmLimitSettings& settings, std::chrono::nanoseconds now) {
        if (!rate_ || settings.requests_per_second != settings_.requests_per_second ||
            settings.burst != settings_.burst) {
            rate_.reset();
            if (settings.requests_per_second > 0) {
                rate_.emplace(settings.requests_per_second, settings.burst, now);
            }
        }
        if (!gpu_time_ || settings.gpu_time != settings_.gpu_time ||
            settings.gpu_window != settings_.gpu_window) {
            gpu_time_.reset();
            if (settings.gpu_time.count() > 0) {
                gpu_time_.emplace(settings.gpu_time, settings.gpu_window, now);
            }
        }
        settings_ = settings;
    }

    // Returns whether admit() and may_start() can return anything but kAllowed. If not, they need
    // not be called until the settings change or the VM is quarantined.
    [[nodiscard]] bool any() const {
        return faults_.quarantined() || gpu_time_.has_value() || rate_.has_value();
    }
    // Returns whether another request is admitted; counts it if so.
    Verdict admit(std::chrono::nanoseconds now) {
        if (faults_.quarantined()) {
            return Verdict::kQuarantined;
        }
        if (gpu_time_ && !gpu_time_->allows(now)) {
            return Verdict::kGpuTimeUsed;
        }
        if (rate_ && !rate_->take(now)) {
            return Verdict::kTooManyRequests;
        }
        return Verdict::kAllowed;
    }
    // Returns whether an admitted request may still start.
    Verdict may_start(std::chrono::nanoseconds now) {
        if (faults_.quarantined()) {
            return Verdict::kQuarantined;
        }
        return gpu_time_ && !gpu_time_->allows(now) ? Verdict::kGpuTimeUsed : Verdict::kAllowed;
    }
    void charge(std::chrono::nanoseconds used, std::chrono::nanoseconds now) {
        if (gpu_time_) {
            gpu_time_->charge(used, now);
        }
    }
    [[nodiscard]] HoldBack& hold() { return hold_; }
    [[nodiscard]] const HoldBack& hold() const { return hold_; }
    // Returns true if this fault puts the VM into quarantine.
    bool count_fault() { return faults_.count(settings_.quarantine_after_faults); }
    [[nodiscard]] bool too_long(std::chrono::nanoseconds ran) const {
        return settings_.longest_execution.count() > 0 && ran > settings_.longest_execution;
    }

    [[nodiscard]] const VmLimitSettings& settings() const { return settings_; }
    [[nodiscard]] FaultCounter& faults() { return faults_; }
    [[nodiscard]] const FaultCounter& faults() const { return faults_; }

  private:
    VmLimitSettings settings_;
    HoldBack hold_;
    std::optional<TokenBucket> rate_;
    std::optional<GpuTimeBudget> gpu_time_;
    FaultCounter faults_;
};

}  // namespace vgpu
