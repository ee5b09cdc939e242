// SPDX-License-Identifier: MIT
//
// Measures one attack on a dedicated mediator with a victim, first without and then with the
// attacker, and the mediator's exit time while the attack continues.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "attack.h"
#include "victim.h"

namespace vgpu::attack {

struct Plan {
    std::string mediator;                    // the program
    std::chrono::milliseconds length{4000};  // of each period, without and with the attacker
    // Runs a process that keeps a processor busy during the period without the attacker: the
    // remaining difference is then caused through the mediator.
    bool busy_off = false;
};

// Limits that a mediator has to meet.
struct Bars {
    double p99_ratio = 3;       // with the attacker relative to without, per path
    double longest = 50e6;      // nanoseconds, with the attacker
    double exit_seconds = 0.5;  // from SIGTERM to the exit
};

// The mediator's own bound on the time between two polls of a work source.
struct LoopLatency {
    double seconds = 0;
    std::string source;
};

struct Result {
    const Attack* attack = nullptr;
    Period off;
    Period on;
    double seconds = 0;                           // length of each period
    std::uint64_t steps = 0;                      // of the attacker, during the second period
    std::string attacker_failure;                 // why it ended too early; empty if it did not
    std::optional<std::string> newcomer_failure;  // empty: served; nullopt: not tried
    std::optional<LoopLatency> loop_latency;      // nullopt: no such metric or no response
    double exit_seconds = 0;
    bool killed = false;              // did not exit within the limit
    int exit_status = 0;              // 128 + signal
    std::vector<std::string> missed;  // error texts, one per missed bar
    std::vector<std::string> log;     // last log lines of the mediator after a failure
};

// Throws std::runtime_error or std::system_error if it cannot measure.
Result measure(const Attack& attack, const Plan& plan);

// Returns p99 with the attacker relative to p99 without; 0 if there is no p99 without.
double p99_ratio(const PathPeriod& off, const PathPeriod& on);
// Returns the bars that `result` misses.
std::vector<std::string> missed_bars(const Result& result, const Bars& bars = {});
// Returns the largest sample of vgpu_loop_latency_seconds{source="…"} in Prometheus' text format;
// nullopt if there is none.
std::optional<LoopLatency> largest_loop_latency(const std::string& metrics);

}  // namespace vgpu::attack
