// SPDX-License-Identifier: MIT
//
// ThreadExecutor: drives a backend, whose calls may take long, on a thread of its own.
//
//   control loop                                executor's thread
//   submit(job)         ---- jobs ---->         backend.submit()
//   take_completions()  <-- completions --      backend.poll()
//
// A hop between two threads costs 5 to 10 µs when the other one sleeps and 0.2 µs when it looks. So
// the thread looks without pause while there is traffic and for `spin` after the last of it; then
// it sleeps. A job that runs longer than `spin` is looked at ever more rarely, at most 1 ms apart:
// no core is kept busy by waiting. The control loop says with set_control_waiting() when it is
// about to sleep, and only then is it woken.
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
    // Does nothing: what runs on a thread of this process cannot be ended from outside.
    void stop(std::uint64_t /*token*/) override {}
    void take_completions(std::vector<Completion>& ended) override;
    [[nodiscard]] bool has_completions() override { return completed_.load(); }
    void set_control_waiting(bool waiting) override { control_waiting_.store(waiting); }

  private:
    // What the thread is to hand to the backend.
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
    // Moves what was newly submitted into `into`. True if there was anything.
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
    std::atomic<bool> signal_;   // orders_ or stop_ changed; read without the mutex while looking

    std::mutex completions_mutex_;
    std::vector<Completion> completions_;  // under completions_mutex_
    std::atomic<bool> completed_ = false;  // completions_ is not empty
    std::atomic<bool> control_waiting_ = false;

    std::thread thread_;
};

}  // namespace vgpu
