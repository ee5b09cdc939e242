// SPDX-License-Identifier: MIT
#include "cli/vgpuctl/top.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

#include "cli/vgpuctl/text.h"

namespace vgpu::ctl {

using nlohmann::json;

namespace {

constexpr std::array kColumns{"GPU%", "REQ/S", "QUEUE", "WAIT", "MEMORY", "VM"};

double key_of(const TopRow& row, Sort sort) {
    switch (sort) {
        case Sort::kGpu:
            return row.gpu_percent;
        case Sort::kRate:
            return row.rate;
        case Sort::kQueued:
            return row.queued;
        case Sort::kWait:
            return row.wait_us;
        case Sort::kMemory:
            return row.memory;
        case Sort::kVm:
            break;
    }
    return 0;
}

double done_of(const json& vm) {
    const auto found = vm.find("requests");
    return found == vm.end() ? 0 : number(*found, "done");
}

const char* state_of(const TopRow& row) {
    if (row.quarantined) {
        return "quarantined";
    }
    if (row.throttled) {
        return "throttled";
    }
    return row.connected ? "" : "disconnected";
}

// Returns the first `width` columns; each UTF-8 character is assumed to be one column wide.
std::string cut(std::string_view text, std::size_t width) {
    std::size_t columns = 0;
    std::size_t at = 0;
    for (; at < text.size(); ++at) {
        if ((static_cast<unsigned char>(text[at]) & 0xC0U) != 0x80U && ++columns > width) {
            break;
        }
    }
    return std::string(text.substr(0, at));
}

std::string pools_of(const json& gpu) {
    std::string text;
    if (gpu.is_object() && gpu.contains("pools") && gpu["pools"].is_array()) {
        for (const json& pool : gpu["pools"]) {
            if (pool.is_string()) {
                text += printable(pool.get<std::string>());
            }
        }
    }
    return text;
}

}  // namespace

Sort next(Sort sort) {
    return static_cast<Sort>((static_cast<std::size_t>(sort) + 1) % kColumns.size());
}

std::vector<TopRow> top_rows(const Sample& before, const Sample& now, Sort sort) {
    std::map<std::uint64_t, const json*> earlier;
    for (const json& vm : before.vms) {
        earlier[static_cast<std::uint64_t>(number(vm, "id"))] = &vm;
    }
    const double seconds =
        std::max(std::chrono::duration<double>(now.at - before.at).count(), 1e-3);
    std::vector<TopRow> rows;
    for (const json& vm : now.vms) {
        if (!vm.is_object()) {
            continue;
        }
        TopRow row{.vm = static_cast<std::uint64_t>(number(vm, "id")),
                   .pool = field(vm, "pool"),
                   .priority = field(vm, "priority"),
                   .queued = number(vm, "queued"),
                   .running = number(vm, "running"),
                   .wait_us = number(vm, "wait_mean_us"),
                   .memory = number(vm, "memory_used"),
                   .connected = field(vm, "connected") == "yes",
                   .quarantined = field(vm, "quarantined") == "yes",
                   .throttled = field(vm, "throttled") == "yes"};
        double used_us = number(vm, "gpu_time_us");
        double done = done_of(vm);
        if (const auto found = earlier.find(row.vm); found != earlier.end()) {
            const double used_before = number(*found->second, "gpu_time_us");
            const double done_before = done_of(*found->second);
            used_us -= used_before <= used_us ? used_before : 0;
            done -= done_before <= done ? done_before : 0;
        }
        row.gpu_percent = used_us / 1e6 / seconds * 100;
        row.rate = done / seconds;
        rows.push_back(std::move(row));
    }
    std::sort(rows.begin(), rows.end(), [sort](const TopRow& a, const TopRow& b) {
        return std::tuple(-key_of(a, sort), a.vm) < std::tuple(-key_of(b, sort), b.vm);
    });
    return rows;
}

std::string top_screen(const Sample& now, const std::vector<TopRow>& rows, Sort sort, bool paused,
                       std::size_t width, std::size_t height) {
    std::vector<std::string> lines;
    lines.push_back(
        fmt::format("vgpu-mediator {}  {}, up {}  {} connections  {} queued, {} running",
                    field(now.status, "version"), field(now.status, "state"),
                    uptime_text(number(now.status, "uptime_s")), field(now.status, "connections"),
                    field(now.status, "queued"), field(now.status, "running")));
    for (const json& gpu : now.gpus) {
        lines.push_back(fmt::format(
            "GPU {} [{}] {:>3.0f} % busy  {} of {} free  {}  {}", field(gpu, "index"),
            pools_of(gpu), number(gpu, "busy_share") * 100, bytes_text(number(gpu, "memory_free")),
            bytes_text(number(gpu, "memory_total")), field(gpu, "state"), field(gpu, "name")));
    }
    lines.emplace_back();
    lines.push_back(fmt::format("{:>10} {:<4} {:<6} {:>6} {:>8} {:>5} {:>3} {:>8} {:>9} {}", "VM",
                                "POOL", "PRIO", "GPU%", "REQ/S", "QUEUE", "RUN", "WAIT", "MEMORY",
                                "STATE"));
    const std::size_t foot = 1;
    for (const TopRow& row : rows) {
        if (lines.size() + foot >= height) {
            break;
        }
        lines.push_back(fmt::format(
            "{:>10} {:<4} {:<6} {:>6.1f} {:>8.1f} {:>5.0f} {:>3.0f} {:>8} {:>9} {}", row.vm,
            row.pool, row.priority, row.gpu_percent, row.rate, row.queued, row.running,
            micros_text(row.wait_us), bytes_text(row.memory), state_of(row)));
    }
    lines.resize(std::min(lines.size(), height > 0 ? height - 1 : 0));
    lines.push_back(fmt::format("q quit  s sort (now by {})  p {}  {} VMs",
                                kColumns.at(static_cast<std::size_t>(sort)),
                                paused ? "resume, PAUSED" : "pause", rows.size()));
    std::string text;
    for (const std::string& line : lines) {
        text += cut(line, width);
        text += '\n';
    }
    return text;
}

json top_json(const Sample& now, const std::vector<TopRow>& rows) {
    json vms = json::array();
    for (const TopRow& row : rows) {
        vms.push_back({{"id", row.vm},
                       {"pool", row.pool == "-" ? json() : json(row.pool)},
                       {"priority", row.priority == "-" ? json() : json(row.priority)},
                       {"gpu_percent", row.gpu_percent},
                       {"requests_per_second", row.rate},
                       {"queued", row.queued},
                       {"running", row.running},
                       {"wait_mean_us", row.wait_us},
                       {"memory_used", row.memory},
                       {"connected", row.connected},
                       {"quarantined", row.quarantined},
                       {"throttled", row.throttled}});
    }
    return {{"status", now.status}, {"gpus", now.gpus}, {"vms", vms}};
}

}  // namespace vgpu::ctl
