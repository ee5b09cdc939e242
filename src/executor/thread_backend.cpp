// SPDX-License-Identifier: MIT
#include "executor/thread_backend.h"

#include <fcntl.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <system_error>
#include <utility>

#include "base/relax.h"
#include "base/thread.h"

namespace vgpu {
namespace {

constexpr std::chrono::microseconds kShortestNap{20};
constexpr std::chrono::microseconds kLongestNap{1000};
constexpr std::chrono::microseconds kRecoveryNap{50000};

}  // namespace

ThreadBackend::ThreadBackend(std::unique_ptr<Backend> inner, std::chrono::microseconds spin)
    : inner_(std::move(inner)), spin_(spin), wakes_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (!wakes_) {
        throw std::system_error(errno, std::generic_category(), "eventfd");
    }
}

void ThreadBackend::attach_thread() {
    thread_ = start_thread([this] { thread_main(); });
}

void ThreadBackend::detach_thread() {
    {
        const std::lock_guard lock(orders_mutex_);
        stop_ = true;
        signal_.store(true);
    }
    orders_changed_.notify_one();
    inner_->abandon();
    thread_.join();
}

void ThreadBackend::attach_region(std::uint64_t token, RegionId region, int fd,
                                  std::uint64_t size) {
    // If the descriptor cannot be duplicated, the backend rejects the invalid one.
    put(Attach{token, region, Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 0)), size});
}

void ThreadBackend::put(Order order) {
    bool wake = false;
    {
        const std::lock_guard lock(orders_mutex_);
        orders_.push_back(std::move(order));
        wake = sleeping_;
    }
    // After the mutex is released: a polling thread would contend for it. If the job has already
    // been taken together with an earlier one, the next poll finds nothing.
    signal_.store(true);
    if (wake) {
        orders_changed_.notify_one();
    }
}

void ThreadBackend::poll(std::vector<Completion>& ended) {
    if (signalled_.load() && signalled_.exchange(false)) {
        eventfd_t wakes = 0;
        ::eventfd_read(wakes_.get(), &wakes);
    }
    if (!completed_.load()) {
        return;
    }
    const std::lock_guard lock(completions_mutex_);
    completed_.store(false);
    ended.insert(ended.end(), std::make_move_iterator(completions_.begin()),
                 std::make_move_iterator(completions_.end()));
    completions_.clear();
}

bool ThreadBackend::take_orders(std::vector<Order>& into) {
    const std::lock_guard lock(orders_mutex_);
    signal_.store(stop_);
    into.swap(orders_);
    return !into.empty();
}

void ThreadBackend::hand_over(const Order& order) {
    if (const auto* const job = std::get_if<Job>(&order)) {
        inner_->submit(*job);
    } else if (const auto* const attach = std::get_if<Attach>(&order)) {
        inner_->attach_region(attach->token, attach->region, attach->fd.get(), attach->size);
    } else if (const auto* const detach = std::get_if<Detach>(&order)) {
        inner_->detach_region(detach->token, detach->region);
    }
}

void ThreadBackend::publish(std::vector<Completion>& ended) {
    const bool device_changed = count_jobs(ended) != ended.size();
    {
        const std::lock_guard lock(completions_mutex_);
        completions_.insert(completions_.end(), std::make_move_iterator(ended.begin()),
                            std::make_move_iterator(ended.end()));
    }
    completed_.store(true);  // after the mutex is released, as in put()
    ended.clear();
    // Either this sees that the caller sleeps, or the caller, which checks completed_ after setting
    // the flag, sees the completion: both accesses are sequentially consistent.
    if (waiting_.exchange(false) || device_changed) {
        ::eventfd_write(wakes_.get(), 1);
        // After the write: a poll() that sees the flag empties the descriptor. One that does not
        // leaves it readable, and the next wait returns at once.
        signalled_.store(true);
    }
}

void ThreadBackend::thread_main() {
    using Clock = std::chrono::steady_clock;
    inner_->attach_thread();
    std::vector<Order> orders;
    std::vector<Completion> ended;
    std::size_t in_flight = 0;
    auto last_activity = Clock::now();
    auto nap = kShortestNap;
    for (;;) {
        bool active = false;
        if (signal_.load() && take_orders(orders)) {
            active = true;
            for (const Order& order : orders) {
                hand_over(order);
            }
            in_flight += orders.size();
            orders.clear();
        }
        if (in_flight > 0 || inner_->recovering()) {
            inner_->poll(ended);
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
        if (!signal_.load() && Clock::now() - last_activity < spin_) {
            relax_processor();
            continue;
        }
        std::unique_lock lock(orders_mutex_);
        if (stop_) {
            break;
        }
        if (!orders_.empty()) {
            continue;
        }
        sleeping_ = true;
        const auto has_news = [this] { return stop_ || !orders_.empty(); };
        if (in_flight > 0) {
            orders_changed_.wait_for(lock, nap, has_news);
            nap = std::min(nap * 5 / 4, kLongestNap);
        } else if (inner_->recovering()) {
            orders_changed_.wait_for(lock, kRecoveryNap, has_news);
        } else {
            orders_changed_.wait(lock, has_news);
        }
        sleeping_ = false;
    }
    inner_->detach_thread();
}

}  // namespace vgpu
