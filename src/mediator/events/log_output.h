// SPDX-License-Identifier: MIT
//
// Log targets: standard error or the journal. Writers never block on either.
#pragma once

#include <spdlog/details/null_mutex.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/sink.h>

#include <memory>
#include <string_view>

#include "mediator/config/config.h"
#include "mediator/events/journal.h"
#include "mediator/events/log_queue.h"

namespace vgpu {

// The journal as a logger's sink. A logger passes text only; callers with fields use write().
class JournalSink final : public spdlog::sinks::sink {
  public:
    // The default constructor uses the system's journal.
    JournalSink() = default;
    JournalSink(Journal::Send send, Journal::Limits limits) : journal_(std::move(send), limits) {}

    // Any thread; never blocks on the journal. See Journal::write().
    void write(spdlog::level::level_enum level, std::string_view message, const LogFields& fields);

    void log(const spdlog::details::log_msg& message) override;
    void flush() override {}
    // The journal has its own format: patterns are ignored.
    void set_pattern(const std::string& /*pattern*/) override {}
    void set_formatter(std::unique_ptr<spdlog::formatter> /*formatter*/) override {}

  private:
    Journal journal_;
};

// Standard error as a logger's sink, through a LogQueue.
class StandardErrorSink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
  public:
    // `queue` takes items of one part.
    explicit StandardErrorSink(std::shared_ptr<LogQueue> queue) : queue_(std::move(queue)) {}

  protected:
    void sink_it_(const spdlog::details::log_msg& message) override;
    void flush_() override {}

  private:
    std::shared_ptr<LogQueue> queue_;
};

// Creates a queue of texts for a descriptor, which is borrowed. Pushing never waits for its reader.
std::shared_ptr<LogQueue> make_text_queue(int descriptor, LogQueue::Limits limits);

struct LogOutput {
    std::shared_ptr<spdlog::logger> logger;    // control loop only
    std::shared_ptr<JournalSink> journal;      // the logger's sink; none for standard error
    std::shared_ptr<LogQueue> standard_error;  // takes items of one part, newline included
};

// Opens the log target that the configuration selects. If that is the journal and none answers, the
// log goes to standard error, and its first line gives the reason. `journal_stream` is the value of
// the environment variable JOURNAL_STREAM, nullptr if it is not set.
LogOutput open_log(const Config& config, const char* journal_stream);

}  // namespace vgpu
