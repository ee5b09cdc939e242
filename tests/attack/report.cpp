// SPDX-License-Identifier: MIT
#include "report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

namespace vgpu::attack {
namespace {

constexpr const char* kRow =
    "{:<16}{:<9}{:>7}{:>7}{:>6}{:>9}{:>9}{:>9}{:>9}{:>8}{:>9}{:>9}{:>9}  {}\n";

std::string ratio_text(double ratio) {
    return ratio == 0 ? "-" : fmt::format("{:.{}f}", ratio, ratio < 100 ? 1 : 0);
}

std::string latency_text(const std::optional<LoopLatency>& latency) {
    return latency ? fmt::format("{} {}", duration_text(latency->seconds * 1e9), latency->source)
                   : "-";
}

std::string rate_text(const Result& result) {
    return fmt::format("{:.0f} steps/s", static_cast<double>(result.steps) / result.seconds);
}

void print_path(const std::string& name, const char* path, const PathPeriod& off,
                const PathPeriod& on, const std::string& exit, const std::string& latency) {
    fmt::print(kRow, name, path, off.served, on.served, off.wrong + on.wrong,
               duration_text(off.p50), duration_text(on.p50), duration_text(off.p99),
               duration_text(on.p99), ratio_text(p99_ratio(off, on)), duration_text(off.longest),
               duration_text(on.longest), exit, latency);
}

nlohmann::json to_json(const PathPeriod& path) {
    nlohmann::json json{
        {"served", path.served}, {"wrong", path.wrong}, {"unanswered", path.unanswered},
        {"p50_ns", path.p50},    {"p99_ns", path.p99},  {"longest_ns", path.longest}};
    if (!path.failure.empty()) {
        json["failure"] = path.failure;
    }
    return json;
}

nlohmann::json path_json(const PathPeriod& off, const PathPeriod& on) {
    return {{"off", to_json(off)}, {"on", to_json(on)}, {"p99_ratio", p99_ratio(off, on)}};
}

}  // namespace

std::string duration_text(double nanoseconds) {
    if (nanoseconds == 0) {
        return "-";
    }
    if (nanoseconds < 1e6) {
        return fmt::format("{:.0f} µs", nanoseconds / 1e3);
    }
    if (nanoseconds < 1e9) {
        return fmt::format("{:.{}f} ms", nanoseconds / 1e6, nanoseconds < 1e8 ? 1 : 0);
    }
    return fmt::format("{:.2f} s", nanoseconds / 1e9);
}

void print_head() {
    fmt::print(kRow, "attack", "path", "served", "", "wrong", "p50", "", "p99", "", "p99",
               "longest", "", "SIGTERM", "longest loop");
    fmt::print(kRow, "", "", "off", "on", "", "off", "on", "off", "on", "on/off", "off", "on",
               "to exit", "latency, attacker");
}

void print_result(const Result& result) {
    const std::string exit = result.killed ? "killed" : duration_text(result.exit_seconds * 1e9);
    print_path(result.attack->name, "requests", result.off.requests, result.on.requests, exit,
               latency_text(result.loop_latency));
    print_path("", "queues", result.off.queues, result.on.queues, "",
               result.steps == 0 ? "" : rate_text(result));
    const double off = std::max(result.off.requests.longest, result.off.queues.longest);
    if (off > Bars{}.longest) {
        fmt::print("{:<16}note: a stall for {} without the attacker: the machine has other work\n",
                   "", duration_text(off));
    }
    for (const std::string& missed : result.missed) {
        fmt::print("{:<16}missed: {}\n", "", missed);
    }
    for (const std::string& line : result.log) {
        fmt::print("{:<16}mediator: {}\n", "", line);
    }
    static_cast<void>(std::fflush(stdout));
}

nlohmann::json to_json(const Result& result) {
    nlohmann::json json{
        {"name", result.attack->name},
        {"description", result.attack->description},
        {"paths",
         {{"requests", path_json(result.off.requests, result.on.requests)},
          {"queues", path_json(result.off.queues, result.on.queues)}}},
        {"attacker_steps", result.steps},
        {"exit_seconds", result.exit_seconds},
        {"exit_status", result.exit_status},
        {"killed", result.killed},
        {"loop_latency", nullptr},
        {"missed", result.missed},
        {"mediator_log", result.log},
    };
    if (result.loop_latency) {
        json["loop_latency"] = {{"seconds", result.loop_latency->seconds},
                                {"source", result.loop_latency->source}};
    }
    if (result.newcomer_failure) {
        json["newcomer_served"] = result.newcomer_failure->empty();
    }
    if (!result.attacker_failure.empty()) {
        json["attacker_failure"] = result.attacker_failure;
    }
    return json;
}

}  // namespace vgpu::attack
