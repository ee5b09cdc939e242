// SPDX-License-Identifier: MIT
#include "executor/thread_executor.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "executor/relax.h"

namespace vgpu {
namespace {

constexpr std::chrono::microseconds kShortestNap{20};
constexpr std::chrono::microseconds kLongestNap{1000};
constexpr std::chrono::microseconds kRecoveryNap{50000};

}  // namespace

ThreadExecutor::ThreadExecutor(std::unique_ptr<Backend> backend, Options options,
                               std::function<void()> wake_control)
    : Executor(std::move(backend)),
      options_(options),
      wake_control_(std::move(wake_control)),
      signal_(false),
      thread_([this] { thread_main(); }) {}

ThreadExecutor::~ThreadExecutor() {
    {
        const std::lock_guard lock(jobs_mutex_);
        stop_ = true;
        signal_.store(true);
    }
    jobs_changed_.notify_one();
    thread_.join();
}

void ThreadExecutor::submit(const Job& job) {
    bool wake = false;
    {
        const std::lock_guard lock(jobs_mutex_);
        jobs_.push_back(job);
        wake = sleeping_;
    }
    // After the mutex is free: whoever looks at this without pause would run into it. If the job
    // has been taken by now, for an earlier one's sake, the next look finds nothing.
    signal_.store(true);
    if (wake) {
        jobs_changed_.notify_one();
    }
}

void ThreadExecutor::take_completions(std::vector<Completion>& ended) {
    if (!completed_.load()) {
        return;
    }
    const std::lock_guard lock(completions_mutex_);
    completed_.store(false);
    ended.insert(ended.end(), std::make_move_iterator(completions_.begin()),
                 std::make_move_iterator(completions_.end()));
    completions_.clear();
}

bool ThreadExecutor::take_jobs(std::vector<Job>& into) {
    const std::lock_guard lock(jobs_mutex_);
    signal_.store(stop_);
    into.swap(jobs_);
    return !into.empty();
}

void ThreadExecutor::publish(std::vector<Completion>& ended) {
    {
        const std::lock_guard lock(completions_mutex_);
        completions_.insert(completions_.end(), std::make_move_iterator(ended.begin()),
                            std::make_move_iterator(ended.end()));
    }
    completed_.store(true);  // after the mutex is free, as in submit()
    ended.clear();
    // Either this sees that the control loop sleeps, or the control loop, which looks at
    // completed_ after saying so, sees the completion: both are sequentially consistent.
    if (control_waiting_.exchange(false)) {
        wake_control_();
    }
}

void ThreadExecutor::thread_main() {
    using Clock = std::chrono::steady_clock;
    backend().attach_thread();
    std::vector<Job> jobs;
    std::vector<Completion> ended;
    std::size_t in_flight = 0;
    auto last_activity = Clock::now();
    auto nap = kShortestNap;
    for (;;) {
        bool active = false;
        if (signal_.load() && take_jobs(jobs)) {
            active = true;
            for (const Job& job : jobs) {
                backend().submit(job);
            }
            in_flight += jobs.size();
            jobs.clear();
        }
        if (in_flight > 0 || backend().recovering()) {
            backend().poll(ended);
            if (!ended.empty()) {
                active = true;
                in_flight -= count_jobs(ended);
                publish(ended);
            }
        }
        if (active) {
            last_activity = Clock::now();
            nap = kShortestNap;
            continue;
        }
        if (!signal_.load() && Clock::now() - last_activity < options_.spin) {
            relax_processor();
            continue;
        }
        std::unique_lock lock(jobs_mutex_);
        if (stop_) {
            break;
        }
        if (!jobs_.empty()) {
            continue;
        }
        sleeping_ = true;
        const auto has_news = [this] { return stop_ || !jobs_.empty(); };
        if (in_flight > 0) {
            jobs_changed_.wait_for(lock, nap, has_news);
            nap = std::min(nap * 5 / 4, kLongestNap);
        } else if (backend().recovering()) {
            jobs_changed_.wait_for(lock, kRecoveryNap, has_news);
        } else {
            jobs_changed_.wait(lock, has_news);
        }
        sleeping_ = false;
    }
    backend().detach_thread();
}

}  // namespace vgpu
