// SPDX-License-Identifier: MIT
//
// WorkerBackend: a device that another process drives. When that process ends, however it ends, its
// jobs are answered with VGPU_ERR_CUDA, its buffers are gone, and another is started in its place:
// at once, and after longer and longer pauses (0.1 s doubled up to 10 s) while that fails. A
// process of its own is the only cure for a GPU's context that has seen a fault: the driver gives
// the process that had it no other.
//
//   starting ── greeting ──▶ working ── it says that its device failed ──▶ failing
//       ▲  │                    │                                             │
//       │  └─ none, or why not ─┤ it ended                     it ended, or ───┤
//       │                       ▼                              took too long  ▼
//       └───────── pausing ◀── ending: killed and not yet waited for ◀────────┘
//
// Regions of shared memory are kept here too, as descriptors, and given to each new process before
// any job. The GPU writes to a region by itself, so a job that names one is not answered because
// its device failed before the process has been waited for: then nothing of it is under way.
//
// A BufferId bears the number of the process that gave it, so that one process's means nothing to
// the next.
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
        // How long a worker may take to greet: a driver that has to wake eight GPUs is slow.
        std::chrono::milliseconds greeting_limit{60000};
    };

    // Starts the process and waits for its greeting. The error is the sentence that it greeted
    // with, or says what it did instead.
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
    // Ends the process, and with it what else it had to do.
    void stop(std::uint64_t token) override;
    [[nodiscard]] bool recovering() const override { return state_ != State::kWorking; }
    [[nodiscard]] int wake_descriptor() const override { return wakes_.get(); }
    void set_waiting(bool waiting) override;
    // Ends the process: it does not outlive the thread that started it.
    void detach_thread() override;

    // The process at work; -1 between two.
    [[nodiscard]] pid_t pid() const { return process_ ? process_->pid() : -1; }

  private:
    using Clock = std::chrono::steady_clock;
    enum class State : std::uint8_t { kStarting, kWorking, kFailing, kEnding, kPausing };
    enum class Kind : std::uint8_t {
        kJob,
        kAttach,
        kReattach,  // of a region that the last process had; only its failure is told
        kDetach,
    };
    // What the worker has to do, or will have when there is room in the ring. Its place in the
    // table and a number that is never used twice make the token under which the worker knows it.
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
        Job job{};  // not of kind kJob: token and region alone
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

    // At once, or when what waits already has been sent.
    void send(Kind kind, Job job);
    // False: there is no room.
    [[nodiscard]] bool try_send(Kind kind, const Job& job);
    void send_waiting();
    // `job` as the submitter gave it. The worker's token for it.
    [[nodiscard]] std::uint64_t enter(Kind kind, const Job& job);
    // For one that is no job.
    void send_order(Kind kind, std::uint64_t token, RegionId region);
    void read_completions();
    // It ended without its timeline value: see Job::timeline_run. A worker knows that too, for as
    // long as it lives.
    void close_run(const InFlight& one);
    // What has become of it because the device failed.
    void answer_failed(const InFlight& one, Outcome failure);
    void count_copied();
    // False if no such worker's completion can be.
    [[nodiscard]] bool take(Completion completion);
    void look_at_socket();
    void advance(Clock::time_point now);
    // The worker said why its device failed.
    void begin_failing(const Outcome& failure);
    // The worker is of no use any more; it is killed if it still runs.
    void give_up(const std::string& why);
    void pause();
    void answer_without_device(const Job& job);

    Options options_;
    Fd wakes_;  // an epoll instance that holds the socket of the process there is
    DeviceInfo info_;
    std::unique_ptr<WorkerProcess> process_;
    std::optional<RingWriter<JobRecord, kRingSlots>> jobs_;
    std::optional<RingReader<CompletionRecord, kRingSlots>> completions_;
    State state_ = State::kStarting;
    std::uint64_t generation_ = 0;  // counts the processes
    std::string why_;               // the process was given up
    std::string answer_;            // to jobs, while there is no device
    bool reported_ = false;         // that it failed, since it last worked
    bool wake_sent_ = false;        // the worker was told to wake us, and has or will have
    Clock::time_point deadline_;    // of kStarting, kFailing; the end of kPausing
    Clock::time_point next_look_;   // at the socket
    std::chrono::milliseconds pause_{0};

    std::vector<InFlight> in_flight_;
    std::vector<std::uint32_t> free_;  // places in in_flight_
    std::uint32_t next_number_ = 0;
    std::deque<Waiting> waiting_;  // for room in the ring
    std::vector<Completion> ended_;
    std::vector<Completion> after_reap_;  // given once the process has been waited for

    std::map<RegionId, Region> regions_;
    TimelineRuns runs_;
    bool writes_timeline_ = false;
    std::uint64_t copied_before_ = 0;  // by the processes that are gone
    std::atomic<std::uint64_t> bytes_copied_ = 0;
};

}  // namespace vgpu::worker
