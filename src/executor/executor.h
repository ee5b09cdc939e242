// SPDX-License-Identifier: MIT
//
// Executor: owns one backend and the thread that drives it. The control loop hands it jobs and
// takes completions; neither side ever waits for the other.
//
//   control loop                                executor's thread
//   submit(job)         ---- jobs ---->         backend.submit()
//   take_completions()  <-- completions --      backend.poll()
//
// A hop between two threads costs 5 to 10 µs when the other one sleeps and 0.2 µs when it looks. So
// the thread looks without pause while there is traffic and for `spin` after the last of it; then
// it sleeps, in a wait on its own eventfd and the backend's wake_descriptor(). Where a backend has
// none, a job that runs longer than `spin` is looked at ever more rarely, at most 1 ms apart: no
// core is kept busy by waiting. The control loop says with set_control_waiting() when it is about
// to sleep, and only then is it woken.
//
// Operations that the backend declares immediate can be done on the control loop by run().
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "executor/backend.h"

namespace vgpu {

class Executor {
  public:
    struct Options {
        std::chrono::microseconds spin{100};
    };

    // Starts the thread; throws std::system_error if it cannot. `wake_control` is called on that
    // thread and has to make the control loop look for completions; it must not block.
    Executor(std::unique_ptr<Backend> backend, Options options, std::function<void()> wake_control);
    Executor(const Executor&) = delete;
    Executor& operator=(const Executor&) = delete;
    // Stops the thread. Jobs that have not ended are given up without a completion.
    ~Executor();

    [[nodiscard]] const DeviceInfo& info() const { return backend_->info(); }

    // The rest: control loop only.

    [[nodiscard]] bool immediate(std::uint32_t opcode) const { return backend_->immediate(opcode); }
    // Precondition: immediate(job.opcode).
    Outcome run(const Job& job) { return backend_->run(job); }

    void submit(const Job& job);
    // Asks the backend to end the job that was submitted last with this token (Backend::stop).
    void stop(std::uint64_t token);
    // Appends what has ended. Costs one atomic load if nothing has.
    void take_completions(std::vector<Completion>& ended);
    [[nodiscard]] bool has_completions() const { return completed_.load(); }

    // true: from now on a completion wakes the control loop. Check has_completions() after, and
    // only then sleep. false: it looks by itself.
    void set_control_waiting(bool waiting) { control_waiting_.store(waiting); }

  private:
    // What the control loop wants: jobs, and among them the ends of earlier ones.
    struct Orders {
        struct Stop {
            std::size_t before;  // as many of the jobs come first
            std::uint64_t token;
        };
        std::vector<Job> jobs;
        std::vector<Stop> stops;
        [[nodiscard]] bool empty() const { return jobs.empty() && stops.empty(); }
    };

    void thread_main();
    // Swaps new orders into `into`, which is empty. True if there were any.
    bool take_orders(Orders& into);
    void carry_out(Orders& orders);
    // Puts an order in by `add`, and wakes the thread if it sleeps.
    template <typename Add>
    void order(Add add);
    // Waits until there are jobs, the backend has something to say, or `limit` is over.
    void sleep(int backend_descriptor, std::optional<std::chrono::nanoseconds> limit);
    void wake_thread() const;
    void publish(std::vector<Completion>& ended);

    std::unique_ptr<Backend> backend_;
    Options options_;
    std::function<void()> wake_control_;

    std::mutex orders_mutex_;
    Fd wake_;                   // an eventfd: the thread waits on it when it sleeps
    Orders orders_;             // under orders_mutex_
    bool sleeping_ = false;     // under orders_mutex_
    bool stop_ = false;         // under orders_mutex_
    std::atomic<bool> signal_;  // orders_ or stop_ changed; read without the mutex while looking

    std::mutex completions_mutex_;
    std::vector<Completion> completions_;  // under completions_mutex_
    std::atomic<bool> completed_ = false;  // completions_ is not empty
    std::atomic<bool> control_waiting_ = false;

    std::thread thread_;
};

}  // namespace vgpu
