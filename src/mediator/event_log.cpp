// SPDX-License-Identifier: MIT
#include "mediator/event_log.h"

#include <fmt/format.h>

#include <chrono>

namespace vgpu {
namespace {

using spdlog::level::level_enum;

// Key of the budget that connections share which have not said which VM they are, and of the one
// that VMs share which came after kMostBudgets others.
constexpr std::uint64_t kUnidentified = std::uint64_t{1} << 32U;
constexpr std::uint64_t kOverflow = kUnidentified + 1;
constexpr std::size_t kMostBudgets = 4096;

std::string name(std::uint64_t key) {
    if (key == kUnidentified) {
        return "connections without a VM id";
    }
    return key == kOverflow ? "further VMs" : fmt::format("vm={}", key);
}

std::string tag(const RequestInfo& request) {
    const bool printable = request.pool > 0x20 && request.pool < 0x7f;
    return fmt::format("conn={} vm={} req={} pool={} prio={} op={}", request.session, request.vm_id,
                       request.request_id,
                       printable ? std::string(1, static_cast<char>(request.pool))
                                 : fmt::format("0x{:02x}", request.pool),
                       request.priority, request.opcode);
}

std::int64_t microseconds(std::chrono::nanoseconds time) {
    return std::chrono::duration_cast<std::chrono::microseconds>(time).count();
}

}  // namespace

EventLog::~EventLog() {
    for (auto& [key, budget] : budgets_) {
        report_suppressed(key, budget);
    }
}

void EventLog::report_suppressed(std::uint64_t key, Budget& budget) {
    if (budget.suppressed > 0) {
        logger_->warn("{}: suppressed {} lines", name(key), budget.suppressed);
        budget.suppressed = 0;
    }
}

void EventLog::line(level_enum level, std::optional<std::uint32_t> vm_id, const std::string& text) {
    const auto now = clock_.now();
    std::uint64_t key = vm_id ? *vm_id : kUnidentified;
    auto found = budgets_.find(key);
    if (found == budgets_.end()) {
        if (budgets_.size() >= kMostBudgets) {
            key = kOverflow;
        }
        found =
            budgets_
                .try_emplace(
                    key, Budget{.bucket = TokenBucket(limits_.lines_per_second, limits_.burst, now),
                                .suppressed = 0})
                .first;
    }
    Budget& budget = found->second;
    if (!budget.bucket.take(now)) {
        ++budget.suppressed;
        ++suppressed_;
        return;
    }
    report_suppressed(key, budget);
    logger_->log(level, "{}", text);
}

void EventLog::session_opened(const SessionOpened& event) {
    if (logger_->should_log(level_enum::debug)) {
        line(level_enum::debug, std::nullopt,
             fmt::format("conn={} opened on {} by pid {} uid {}", event.session, event.socket,
                         event.pid, event.uid));
    }
}

void EventLog::session_identified(const SessionIdentified& event) {
    line(level_enum::info, event.vm_id,
         fmt::format("conn={} vm={} connected", event.session, event.vm_id));
}

void EventLog::session_closed(const SessionClosed& event) {
    const std::string vm = event.vm_id ? fmt::format(" vm={}", *event.vm_id) : std::string();
    line(is_fault(event.reason) ? level_enum::warn : level_enum::info, event.vm_id,
         fmt::format("conn={}{} closed: {}", event.session, vm, event.detail));
}

void EventLog::request_accepted(const RequestAccepted& event) {
    if (logger_->should_log(level_enum::debug)) {
        line(level_enum::debug, event.request.vm_id, tag(event.request) + " accepted");
    }
}

void EventLog::request_started(const RequestStarted& event) {
    if (logger_->should_log(level_enum::debug)) {
        line(level_enum::debug, event.request.vm_id,
             fmt::format("{} started after {} us", tag(event.request), microseconds(event.waited)));
    }
}

void EventLog::request_finished(const RequestFinished& event) {
    if (event.status != 0) {
        line(level_enum::warn, event.request.vm_id,
             fmt::format("{} failed with error {:#04x}: {}", tag(event.request), event.status,
                         event.sentence));
    } else if (logger_->should_log(level_enum::debug)) {
        line(level_enum::debug, event.request.vm_id,
             fmt::format("{} finished in {} us{}", tag(event.request), microseconds(event.ran),
                         event.delivered ? "" : ", and its connection was gone"));
    }
}

void EventLog::request_refused(const RequestRefused& event) {
    line(level_enum::warn, event.request.vm_id,
         fmt::format("{} refused with error {:#04x}: {}", tag(event.request), event.status,
                     event.sentence));
}

void EventLog::request_dropped(const RequestDropped& event) {
    line(level_enum::info, event.request.vm_id,
         fmt::format("{} dropped: {}", tag(event.request), event.why));
}

void EventLog::request_overran(const RequestOverran& event) {
    line(level_enum::warn, event.request.vm_id,
         fmt::format("{} ran for {} us, longer than its VM's {} us", tag(event.request),
                     microseconds(event.ran), microseconds(event.limit)));
}

// Rare and for the operator: on nobody's budget.
void EventLog::vm_quarantined(const VmQuarantined& event) {
    logger_->warn("vm={} quarantined after {} faults", event.vm_id, event.faults);
}

void EventLog::vm_released(const VmReleased& event) {
    logger_->warn("vm={} released from quarantine", event.vm_id);
}

void EventLog::notice(const Notice& event) {
    logger_->warn("{}", event.text);
}

}  // namespace vgpu
