// SPDX-License-Identifier: MIT
#include "mediator/admin/event_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "mediator/config/names.h"
#include "vgpu_names.h"

namespace vgpu {
namespace {

// Builds a line of JSON by appending to `to`.
class Line {
  public:
    explicit Line(std::string& to, const char* event) : to_(to) {
        const auto now = std::chrono::system_clock::now();
        const auto since =
            std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch()).count();
        const std::time_t seconds = since / 1'000'000;
        std::tm utc{};
        static_cast<void>(::gmtime_r(&seconds, &utc));
        fmt::format_to(std::back_inserter(to_),
                       "{{\"time\":\"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z\","
                       "\"event\":\"{}\"",
                       utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min,
                       utc.tm_sec, since % 1'000'000, event);
    }
    template <typename Number>
    Line& number(const char* key, Number value) {
        fmt::format_to(std::back_inserter(to_), ",\"{}\":{}", key, value);
        return *this;
    }
    Line& time(const char* key, std::chrono::nanoseconds value) {
        fmt::format_to(std::back_inserter(to_), ",\"{}\":{:.3f}", key,
                       static_cast<double>(value.count()) / 1e3);
        return *this;
    }
    Line& boolean(const char* key, bool value) {
        fmt::format_to(std::back_inserter(to_), ",\"{}\":{}", key, value);
        return *this;
    }
    Line& text(const char* key, std::string_view value) {
        const bool plain = std::all_of(value.begin(), value.end(), [](char c) {
            return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
        });
        if (plain) {
            fmt::format_to(std::back_inserter(to_), ",\"{}\":\"{}\"", key, value);
        } else {
            using nlohmann::json;
            fmt::format_to(std::back_inserter(to_), ",\"{}\":{}", key,
                           json(value).dump(-1, ' ', false, json::error_handler_t::replace));
        }
        return *this;
    }
    void end() { to_ += "}\n"; }

  private:
    std::string& to_;
};

void add_request(Line& line, const RequestInfo& request) {
    line.number("session", request.session)
        .number("vm", request.vm_id)
        .number("request_id", request.request_id);
    line.text("pool", pool_text(request.pool)).text("priority", level_text(request.priority));
    line.number("opcode", request.opcode);
}

void add_status(Line& line, std::uint32_t status, std::string_view message) {
    line.number("status", status);
    if (status != VGPU_ERR_NONE) {
        line.text("error", vgpu_error_name(status));
    }
    if (!message.empty()) {
        line.text("message", message);
    }
}

}  // namespace

void EventReader::add(std::string_view line) {
    if (lost_ > 0 || lines_.size() + line.size() > bound_) {
        ++lost_;
        return;
    }
    const bool first = lines_.empty();
    lines_.append(line);
    if (first) {
        more_();
    }
}

bool EventReader::take(std::string& to) {
    to.clear();
    if (lines_.empty()) {
        return false;
    }
    std::swap(to, lines_);
    if (lost_ > 0) {
        Line(to, "lost").number("count", std::exchange(lost_, 0)).end();
    }
    return true;
}

std::shared_ptr<EventReader> EventStream::subscribe(const EventFilter& filter, std::size_t bound,
                                                    std::function<void()> more) {
    auto reader = std::make_shared<EventReader>(filter, bound, std::move(more));
    readers_.push_back(reader);
    return reader;
}

template <typename Members>
void EventStream::publish(EventKind kind, std::optional<std::uint32_t> vm, Members members) {
    if (readers_.empty()) {
        return;
    }
    line_.clear();
    bool gone = false;
    for (const auto& weak : readers_) {
        const auto reader = weak.lock();
        gone = gone || !reader;
        if (!reader || !reader->filter_.takes(kind, vm)) {
            continue;
        }
        if (line_.empty()) {
            Line line(line_, event_name(kind));
            members(line);
            line.end();
        }
        reader->add(line_);
    }
    if (gone) {
        std::erase_if(readers_, [](const auto& weak) { return weak.expired(); });
    }
}

template <typename Members>
void EventStream::publish_request(EventKind kind, const RequestInfo& request, Members members) {
    publish(kind, request.vm_id, [&](Line& line) {
        add_request(line, request);
        members(line);
    });
}

void EventStream::on(const SessionOpened& event) {
    publish(EventKind::kSessionOpened, std::nullopt, [&](Line& line) {
        line.number("session", event.session)
            .text("message",
                  fmt::format("on {} from pid {}, uid {}", event.socket, event.pid, event.uid));
    });
}

void EventStream::on(const SessionIdentified& event) {
    publish(EventKind::kSessionIdentified, event.vm_id,
            [&](Line& line) { line.number("session", event.session).number("vm", event.vm_id); });
}

void EventStream::on(const SessionClosed& event) {
    publish(EventKind::kSessionClosed, event.vm_id, [&](Line& line) {
        line.number("session", event.session);
        if (event.vm_id) {
            line.number("vm", *event.vm_id);
        }
        line.text("message", event.detail);
    });
}

void EventStream::on(const RequestAccepted& event) {
    publish_request(EventKind::kRequestAccepted, event.request, [](Line& /*line*/) {});
}

void EventStream::on(const RequestStarted& event) {
    publish_request(EventKind::kRequestStarted, event.request,
                    [&](Line& line) { line.time("wait_us", event.waited); });
}

void EventStream::on(const RequestFinished& event) {
    publish_request(EventKind::kRequestFinished, event.request, [&](Line& line) {
        add_status(line, event.status, event.message);
        line.time("wait_us", event.waited)
            .time("run_us", event.ran)
            .number("exec_us", event.exec_time_us)
            .boolean("delivered", event.delivered);
    });
}

void EventStream::on(const RequestRefused& event) {
    publish_request(EventKind::kRequestRefused, event.request,
                    [&](Line& line) { add_status(line, event.status, event.message); });
}

void EventStream::on(const RequestDropped& event) {
    publish_request(EventKind::kRequestDropped, event.request, [&](Line& line) {
        line.text("message", event.why);
        line.boolean("delivered", event.answered);
    });
}

void EventStream::on(const RequestOverran& event) {
    publish_request(EventKind::kRequestOverran, event.request, [&](Line& line) {
        line.time("run_us", event.ran)
            .text("message",
                  fmt::format(
                      "exceeded its limit of {} ms",
                      std::chrono::duration_cast<std::chrono::milliseconds>(event.limit).count()));
    });
}

void EventStream::on(const RequestRun& event) {
    if (!readers_.empty()) {
        expand(event, *this);
    }
}

void EventStream::on(const QueueStopped& event) {
    publish(EventKind::kQueueStopped, event.vm_id, [&](Line& line) {
        line.number("session", event.session)
            .number("vm", event.vm_id)
            .number("queue", event.queue)
            .number("status", event.error)
            .text("message", queue_error_text(event.error));
    });
}

void EventStream::on(const MemoryAttached& event) {
    publish(EventKind::kMemoryAttached, event.vm_id, [&](Line& line) {
        line.number("session", event.session)
            .number("vm", event.vm_id)
            .number("bytes", event.size)
            .number("queues", event.queues);
    });
}

void EventStream::on(const MemoryRefused& event) {
    publish(EventKind::kMemoryRefused, event.vm_id, [&](Line& line) {
        line.number("session", event.session)
            .number("vm", event.vm_id)
            .number("status", event.status)
            .text("message", hello_status_text(event.status));
    });
}

void EventStream::on(const VmQuarantined& event) {
    publish(EventKind::kVmQuarantined, event.vm_id, [&](Line& line) {
        line.number("vm", event.vm_id).text("message", quarantine_text(event));
    });
}

void EventStream::on(const VmReleased& event) {
    publish(EventKind::kVmReleased, event.vm_id,
            [&](Line& line) { line.number("vm", event.vm_id); });
}

void EventStream::on(const Notice& event) {
    publish(EventKind::kNotice, std::nullopt,
            [&](Line& line) { line.text("message", event.text); });
}

void EventStream::on(const GpuState& event) {
    publish(EventKind::kNotice, std::nullopt, [&](Line& line) {
        line.text("message", event.change == GpuState::Change::kFailed
                                 ? fmt::format("GPU {} has failed: {}", event.gpu, event.why)
                                 : fmt::format("GPU {} has recovered", event.gpu));
    });
}

}  // namespace vgpu
