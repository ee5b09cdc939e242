// SPDX-License-Identifier: MIT
#include "executor/executor.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <iterator>
#include <system_error>
#include <utility>

#include "executor/relax.h"

namespace vgpu {
namespace {

constexpr std::chrono::microseconds kShortestNap{20};
constexpr std::chrono::microseconds kLongestNap{1000};
constexpr std::chrono::microseconds kRecoveryNap{50000};

Fd make_wake() {
    Fd made(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!made) {
        throw std::system_error(errno, std::generic_category(), "cannot make an eventfd");
    }
    return made;
}

}  // namespace

Executor::Executor(std::unique_ptr<Backend> backend, Options options,
                   std::function<void()> wake_control)
    : backend_(std::move(backend)),
      options_(options),
      wake_control_(std::move(wake_control)),
      wake_(make_wake()),
      signal_(false),
      thread_([this] { thread_main(); }) {}

Executor::~Executor() {
    {
        const std::lock_guard lock(orders_mutex_);
        stop_ = true;
        signal_.store(true);
    }
    wake_thread();
    thread_.join();
}

template <typename Add>
void Executor::order(Add add) {
    bool wake = false;
    {
        const std::lock_guard lock(orders_mutex_);
        add();
        wake = sleeping_;
    }
    // After the mutex is free: whoever looks at this without pause would run into it. If the order
    // has been taken by now, for an earlier one's sake, the next look finds nothing.
    signal_.store(true);
    if (wake) {
        wake_thread();
    }
}

void Executor::submit(const Job& job) {
    order([&] { orders_.jobs.push_back(job); });
}

void Executor::stop(std::uint64_t token) {
    order([&] { orders_.stops.push_back({.before = orders_.jobs.size(), .token = token}); });
}

void Executor::take_completions(std::vector<Completion>& ended) {
    if (!completed_.load()) {
        return;
    }
    const std::lock_guard lock(completions_mutex_);
    completed_.store(false);
    ended.insert(ended.end(), std::make_move_iterator(completions_.begin()),
                 std::make_move_iterator(completions_.end()));
    completions_.clear();
}

bool Executor::take_orders(Orders& into) {
    const std::lock_guard lock(orders_mutex_);
    signal_.store(stop_);
    std::swap(into, orders_);
    return !into.empty();
}

void Executor::carry_out(Orders& orders) {
    auto stop = orders.stops.begin();
    for (std::size_t i = 0; i <= orders.jobs.size(); ++i) {
        for (; stop != orders.stops.end() && stop->before == i; ++stop) {
            backend_->stop(stop->token);
        }
        if (i < orders.jobs.size()) {
            backend_->submit(orders.jobs[i]);
        }
    }
    orders.jobs.clear();
    orders.stops.clear();
}

void Executor::publish(std::vector<Completion>& ended) {
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

void Executor::wake_thread() const {
    static_cast<void>(::eventfd_write(wake_.get(), 1));
}

void Executor::sleep(int backend_descriptor, std::optional<std::chrono::nanoseconds> limit) {
    {
        const std::lock_guard lock(orders_mutex_);
        if (stop_ || !orders_.empty()) {
            return;
        }
        sleeping_ = true;
    }
    // A negative descriptor is one that ppoll() passes over.
    std::array<pollfd, 2> watched{{{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                                   {.fd = backend_descriptor, .events = POLLIN, .revents = 0}}};
    const timespec time{.tv_sec = 0,
                        .tv_nsec = limit.value_or(std::chrono::nanoseconds(0)).count()};
    ::ppoll(watched.data(), watched.size(), limit ? &time : nullptr, nullptr);
    {
        const std::lock_guard lock(orders_mutex_);
        sleeping_ = false;
    }
    eventfd_t wakes = 0;
    static_cast<void>(::eventfd_read(wake_.get(), &wakes));
}

void Executor::thread_main() {
    using Clock = std::chrono::steady_clock;
    backend_->attach_thread();
    Orders orders;
    std::vector<Completion> ended;
    std::size_t in_flight = 0;
    auto last_activity = Clock::now();
    auto nap = kShortestNap;
    int descriptor = -1;  // of the backend, once it has been told that this thread is to sleep
    for (;;) {
        bool active = false;
        if (signal_.load() && take_orders(orders)) {
            active = true;
            in_flight += orders.jobs.size();
            carry_out(orders);
        }
        if (in_flight > 0 || descriptor >= 0 || backend_->recovering()) {
            backend_->poll(ended);
            if (!ended.empty()) {
                active = true;
                in_flight -= static_cast<std::size_t>(std::count_if(
                    ended.begin(), ended.end(),
                    [](const Completion& one) { return one.change == DeviceChange::kNone; }));
                publish(ended);
            }
        }
        if (active) {
            last_activity = Clock::now();
            nap = kShortestNap;
            descriptor = -1;
            continue;
        }
        if (signal_.load()) {
            const std::lock_guard lock(orders_mutex_);
            if (stop_) {
                break;
            }
        }
        if (descriptor < 0) {
            if (Clock::now() - last_activity < options_.spin) {
                relax_processor();
                continue;
            }
            descriptor = backend_->wake_descriptor();
            if (descriptor >= 0) {
                continue;  // with one more look
            }
        }
        std::optional<std::chrono::nanoseconds> limit;
        if (backend_->recovering()) {
            limit = kRecoveryNap;
        } else if (in_flight > 0 && descriptor < 0) {
            limit = nap;
            nap = std::min(nap * 5 / 4, kLongestNap);
        }
        sleep(descriptor, limit);
        if (descriptor >= 0) {
            // It may be another one by the next sleep.
            descriptor = backend_->wake_descriptor();
        }
    }
    backend_->detach_thread();
}

}  // namespace vgpu
