// SPDX-License-Identifier: MIT
//
// ThreadExecutor: drives a backend whose calls may take long on a dedicated thread.
//
//   control loop                                executor's thread
//   submit(job)         ---- jobs ---->         backend.submit()
//   take_completions()  <-- completions --      backend.poll()
//
// A hop between two threads costs 5 to 10 µs if the other one sleeps and 0.2 µs if it polls. So the
// thread polls without pause while there is traffic and for `spin` after the last activity; then it
// sleeps. A job that runs longer than `spin` is polled with back-off, at most 1 ms apart, so that
// waiting keeps no core busy. The control loop is woken only if it has announced with
// set_control_waiting() that it is about to sleep.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <variant>
#include <vector>

#include "base/fd.h"
#include "executor/executor.h"

namespace vgpu {

class ThreadExecutor final : public Executor {
  public:
    // Starts the thread; `wake_control` is called on it (see make_executor()).
    ThreadExecutor(std::unique_ptr<Backend> backend, Options options,
                   std::function<void()> wake_control);
    // Stops the thread.
    ~ThreadExecutor() override;

    void submit(const Job& job) override;
    void attach_region(std::uint64_t token, RegionId region, int fd, std::uint64_t size) override;
    void detach_region(std::uint64_t token, RegionId region) override;
    // No effect: work on a thread of this process cannot be ended from outside.
    void stop(std::uint64_t /*token*/) override {}
    void take_completions(std::vector<Completion>& ended) override;
    [[nodiscard]] bool has_completions() override { return completed_.load(); }
    void set_control_waiting(bool waiting) override { control_waiting_.store(waiting); }

  private:
    // Orders for the backend.
    struct Attach {
        std::uint64_t token;
        RegionId region;
        Fd fd;
        std::uint64_t size;
    };
    struct Detach {
        std::uint64_t token;
        RegionId region;
    };
    using Order = std::variant<Job, Attach, Detach>;

    void thread_main();
    void put(Order order);
    // Moves the new orders into `into`. Returns true if there were any.
    bool take_orders(std::vector<Order>& into);
    void hand_over(const Order& order);
    void publish(std::vector<Completion>& ended);

    Options options_;
    std::function<void()> wake_control_;

    std::mutex orders_mutex_;
    std::condition_variable orders_changed_;
    std::vector<Order> orders_;  // under orders_mutex_
    bool sleeping_ = false;      // under orders_mutex_
    bool stop_ = false;          // under orders_mutex_
    std::atomic<bool> signal_;   // orders_ or stop_ changed; polled without the mutex

    std::mutex completions_mutex_;
    std::vector<Completion> completions_;  // under completions_mutex_
    std::atomic<bool> completed_ = false;  // completions_ is not empty
    std::atomic<bool> control_waiting_ = false;

    std::thread thread_;
};

}  // namespace vgpu
