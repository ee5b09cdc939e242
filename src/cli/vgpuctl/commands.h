// SPDX-License-Identifier: MIT
//
// The commands of vgpuctl: each makes calls of the admin API and prints what they answer, in words
// or as JSON. Complaints in words go to standard error, JSON to standard output.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace vgpu::ctl {

enum ExitStatus : int { kSuccess = 0, kFailure = 1, kUsage = 2 };

struct Settings {
    std::string socket = "/run/vgpu/admin.sock";
    bool json = false;
    std::chrono::milliseconds limit{10'000};  // for one call
};

// How an answer is shown to people.
using Shown = std::string (*)(const nlohmann::json&);

// GET `target`, or another method with a body; `shown` makes words of the answer.
int run_get(const Settings& settings, const std::string& target, Shown shown);
int run_change(const Settings& settings, const char* method, const std::string& target,
               const nlohmann::json& body, Shown shown);

int run_events(const Settings& settings, const std::string& query);
int run_metrics(const Settings& settings);
// On a terminal until q, else one picture of `interval`.
int run_top_command(const Settings& settings, std::chrono::milliseconds interval);

// What drain and reload say.
std::string drain_text(const nlohmann::json& answer);
std::string reload_text(const nlohmann::json& answer);
// One pool as the list of pools shows it.
std::string pool_text(const nlohmann::json& pool);

}  // namespace vgpu::ctl
