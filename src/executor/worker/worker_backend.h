// SPDX-License-Identifier: MIT
//
// WorkerBackend: a device driven by another process. When that process ends, for any reason, its
// jobs fail with VGPU_ERR_CUDA, its buffers are lost, and a new process is started: immediately,
// then with back-off (0.1 s doubled up to 10 s) while that fails. Only a new process can recover
// from a fault in a GPU context: the driver gives the process that had the fault no other context.
//
//   starting ── greeting ──▶ working ── reports that its device failed ──▶ failing
//       ▲  │                    │                                             │
//       │  └─ none or an error ─┤ it ended                     it ended, or ───┤
//       │                       ▼                              timed out      ▼
//       └───────── pausing ◀── ending: killed, not yet reaped ◀───────────────┘
//
// Also keeps the descriptors of shared memory regions, and passes them to each new process before
// any job. The GPU writes to regions on its own, so after a device failure a job that names one
// completes only once the process has been reaped: then none of its work is in flight.
//
// A BufferId contains the number of the process that allocated it, so ids of an earlier process are
// invalid in the next.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "executor/backend.h"
#include "executor/region.h"
#include "executor/worker/worker_process.h"

namespace vgpu::worker {

class WorkerBackend final : public Backend {
  public:
    struct Options {
        Command command;
        // Time-out for a worker's greeting: a driver that has to initialize eight GPUs is slow.
        std::chrono::milliseconds greeting_limit{60000};
    };

    // Starts the process and waits for its greeting. The error is the error text in the greeting,
    // or states what the process did instead.
    static Result<std::unique_ptr<WorkerBackend>> create(Options options);
    // Ends the process.
    ~WorkerBackend() override = default;

    [[nodiscard]] const DeviceInfo& info() const override { return info_; }
    [[nodiscard]] bool immediate(const Job& job) const override {
        return job.opcode == VGPU_OP_NOP;
    }
    Outcome run(const Job& job) override;
    void attach_thread() override {}
    void submit(const Job& job) override;
    void attach_region(std::uint64_t token, RegionId region, int fd, std::uint64_t size) override;
    void detach_region(std::uint64_t token, RegionId region) override;
    [[nodiscard]] bool writes_timeline() const override { return writes_timeline_; }
    [[nodiscard]] std::uint64_t bytes_copied_by_processor() const override {
        return bytes_copied_.load(std::memory_order_relaxed);
    }
    void poll(std::vector<Completion>& ended) override;
    // Kills the process, which also ends its other jobs.
    void stop(std::uint64_t token) override;
    [[nodiscard]] bool recovering() const override { return state_ != State::kWorking; }
    [[nodiscard]] int wake_descriptor() const override { return wakes_.get(); }
    void set_waiting(bool waiting) override;
    // Ends the process, which does not outlive the thread that started it.
    void detach_thread() override;

    // PID of the current process; -1 if there is none.
    [[nodiscard]] pid_t pid() const { return process_ ? process_->pid() : -1; }

  private:
    using Clock = std::chrono::steady_clock;
    enum class State : std::uint8_t { kStarting, kWorking, kFailing, kEnding, kPausing };
    enum class Kind : std::uint8_t {
        kJob,
        kAttach,
        kReattach,  // of a region that the previous process had; only failure is reported
        kDetach,
    };
    // An order that the worker has, or gets once the ring has space. The token that the worker sees
    // consists of the index in the table and a sequence number.
    struct InFlight {
        bool busy = false;
        Kind kind = Kind::kJob;
        std::uint32_t number = 0;
        std::uint64_t token = 0;
        RegionId region = 0;
        bool wants_timeline = false;
        std::uint64_t chain = 0;
        std::uint32_t timeline_run = 0;
        Clock::time_point began{};
    };
    struct Waiting {
        Kind kind = Kind::kJob;
        Job job{};  // unless kJob, only token and region are set
    };
    struct Region {
        Fd fd;
        std::uint64_t size = 0;
        std::uint64_t token = 0;  // of the order that attached it
    };

    WorkerBackend(Options options, Fd wakes)
        : options_(std::move(options)), wakes_(std::move(wakes)) {}
    Result<void> start();
    Result<void> wait_for_greeting();

    // Sends immediately, or after the orders that already wait.
    void send(Kind kind, Job job);
    // Returns false if there is no space.
    [[nodiscard]] bool try_send(Kind kind, const Job& job);
    void send_waiting();
    // Adds a job, as submitted, to the table. Returns the worker's token for it.
    [[nodiscard]] std::uint64_t enter(Kind kind, const Job& job);
    // Sends an order that is not a job.
    void send_order(Kind kind, std::uint64_t token, RegionId region);
    void read_completions();
    // Records that an order ended without its timeline value: see Job::timeline_run. A worker
    // tracks that too, but only for its own lifetime.
    void close_run(const InFlight& one);
    // Completes an order after a device failure.
    void answer_failed(const InFlight& one, Outcome failure);
    void count_copied();
    // Returns false if the completion is invalid for this worker.
    [[nodiscard]] bool take(Completion completion);
    void poll_socket();
    void advance(Clock::time_point now);
    // Called when the worker has reported why its device failed.
    void begin_failing(const Outcome& failure);
    // Gives up a worker that is unusable; kills it if it still runs.
    void give_up(const std::string& why);
    void pause();
    void answer_without_device(const Job& job);

    Options options_;
    Fd wakes_;  // epoll instance that contains the socket of the current process
    DeviceInfo info_;
    std::unique_ptr<WorkerProcess> process_;
    std::optional<RingWriter<JobRecord, kRingSlots>> jobs_;
    std::optional<RingReader<CompletionRecord, kRingSlots>> completions_;
    State state_ = State::kStarting;
    std::uint64_t generation_ = 0;  // number of processes started
    std::string why_;               // why the process was given up
    std::string answer_;            // error text for jobs while there is no device
    bool reported_ = false;         // the failure was reported since the device last worked
    bool wake_sent_ = false;        // the worker has sent, or is about to send, a wake-up
    Clock::time_point deadline_;    // time-out of kStarting and kFailing; end of kPausing
    Clock::time_point next_poll_;   // next poll of the socket
    std::chrono::milliseconds pause_{0};

    std::vector<InFlight> in_flight_;
    std::vector<std::uint32_t> free_;  // free indices of in_flight_
    std::uint32_t next_number_ = 0;
    std::deque<Waiting> waiting_;  // for space in the ring
    std::vector<Completion> ended_;
    std::vector<Completion> after_reap_;  // delivered once the process has been reaped

    std::map<RegionId, Region> regions_;
    TimelineRuns runs_;
    bool writes_timeline_ = false;
    std::uint64_t copied_before_ = 0;  // by earlier processes
    std::atomic<std::uint64_t> bytes_copied_ = 0;
};

}  // namespace vgpu::worker
