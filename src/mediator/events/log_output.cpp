// SPDX-License-Identifier: MIT
#include "mediator/events/log_output.h"

#include <poll.h>
#include <syslog.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

namespace vgpu {
namespace {

// Time limit at exit for the reader of standard error to read pending lines.
constexpr std::chrono::milliseconds kFarewell{200};

using spdlog::level::level_enum;

int priority_of(level_enum level) {
    switch (level) {
        case level_enum::critical:
            return LOG_CRIT;
        case level_enum::err:
            return LOG_ERR;
        case level_enum::warn:
            return LOG_WARNING;
        case level_enum::info:
            return LOG_INFO;
        default:
            return LOG_DEBUG;
    }
}

}  // namespace

void JournalSink::write(level_enum level, std::string_view message, const LogFields& fields) {
    journal_.write(priority_of(level), message, fields);
}

void StandardErrorSink::sink_it_(const spdlog::details::log_msg& message) {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    queue_->push({std::string(line.data(), line.size())});
}

std::shared_ptr<LogQueue> make_text_queue(int descriptor, LogQueue::Limits limits) {
    const auto write_all = [descriptor](LogQueue::Item& text) {
        std::string_view rest = text.front();
        while (!rest.empty()) {
            const ssize_t count = ::write(descriptor, rest.data(), rest.size());
            if (count < 0 && errno == EAGAIN) {
                // Another process made it non-blocking: wait as a blocking write does.
                pollfd writable{.fd = descriptor, .events = POLLOUT, .revents = 0};
                ::poll(&writable, 1, -1);
            } else if (count < 0 && errno != EINTR) {
                return;  // there is no other place for the lines
            } else if (count > 0) {
                rest.remove_prefix(static_cast<std::size_t>(count));
            }
        }
    };
    const auto missing = [](std::uint64_t count) {
        return LogQueue::Item{"vgpu-mediator: " + std::to_string(count) +
                              " lines are missing here: the reader of the log was too slow\n"};
    };
    return std::make_shared<LogQueue>(LogQueue::Output{.write = write_all, .missing = missing},
                                      limits);
}

void JournalSink::log(const spdlog::details::log_msg& message) {
    write(message.level, {message.payload.data(), message.payload.size()}, {});
}

LogOutput open_log(const Config& config, const char* journal_stream) {
    const bool wanted =
        config.log_target == LogTarget::kJournal ||
        (config.log_target == LogTarget::kAuto && is_journal_stream(STDERR_FILENO, journal_stream));
    const bool answers = wanted && journal_answers();
    LogOutput output;
    output.standard_error = make_text_queue(STDERR_FILENO, {.farewell = kFarewell});
    if (answers) {
        output.journal = std::make_shared<JournalSink>();
        output.logger = std::make_shared<spdlog::logger>("mediator", output.journal);
    } else {
        output.logger = std::make_shared<spdlog::logger>(
            "mediator", std::make_shared<StandardErrorSink>(output.standard_error));
        output.logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %l: %v");
    }
    if (config.log_target == LogTarget::kJournal && !answers) {
        output.logger->warn(
            "no journal is listening at {}, logging to standard error: start systemd-journald, or "
            "set target = \"stderr\" under [log]",
            kJournalSocket);
    }
    output.logger->set_level(spdlog::level::from_str(config.log_level));
    return output;
}

}  // namespace vgpu
