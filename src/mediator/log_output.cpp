// SPDX-License-Identifier: MIT
#include "mediator/log_output.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <syslog.h>
#include <unistd.h>

#include <utility>

namespace vgpu {
namespace {

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

void JournalSink::log(const spdlog::details::log_msg& message) {
    write(message.level, {message.payload.data(), message.payload.size()}, {});
}

LogOutput open_log(const Config& config, const char* journal_stream) {
    const bool wanted =
        config.log_target == LogTarget::kJournal ||
        (config.log_target == LogTarget::kAuto && is_journal_stream(STDERR_FILENO, journal_stream));
    const bool answers = wanted && journal_answers();
    LogOutput output;
    if (answers) {
        output.journal = std::make_shared<JournalSink>();
        output.logger = std::make_shared<spdlog::logger>("mediator", output.journal);
    } else {
        output.logger = std::make_shared<spdlog::logger>(
            "mediator", std::make_shared<spdlog::sinks::stderr_sink_st>());
        output.logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %l: %v");
        output.logger->flush_on(spdlog::level::trace);
    }
    if (config.log_target == LogTarget::kJournal && !answers) {
        output.logger->warn(
            "no journal answers at {}, so the log goes to standard error: start systemd-journald, "
            "or set the log's target to \"stderr\"",
            kJournalSocket);
    }
    output.logger->set_level(spdlog::level::from_str(config.log_level));
    return output;
}

}  // namespace vgpu
