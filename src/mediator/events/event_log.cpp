// SPDX-License-Identifier: MIT
#include "mediator/events/event_log.h"

#include <fmt/format.h>

#include <chrono>
#include <iterator>
#include <string_view>
#include <utility>

#include "mediator/config/names.h"
#include "mediator/events/event_kind.h"
#include "vgpu_names.h"

namespace vgpu {
namespace {

using spdlog::level::level_enum;

// Keys of two shared budgets: of connections that have not identified their VM, and of VMs that
// arrive while kMostBudgets others have budgets in use.
constexpr std::uint64_t kUnidentified = std::uint64_t{1} << 32U;
constexpr std::uint64_t kOverflow = kUnidentified + 1;
constexpr std::size_t kMostBudgets = 4096;
// Interval between searches for full budgets.
constexpr std::chrono::seconds kTidyEvery{1};

std::string name(std::uint64_t key) {
    if (key == kUnidentified) {
        return "connections without a VM id";
    }
    return key == kOverflow ? "other VMs" : fmt::format("vm={}", key);
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

// Escapes every byte that is not printable ASCII as \xNN.
std::string one_line(std::string_view text) {
    std::string clean;
    clean.reserve(text.size());
    for (const char c : text) {
        if (c >= 0x20 && c < 0x7f) {
            clean += c;
        } else {
            fmt::format_to(std::back_inserter(clean), "\\x{:02x}", static_cast<unsigned char>(c));
        }
    }
    return clean;
}

// Builds the fields of an entry.
class Entry {
  public:
    explicit Entry(EventKind kind) { add("VGPU_EVENT", event_name(kind)); }
    Entry(EventKind kind, const RequestInfo& request) : Entry(kind) {
        connection(request.session).vm(request.vm_id);
        number("VGPU_REQUEST", request.request_id);
        add("VGPU_POOL", pool_text(request.pool));
        add("VGPU_PRIORITY", level_text(request.priority));
        number("VGPU_OPCODE", request.opcode);
    }
    Entry& connection(SessionId session) { return number("VGPU_CONNECTION", session); }
    Entry& vm(std::optional<std::uint32_t> vm_id) {
        return vm_id ? number("VGPU_VM", *vm_id) : *this;
    }
    Entry& status(std::uint32_t status) {
        number("VGPU_STATUS", status);
        return status == VGPU_ERR_NONE ? *this : add("VGPU_ERROR", vgpu_error_name(status));
    }
    template <typename Number>
    Entry& number(std::string_view name, Number value) {
        return add(name, std::to_string(value));
    }
    LogFields take() { return std::move(fields_); }

  private:
    Entry& add(std::string_view name, std::string value) {
        fields_.push_back({.name = name, .value = std::move(value)});
        return *this;
    }

    LogFields fields_;
};

}  // namespace

EventLog::~EventLog() {
    for (auto& [key, budget] : budgets_) {
        report_suppressed(key, budget);
    }
}

template <typename Fields>
void EventLog::write(level_enum level, const std::string& text, Fields fields) {
    if (!logger_->should_log(level)) {
        return;
    }
    if (journal_) {
        journal_->write(level, one_line(text), fields());
    } else {
        logger_->log(level, "{}", one_line(text));
    }
}

void EventLog::report_suppressed(std::uint64_t key, Budget& budget) {
    if (budget.suppressed == 0) {
        return;
    }
    write(level_enum::warn, fmt::format("{}: suppressed {} lines", name(key), budget.suppressed),
          [&] {
              LogFields fields{{"VGPU_SUPPRESSED", std::to_string(budget.suppressed)}};
              if (key < kUnidentified) {
                  fields.push_back({"VGPU_VM", std::to_string(key)});
              }
              return fields;
          });
    budget.suppressed = 0;
}

void EventLog::forget_unused(std::chrono::nanoseconds now) {
    for (auto entry = budgets_.begin(); entry != budgets_.end();) {
        if (entry->second.bucket.full(now)) {
            report_suppressed(entry->first, entry->second);
            entry = budgets_.erase(entry);
        } else {
            ++entry;
        }
    }
}

bool EventLog::within_budget(std::optional<std::uint32_t> vm_id) {
    const auto now = clock_.now();
    std::uint64_t key = vm_id ? *vm_id : kUnidentified;
    auto found = budgets_.find(key);
    if (found == budgets_.end()) {
        if (budgets_.size() >= kMostBudgets && now >= tidy_at_) {
            tidy_at_ = now + kTidyEvery;
            forget_unused(now);
        }
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
        return false;
    }
    report_suppressed(key, budget);
    return true;
}

template <typename Text, typename Fields>
void EventLog::line(level_enum level, std::optional<std::uint32_t> vm_id, Text text,
                    Fields fields) {
    if (within_budget(vm_id)) {
        write(level, text(), fields);
    }
}

void EventLog::on(const SessionOpened& event) {
    if (logger_->should_log(level_enum::debug)) {
        line(
            level_enum::debug, std::nullopt,
            [&] {
                return fmt::format("conn={} opened on {} by pid {} uid {}", event.session,
                                   event.socket, event.pid, event.uid);
            },
            [&] { return Entry(EventKind::kSessionOpened).connection(event.session).take(); });
    }
}

void EventLog::on(const SessionIdentified& event) {
    line(
        level_enum::info, event.vm_id,
        [&] { return fmt::format("conn={} vm={} connected", event.session, event.vm_id); },
        [&] {
            return Entry(EventKind::kSessionIdentified)
                .connection(event.session)
                .vm(event.vm_id)
                .take();
        });
}

void EventLog::on(const SessionClosed& event) {
    const std::string vm = event.vm_id ? fmt::format(" vm={}", *event.vm_id) : std::string();
    line(
        is_fault(event.reason) ? level_enum::warn : level_enum::info, event.vm_id,
        [&] { return fmt::format("conn={}{} closed: {}", event.session, vm, event.detail); },
        [&] {
            return Entry(EventKind::kSessionClosed)
                .connection(event.session)
                .vm(event.vm_id)
                .take();
        });
}

void EventLog::on(const RequestAccepted& event) {
    if (logger_->should_log(level_enum::debug)) {
        line(
            level_enum::debug, event.request.vm_id,
            [&] { return tag(event.request) + " accepted"; },
            [&] { return Entry(EventKind::kRequestAccepted, event.request).take(); });
    }
}

void EventLog::on(const RequestStarted& event) {
    if (logger_->should_log(level_enum::debug)) {
        line(
            level_enum::debug, event.request.vm_id,
            [&] {
                return fmt::format("{} started after {} us", tag(event.request),
                                   microseconds(event.waited));
            },
            [&] {
                return Entry(EventKind::kRequestStarted, event.request)
                    .number("VGPU_WAIT_US", microseconds(event.waited))
                    .take();
            });
    }
}

void EventLog::on(const RequestFinished& event) {
    const auto fields = [&] {
        return Entry(EventKind::kRequestFinished, event.request)
            .status(event.status)
            .number("VGPU_WAIT_US", microseconds(event.waited))
            .number("VGPU_RUN_US", microseconds(event.ran))
            .take();
    };
    if (event.status != 0) {
        line(
            level_enum::warn, event.request.vm_id,
            [&] {
                return fmt::format("{} failed with error {:#04x}: {}", tag(event.request),
                                   event.status, event.message);
            },
            fields);
    } else if (logger_->should_log(level_enum::debug)) {
        line(
            level_enum::debug, event.request.vm_id,
            [&] {
                return fmt::format("{} finished in {} us{}", tag(event.request),
                                   microseconds(event.ran),
                                   event.delivered ? "" : ", but its connection was closed");
            },
            fields);
    }
}

void EventLog::on(const RequestRefused& event) {
    line(
        level_enum::warn, event.request.vm_id,
        [&] {
            return fmt::format("{} refused with error {:#04x}: {}", tag(event.request),
                               event.status, event.message);
        },
        [&] {
            return Entry(EventKind::kRequestRefused, event.request).status(event.status).take();
        });
}

void EventLog::on(const RequestDropped& event) {
    line(
        level_enum::info, event.request.vm_id,
        [&] { return fmt::format("{} dropped: {}", tag(event.request), event.why); },
        [&] { return Entry(EventKind::kRequestDropped, event.request).take(); });
}

void EventLog::on(const RequestOverran& event) {
    line(
        level_enum::warn, event.request.vm_id,
        [&] {
            return fmt::format("{} ran for {} us, over its VM's limit of {} us", tag(event.request),
                               microseconds(event.ran), microseconds(event.limit));
        },
        [&] {
            return Entry(EventKind::kRequestOverran, event.request)
                .number("VGPU_RUN_US", microseconds(event.ran))
                .take();
        });
}

void EventLog::on(const RequestRun& event) {
    if (logger_->should_log(level_enum::debug)) {
        expand(event, *this);
    }
}

void EventLog::on(const QueueStopped& event) {
    line(
        level_enum::warn, event.vm_id,
        [&] {
            return fmt::format("conn={} vm={} queue={} stopped with error {:#04x}: {}",
                               event.session, event.vm_id, event.queue, event.error,
                               queue_error_text(event.error));
        },
        [&] {
            return Entry(EventKind::kQueueStopped)
                .connection(event.session)
                .vm(event.vm_id)
                .number("VGPU_QUEUE", event.queue)
                .number("VGPU_STATUS", event.error)
                .take();
        });
}

void EventLog::on(const MemoryAttached& event) {
    line(
        level_enum::info, event.vm_id,
        [&] {
            return fmt::format("conn={} vm={} attached {} MiB of shared memory, {} queues",
                               event.session, event.vm_id, event.size >> 20U, event.queues);
        },
        [&] {
            return Entry(EventKind::kMemoryAttached)
                .connection(event.session)
                .vm(event.vm_id)
                .take();
        });
}

void EventLog::on(const MemoryRefused& event) {
    line(
        level_enum::warn, event.vm_id,
        [&] {
            return fmt::format("conn={} vm={} shared memory refused: {}", event.session,
                               event.vm_id, hello_status_text(event.status));
        },
        [&] {
            return Entry(EventKind::kMemoryRefused)
                .connection(event.session)
                .vm(event.vm_id)
                .number("VGPU_STATUS", event.status)
                .take();
        });
}

// Rare and for the operator: not charged to any budget.
void EventLog::on(const VmQuarantined& event) {
    write(level_enum::warn, fmt::format("vm={} {}", event.vm_id, quarantine_text(event)),
          [&] { return Entry(EventKind::kVmQuarantined).vm(event.vm_id).take(); });
}

void EventLog::on(const VmReleased& event) {
    write(level_enum::warn, fmt::format("vm={} released from quarantine", event.vm_id),
          [&] { return Entry(EventKind::kVmReleased).vm(event.vm_id).take(); });
}

void EventLog::on(const Notice& event) {
    write(event.warning ? level_enum::warn : level_enum::info, std::string(event.text),
          [] { return Entry(EventKind::kNotice).take(); });
}

void EventLog::on(const GpuState& event) {
    const auto fields = [&] {
        return Entry(EventKind::kNotice).number("VGPU_GPU", event.gpu).take();
    };
    if (event.change == GpuState::Change::kFailed) {
        write(level_enum::err,
              fmt::format("gpu={} failed and is being reset: {}", event.gpu, event.why), fields);
    } else {
        write(level_enum::warn,
              fmt::format("gpu={} recovered after {} us", event.gpu, microseconds(event.down_for)),
              fields);
    }
}

}  // namespace vgpu
