// SPDX-License-Identifier: MIT
//
// HeldBackend: a backend whose jobs complete when the test allows it, each with the result of the
// CPU backend. A test can fill queues behind a running request and check the order in which they
// drain, independent of timing. It never blocks, and its descriptor signals the test's actions.
#pragma once

#include <sys/eventfd.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <iterator>
#include <limits>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "executor/backend.h"
#include "executor/cpu/cpu_backend.h"

namespace vgpu::test {

// The test's control of a HeldBackend, shared with it. Thread-safe.
class Hold {
  public:
    // Allows `count` more jobs to complete.
    void release(std::size_t count) {
        const std::lock_guard lock(mutex_);
        permits_ += count;
        wake();
    }
    // Allows all further jobs to complete.
    void open() {
        const std::lock_guard lock(mutex_);
        permits_ = std::numeric_limits<std::size_t>::max() / 2;
        wake();
    }
    // Makes the next job complete with this status.
    void fail_next(std::uint32_t status) {
        const std::lock_guard lock(mutex_);
        status_ = status;
    }
    // Makes each job report this GPU time instead of the measured time.
    void set_exec_time(std::uint32_t microseconds) {
        const std::lock_guard lock(mutex_);
        exec_time_us_ = microseconds;
    }
    // Makes the next `count` attachments of regions fail.
    void fail_attaches(std::size_t count) {
        const std::lock_guard lock(mutex_);
        failing_attaches_ = count;
    }
    // The device fails at the next poll, fails all of its jobs, and stays failed until it is
    // repaired.
    void break_device() {
        const std::lock_guard lock(mutex_);
        broken_ = true;
        wake();
    }
    void repair_device() {
        const std::lock_guard lock(mutex_);
        broken_ = false;
        wake();
    }
    // Waits until this many jobs have been submitted in total. Returns false on time-out.
    bool wait_submitted(std::size_t count) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, std::chrono::seconds(20),
                                 [&] { return submitted_ >= count; });
    }

  private:
    friend class HeldBackend;
    void wake() const { ::eventfd_write(wakes_.get(), 1); }

    Fd wakes_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    std::mutex mutex_;
    std::condition_variable changed_;
    std::size_t permits_ = 0;
    std::size_t submitted_ = 0;
    std::uint32_t status_ = VGPU_ERR_NONE;
    std::uint32_t exec_time_us_ = 0;  // 0: as measured
    bool broken_ = false;
    std::size_t failing_attaches_ = 0;
};

class HeldBackend final : public Backend {
  public:
    explicit HeldBackend(std::shared_ptr<Hold> hold) : hold_(std::move(hold)) {}

    [[nodiscard]] const DeviceInfo& info() const override { return cpu_.info(); }
    [[nodiscard]] bool immediate(const Job& /*job*/) const override { return false; }
    Outcome run(const Job& job) override { return cpu_.run(job); }
    void attach_thread() override {}
    void detach_thread() override {}

    void submit(const Job& job) override {
        jobs_.push_back(job);
        const std::lock_guard lock(hold_->mutex_);
        ++hold_->submitted_;
        hold_->changed_.notify_all();
    }

    // Regions are not held: they are attached and detached immediately.
    void attach_region(std::uint64_t token, RegionId region, int fd, std::uint64_t size) override {
        const std::lock_guard lock(hold_->mutex_);
        if (hold_->failing_attaches_ > 0) {
            --hold_->failing_attaches_;
            stopped_.push_back({token, failed_device_outcome("the test does not let it")});
        } else {
            cpu_.attach_region(token, region, fd, size);
        }
        hold_->wake();
    }
    void detach_region(std::uint64_t token, RegionId region) override {
        cpu_.detach_region(token, region);
        const std::lock_guard lock(hold_->mutex_);
        hold_->wake();
    }
    [[nodiscard]] bool writes_timeline() const override { return cpu_.writes_timeline(); }
    [[nodiscard]] std::uint64_t bytes_copied_by_processor() const override {
        return cpu_.bytes_copied_by_processor();
    }

    void poll(std::vector<Completion>& ended) override {
        eventfd_t wakes = 0;
        ::eventfd_read(hold_->wakes_.get(), &wakes);
        cpu_.poll(ended);
        std::move(stopped_.begin(), stopped_.end(), std::back_inserter(ended));
        stopped_.clear();
        const std::lock_guard lock(hold_->mutex_);
        if (hold_->broken_ != failed_) {
            failed_ = hold_->broken_;
            ended.push_back({0, Outcome::failure(VGPU_ERR_CUDA, "broken by the test"),
                             failed_ ? DeviceChange::kFailed : DeviceChange::kRecovered});
        }
        for (; failed_ && !jobs_.empty(); jobs_.pop_front()) {
            ended.push_back({jobs_.front().token, failed_device_outcome("the device is broken")});
        }
        while (!jobs_.empty() && hold_->permits_ > 0) {
            --hold_->permits_;
            const auto status = std::exchange(hold_->status_, VGPU_ERR_NONE);
            if (status == VGPU_ERR_NONE) {
                cpu_.submit(jobs_.front());
                cpu_.poll(ended);
            } else {
                ended.push_back(
                    {jobs_.front().token, Outcome::failure(status, "this job was made to fail")});
            }
            if (hold_->exec_time_us_ != 0) {
                ended.back().outcome.exec_time_us = hold_->exec_time_us_;
            }
            jobs_.pop_front();
        }
    }

    [[nodiscard]] int wake_descriptor() const override { return hold_->wakes_.get(); }

    // Stops the job and resets the device, which fails all other jobs.
    void stop(std::uint64_t token) override {
        for (auto job = jobs_.begin(); job != jobs_.end(); ++job) {
            if (job->token == token) {
                stopped_.push_back({0, failed_device_outcome("stopped"), DeviceChange::kFailed});
                stopped_.push_back(
                    {token, Outcome::failure(VGPU_ERR_CUDA_TIME_LIMIT, "it was stopped")});
                jobs_.erase(job);
                break;
            }
        }
        for (; !stopped_.empty() && !jobs_.empty(); jobs_.pop_front()) {
            stopped_.push_back({jobs_.front().token, failed_device_outcome("another was stopped")});
        }
        if (!stopped_.empty()) {
            stopped_.push_back({0, {}, DeviceChange::kRecovered});
        }
    }

    [[nodiscard]] bool recovering() const override { return failed_; }

  private:
    std::shared_ptr<Hold> hold_;
    bool failed_ = false;  // and reported
    CpuBackend cpu_;
    std::deque<Job> jobs_;
    std::vector<Completion> stopped_;
};

}  // namespace vgpu::test
