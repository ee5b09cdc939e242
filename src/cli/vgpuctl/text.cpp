// SPDX-License-Identifier: MIT
#include "cli/vgpuctl/text.h"

#include <fmt/core.h>
#include <pwd.h>
#include <sys/types.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>

namespace vgpu::ctl {

using nlohmann::json;

namespace {

// Returns the number of UTF-8 characters, each assumed to be one column wide.
std::size_t width_of(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
    }));
}

std::string number_text(double value) {
    constexpr double kExact = 9e15;
    if (value == std::floor(value) && std::abs(value) < kExact) {
        return fmt::format("{}", static_cast<std::int64_t>(value));
    }
    return fmt::format("{:g}", value);
}

const json& list_of(const json& document, const char* name) {
    static const json kEmpty = json::array();
    if (!document.is_object()) {
        return kEmpty;
    }
    const auto found = document.find(name);
    return found != document.end() && found->is_array() ? *found : kEmpty;
}

const json& object_of(const json& document, const char* name) {
    static const json kEmpty = json::object();
    if (!document.is_object()) {
        return kEmpty;
    }
    const auto found = document.find(name);
    return found != document.end() && found->is_object() ? *found : kEmpty;
}

std::string scalar_text(const json& value) {
    switch (value.type()) {
        case json::value_t::string:
            return printable(value.get<std::string>());
        case json::value_t::boolean:
            return value.get<bool>() ? "yes" : "no";
        case json::value_t::number_integer:
            return std::to_string(value.get<std::int64_t>());
        case json::value_t::number_unsigned:
            return std::to_string(value.get<std::uint64_t>());
        case json::value_t::number_float:
            return number_text(value.get<double>());
        default:
            return "-";
    }
}

std::string joined(const json& list) {
    std::string text;
    for (const json& entry : list) {
        if (!text.empty()) {
            text += ' ';
        }
        text += scalar_text(entry);
    }
    return text.empty() ? "-" : text;
}

// Returns "unlimited" for a limit of 0.
std::string limit_text(const json& limits, const char* name, const char* unit) {
    const std::string text = field(limits, name);
    if (text == "0") {
        return "unlimited";
    }
    return text == "-" ? text : text + unit;
}

std::string vm_state(const json& vm) {
    if (vm.is_object() && vm.value("quarantined", false)) {
        return "quarantined";
    }
    if (vm.is_object() && vm.value("throttled", false)) {
        return "throttled";
    }
    return field(vm, "connected") == "yes" ? "connected" : "disconnected";
}

void line(std::string& text, std::string_view name, std::string_view value) {
    text += fmt::format("{:<16}{}\n", name, value);
}

// Returns the user whose processes may use a VM's id: the mediator runs on the same host.
std::string user_text(const json& vm) {
    const auto user = vm.find("user");
    if (user == vm.end() || !user->is_number_unsigned()) {
        return "any";
    }
    const auto id = user->get<uid_t>();
    const passwd* const entry = ::getpwuid(id);
    return entry == nullptr ? std::to_string(id) : fmt::format("{} ({})", entry->pw_name, id);
}

}  // namespace

std::string printable(std::string_view text) {
    std::string shown;
    shown.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        // U+0080 to U+009F are control characters, too: 0xC2 followed by 0x80 to 0x9F.
        const bool second_set =
            byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
        if (second_set) {
            ++i;
        }
        shown += byte < 0x20 || byte == 0x7F || second_set ? '?' : text[i];
    }
    return shown;
}

std::string bytes_text(double bytes) {
    constexpr std::array kUnits{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    std::size_t unit = 0;
    while (bytes >= 1024 && unit + 1 < kUnits.size()) {
        bytes /= 1024;
        ++unit;
    }
    return unit == 0 ? fmt::format("{:.0f} B", bytes)
                     : fmt::format("{:.1f} {}", bytes, kUnits.at(unit));
}

std::string micros_text(double us) {
    if (us < 1e3) {
        return fmt::format("{:.0f} µs", us);
    }
    return us < 1e6 ? fmt::format("{:.1f} ms", us / 1e3) : fmt::format("{:.1f} s", us / 1e6);
}

std::string uptime_text(double seconds) {
    const auto s = static_cast<std::int64_t>(std::clamp(seconds, 0.0, 1e12));
    if (s < 60) {
        return fmt::format("{} s", s);
    }
    if (s < 3600) {
        return fmt::format("{} min", s / 60);
    }
    if (s < 86400) {
        return fmt::format("{} h {} min", s / 3600, s % 3600 / 60);
    }
    return fmt::format("{} d {} h", s / 86400, s % 86400 / 3600);
}

std::string field(const json& object, const char* name) {
    if (!object.is_object()) {
        return "-";
    }
    const auto found = object.find(name);
    return found == object.end() ? "-" : scalar_text(*found);
}

double number(const json& object, const char* name) {
    if (!object.is_object()) {
        return 0;
    }
    const auto found = object.find(name);
    return found != object.end() && found->is_number() ? found->get<double>() : 0;
}

std::string table(const std::vector<std::vector<std::string>>& rows,
                  const std::vector<bool>& right) {
    std::vector<std::size_t> widths(right.size());
    for (const auto& row : rows) {
        for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i) {
            widths[i] = std::max(widths[i], width_of(row[i]));
        }
    }
    std::string text;
    for (const auto& row : rows) {
        std::string shown;
        for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i) {
            const std::string space(widths[i] - width_of(row[i]), ' ');
            if (i > 0) {
                shown += "  ";
            }
            if (right[i]) {
                shown += space;
            }
            shown += row[i];
            if (!right[i]) {
                shown += space;
            }
        }
        shown.erase(shown.find_last_not_of(' ') + 1);
        text += shown;
        text += '\n';
    }
    return text;
}

std::string status_text(const json& status) {
    const json& requests = object_of(status, "requests");
    std::string text;
    line(text, "version", field(status, "version"));
    line(text, "state",
         fmt::format("{}, up {}", field(status, "state"), uptime_text(number(status, "uptime_s"))));
    line(text, "backend", field(status, "backend"));
    line(text, "sockets", joined(list_of(status, "sockets")));
    line(text, "configuration", field(status, "config_file"));
    line(text, "connections", field(status, "connections"));
    line(text, "requests",
         fmt::format("{} queued, {} running", field(status, "queued"), field(status, "running")));
    line(text, "",
         fmt::format("{} accepted, {} done, {} failed, {} refused, {} limited, {} dropped",
                     field(requests, "accepted"), field(requests, "done"),
                     field(requests, "failed"), field(requests, "refused"),
                     field(requests, "limited"), field(requests, "dropped")));
    line(text, "faults", field(status, "faults"));
    const json& latency = object_of(status, "loop_latency_us");
    std::string longest;
    for (const auto& [source, time] : latency.items()) {
        longest += fmt::format("{}{} {:.3f} ms", longest.empty() ? "" : ", ", source,
                               number(latency, source.c_str()) / 1e3);
    }
    line(text, "loop latency", longest);
    return text;
}

std::string gpus_text(const json& gpus) {
    std::vector<std::vector<std::string>> rows{
        {"GPU", "STATE", "BUSY", "RUNNING", "MEMORY FREE", "TOTAL", "POOLS", "RECOVERIES", "NAME"}};
    for (const json& gpu : list_of(gpus, "gpus")) {
        rows.push_back({field(gpu, "index"), field(gpu, "state"),
                        fmt::format("{:.0f} %", number(gpu, "busy_share") * 100),
                        fmt::format("{}/{}", field(gpu, "running"), field(gpu, "slots")),
                        bytes_text(number(gpu, "memory_free")),
                        bytes_text(number(gpu, "memory_total")), joined(list_of(gpu, "pools")),
                        field(gpu, "recoveries"), field(gpu, "name")});
    }
    return table(rows, {true, false, true, true, true, true, false, true, false});
}

std::string pools_text(const json& pools) {
    std::vector<std::vector<std::string>> rows{
        {"POOL", "GPUS", "POLICY", "AGING", "HIGH", "MEDIUM", "LOW", "RUNNING", "VMS"}};
    for (const json& pool : list_of(pools, "pools")) {
        const json& queued = object_of(pool, "queued");
        const double aging = number(pool, "aging_ms");
        rows.push_back({field(pool, "id"), joined(list_of(pool, "gpus")), field(pool, "policy"),
                        aging > 0 ? micros_text(aging * 1000) : "never", field(queued, "high"),
                        field(queued, "medium"), field(queued, "low"), field(pool, "running"),
                        field(pool, "vms")});
    }
    return table(rows, {false, false, false, true, true, true, true, true, true});
}

std::string vms_text(const json& vms) {
    std::vector<std::vector<std::string>> rows{{"VM", "STATE", "POOL", "PRIORITY", "WEIGHT",
                                                "QUEUED", "DONE", "FAILED", "GPU TIME", "MEMORY"}};
    for (const json& vm : list_of(vms, "vms")) {
        const json& requests = object_of(vm, "requests");
        rows.push_back({field(vm, "id"), vm_state(vm), field(vm, "pool"), field(vm, "priority"),
                        field(vm, "weight"), field(vm, "queued"), field(requests, "done"),
                        field(requests, "failed"), micros_text(number(vm, "gpu_time_us")),
                        bytes_text(number(vm, "memory_used"))});
    }
    return table(rows, {true, false, false, false, true, true, true, true, true, true});
}

std::string vm_text(const json& vm) {
    const json& requests = object_of(vm, "requests");
    const json& limits = object_of(vm, "limits");
    const json& overrides = object_of(vm, "overrides");
    const auto served = [&](const char* name) {
        const std::string text = field(vm, name);
        return field(overrides, name) == "-" ? text : text + " (override)";
    };
    std::string text;
    line(text, "vm", field(vm, "id"));
    line(text, "state", vm_state(vm));
    line(text, "connections", field(vm, "connections"));
    if (number(vm, "file_requests") > 0) {
        line(text, "files", field(vm, "file_requests") + " requests through the file protocol");
    }
    line(text, "pool", served("pool"));
    line(text, "priority", served("priority"));
    line(text, "user", user_text(vm));
    line(text, "weight", field(vm, "weight"));
    line(text, "boost", field(vm, "boost"));
    line(text, "requests",
         fmt::format("{} queued (at most {}), {} running", field(vm, "queued"),
                     field(vm, "queue_depth"), field(vm, "running")));
    line(
        text, "",
        fmt::format("{} accepted, {} done, {} failed, {} refused, {} limited, {} dropped, {} "
                    "overran",
                    field(requests, "accepted"), field(requests, "done"), field(requests, "failed"),
                    field(requests, "refused"), field(requests, "limited"),
                    field(requests, "dropped"), field(requests, "overran")));
    line(text, "gpu time", micros_text(number(vm, "gpu_time_us")));
    line(text, "wait",
         fmt::format("{} on average, {} at most", micros_text(number(vm, "wait_mean_us")),
                     micros_text(number(vm, "wait_max_us"))));
    const double quota = number(limits, "memory_bytes");
    line(text, "memory",
         bytes_text(number(vm, "memory_used")) +
             (quota > 0 ? " of " + bytes_text(quota) : " (unlimited)"));
    line(text, "faults",
         fmt::format("{} (quarantine after: {})", field(vm, "faults"),
                     number(limits, "quarantine_after_faults") > 0
                         ? field(limits, "quarantine_after_faults")
                         : "never"));
    line(text, "throttled", fmt::format("{} in total", micros_text(number(vm, "throttled_us"))));
    line(text, "rate",
         fmt::format("{}, bursts of {}", limit_text(limits, "requests_per_second", " requests/s"),
                     field(limits, "burst")));
    line(text, "gpu time limit",
         fmt::format("{} in {} ms", limit_text(limits, "gpu_time_ms_per_window", " ms"),
                     field(limits, "gpu_window_ms")));
    line(text, "longest run", limit_text(limits, "longest_execution_ms", " ms"));
    return text;
}

std::string event_text(const json& event) {
    std::string text = fmt::format("{}  {:<18}", field(event, "time"), field(event, "event"));
    struct Part {
        const char* name;
        const char* label;
    };
    // The remaining fields of an event, the most interesting first.
    for (const Part part :
         {Part{"vm", "vm"}, Part{"session", "connection"}, Part{"request_id", "request"},
          Part{"pool", "pool"}, Part{"priority", "priority"}, Part{"opcode", "opcode"},
          Part{"error", "error"}, Part{"count", "count"}}) {
        if (const std::string value = field(event, part.name); value != "-") {
            text += fmt::format(" {} {}", part.label, value);
        }
    }
    for (const Part part : {Part{"wait_us", "waited"}, Part{"exec_us", "executed"}}) {
        if (event.is_object() && event.contains(part.name)) {
            text += fmt::format(" {} {}", part.label, micros_text(number(event, part.name)));
        }
    }
    if (field(event, "delivered") == "no") {
        text += " (not delivered)";
    }
    if (const std::string message = field(event, "message"); message != "-") {
        text += ": ";
        text += message;
    }
    return text;
}

std::string api_error_text(unsigned status, std::string_view body) {
    const json document = json::parse(body, nullptr, false);
    const json& error = object_of(document, "error");
    const std::string message = field(error, "message");
    if (message == "-") {
        return fmt::format(
            "the server responded with HTTP status {} and no error text: check that --socket is a "
            "mediator's admin socket",
            status);
    }
    std::string text;
    // The message usually names the field itself.
    if (const std::string name = field(error, "field");
        name != "-" && message.find(name) == std::string::npos) {
        text = name;
        text += ": ";
    }
    text += message;
    if (const std::string number = field(error, "line"); number != "-") {
        text += fmt::format(" (line {})", number);
    }
    return text;
}

json metrics_json(std::string_view text) {
    json samples = json::array();
    while (!text.empty()) {
        const std::string_view row = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(row.size() + 1, text.size()));
        if (row.empty() || row.front() == '#') {
            continue;
        }
        std::size_t at = std::min(row.find_first_of("{ "), row.size());
        const std::string name(row.substr(0, at));
        json labels = json::object();
        if (at < row.size() && row[at] == '{') {
            ++at;
            while (at < row.size() && row[at] != '}') {
                const std::size_t equals = row.find("=\"", at);
                if (equals == std::string_view::npos) {
                    break;
                }
                const std::string key(row.substr(at, equals - at));
                std::string value;
                for (at = equals + 2; at < row.size() && row[at] != '"'; ++at) {
                    if (row[at] == '\\' && at + 1 < row.size()) {
                        ++at;
                        value += row[at] == 'n' ? '\n' : row[at];
                    } else {
                        value += row[at];
                    }
                }
                labels[key] = value;
                at = std::min(at + 1, row.size());
                if (at < row.size() && row[at] == ',') {
                    ++at;
                }
            }
            at = std::min(at + 1, row.size());
        }
        at = row.find_first_not_of(' ', at);
        if (at == std::string_view::npos) {
            continue;
        }
        const std::string_view shown = row.substr(at, row.find(' ', at) - at);
        double value = 0;
        const auto [end, error] = std::from_chars(shown.data(), shown.data() + shown.size(), value);
        const bool plain =
            error == std::errc{} && end == shown.data() + shown.size() && std::isfinite(value);
        samples.push_back({{"name", name},
                           {"labels", labels},
                           {"value", plain ? json(value) : json(std::string(shown))}});
    }
    return samples;
}

}  // namespace vgpu::ctl
