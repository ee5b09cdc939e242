// SPDX-License-Identifier: MIT
//
// EventLog: writes the event stream as log lines. A line names the connection, VM and request that
// it concerns; in the journal they are also fields of the entry, VGPU_VM=7 and so on, with the
// names and values of the admin API's events. A token bucket per VM limits the lines that a VM can
// cause. Suppressed lines are counted and reported in one line, so a guest can neither fill a disk
// nor hide the attempt. Whatever the texts of an event contain, its line is one line of printable
// ASCII: every other byte is escaped as \xNN.
#pragma once

#include <spdlog/logger.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "mediator/events/events.h"
#include "mediator/events/log_output.h"
#include "sched/clock.h"
#include "sched/token_bucket.h"

namespace vgpu {

struct LogLimits {
    double lines_per_second = 10.0;
    unsigned burst = 50;
};

class EventLog final : public EventSink {
  public:
    // Borrows the clock. `journal` is the logger's sink, if that accepts fields.
    EventLog(std::shared_ptr<spdlog::logger> logger, LogLimits limits, const Clock& clock,
             std::shared_ptr<JournalSink> journal = nullptr)
        : logger_(std::move(logger)),
          journal_(std::move(journal)),
          limits_(limits),
          clock_(clock) {}
    // Reports suppressed lines that have not been reported.
    ~EventLog() override;

    // Returns the number of lines suppressed so far.
    [[nodiscard]] std::uint64_t suppressed() const { return suppressed_; }

    void on_event(const Event& event) override { dispatch(*this, event); }
    void on(const SessionOpened& event);
    void on(const SessionIdentified& event);
    void on(const SessionClosed& event);
    void on(const RequestAccepted& event);
    void on(const RequestStarted& event);
    void on(const RequestFinished& event);
    void on(const RequestRefused& event);
    void on(const RequestDropped& event);
    void on(const RequestOverran& event);
    void on(const RequestRun& event);
    void on(const QueueStopped& event);
    void on(const MemoryAttached& event);
    void on(const MemoryRefused& event);
    void on(const VmQuarantined& event);
    void on(const VmReleased& event);
    void on(const Notice& event);
    void on(const GpuState& event);

  private:
    struct Budget {
        TokenBucket bucket;
        std::uint64_t suppressed = 0;
    };

    // Writes a line, charged to the budget of this VM (none: connections that are not identified).
    // `text` returns the line, `fields` the entry's LogFields; called only if they are used.
    template <typename Text, typename Fields>
    void line(spdlog::level::level_enum level, std::optional<std::uint32_t> vm_id, Text text,
              Fields fields);
    template <typename Fields>
    void write(spdlog::level::level_enum level, const std::string& text, Fields fields);
    // Returns whether this VM may write another line; counts the line as suppressed if not.
    bool within_budget(std::optional<std::uint32_t> vm_id);
    void report_suppressed(std::uint64_t key, Budget& budget);
    // Drops the budgets whose bucket is full.
    void forget_unused(std::chrono::nanoseconds now);

    std::shared_ptr<spdlog::logger> logger_;
    std::shared_ptr<JournalSink> journal_;
    LogLimits limits_;
    const Clock& clock_;
    std::unordered_map<std::uint64_t, Budget> budgets_;
    std::chrono::nanoseconds tidy_at_{0};
    std::uint64_t suppressed_ = 0;
};

}  // namespace vgpu
