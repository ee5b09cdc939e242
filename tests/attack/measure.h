// SPDX-License-Identifier: MIT
//
// One attack, measured: a mediator of its own, a victim beside it, first without and then with the
// attacker, and the time that the mediator takes to exit while the attack goes on.
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
    std::chrono::milliseconds length{4000};  // of the period without and of that with the attacker
    // The period without the attacker has a process in it that keeps a processor busy: what is
    // different in the other period then comes through the mediator.
    bool busy_off = false;
};

// The bars that a mediator has to meet.
struct Bars {
    double p99_ratio = 3;       // with the attacker against without, on each path
    double longest = 50e6;      // nanoseconds, with the attacker
    double exit_seconds = 0.5;  // from SIGTERM to the exit
};

// The mediator's own bound on the time between two looks at a source of work.
struct LoopLatency {
    double seconds = 0;
    std::string source;
};

struct Result {
    const Attack* attack = nullptr;
    Period off;
    Period on;
    double seconds = 0;                           // length of each period
    std::uint64_t steps = 0;                      // of the attacker, within the second period
    std::string attacker_failure;                 // why it ended too early; empty if it did not
    std::optional<std::string> newcomer_failure;  // empty: it was served; nothing: not tried
    std::optional<LoopLatency> loop_latency;      // nothing: no such metric, or no answer
    double exit_seconds = 0;
    bool killed = false;              // it did not exit within the limit
    int exit_status = 0;              // 128 + signal
    std::vector<std::string> missed;  // the bars, one sentence each
    std::vector<std::string> log;     // last lines of the mediator, where something broke
};

// Throws std::runtime_error or std::system_error if it cannot be measured.
Result measure(const Attack& attack, const Plan& plan);

// p99 with the attacker against p99 without; 0 if there is nothing to compare.
double p99_ratio(const PathPeriod& off, const PathPeriod& on);
// The bars that `result` misses.
std::vector<std::string> missed_bars(const Result& result, const Bars& bars = {});
// The largest sample of vgpu_loop_latency_seconds{source="…"} in Prometheus' text format; nothing
// if there is none.
std::optional<LoopLatency> largest_loop_latency(const std::string& metrics);

}  // namespace vgpu::attack
