// SPDX-License-Identifier: MIT
//
// The commands of vgpuctl: each calls the admin API and prints the response, as text or as JSON.
// Error texts go to standard error, JSON errors to standard output.
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
    std::chrono::milliseconds limit{10'000};  // per call
};

// Formats a response as text.
using Shown = std::string (*)(const nlohmann::json&);

// Sends a GET of `target`, or another method with a body; `shown` formats the response.
int run_get(const Settings& settings, const std::string& target, Shown shown);
int run_change(const Settings& settings, const char* method, const std::string& target,
               const nlohmann::json& body, Shown shown);

int run_events(const Settings& settings, const std::string& query);
int run_metrics(const Settings& settings);
// Interactive on a terminal until q; otherwise prints one screen after `interval`.
int run_top_command(const Settings& settings, std::chrono::milliseconds interval);

// Format the responses of drain and reload.
std::string drain_text(const nlohmann::json& answer);
std::string reload_text(const nlohmann::json& answer);
// Formats one pool like the list of pools.
std::string pool_text(const nlohmann::json& pool);

}  // namespace vgpu::ctl
