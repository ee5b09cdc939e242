// SPDX-License-Identifier: MIT
//
// vgpu-attack: the service that a well-behaved VM gets from a real mediator under attack.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "child.h"
#include "command_line.h"
#include "machine.h"
#include "measure.h"
#include "report.h"

namespace {

using vgpu::attack::Attack;

constexpr const char* kDescription =
    "Measure the service that a well-behaved VM gets from vgpu-mediator while another VM attacks "
    "it";

constexpr const char* kFooter = R"(For each attack:
  1. starts its own mediator: CPU backend, sockets in a temporary folder
  2. starts the victim, a process with two VMs: VM 1 does additions by requests over the socket,
     VM 2 by commands in a queue in shared memory; each starts the next one 1 ms after the last
     response, and checks every sum
  3. measures both without the attacker (off), then with the attacker (on)
  4. sends SIGTERM while the attack continues and measures the time to the exit; after 15 s: SIGKILL

The table has two lines per attack, one for each path of the victim:
  served        additions with a response
  wrong         additions with a wrong sum, both periods together
  p50, p99      time from submission to response
  p99 on/off    the ratio of the two
  longest       the longest such time, a stall; an addition without a response counts with its wait
  SIGTERM       time to the exit
  loop latency  the largest vgpu_loop_latency_seconds of the mediator's own metrics and its source;
                - if it has no such metric or does not answer within 1 s
  attacker      what the attacker did: messages, commands, connections or the like

Limits, for each attack: p99 on is at most 3 times p99 off, no stall is over 50 ms, no sum is
wrong, the exit comes within 0.5 s of SIGTERM. Compare the rest with "quiet" and "busy": on a machine
with few CPUs, the attacker slows the victim by its use of a CPU (see --busy-off).

Exit status: 0 if all limits are met; 1 if one is exceeded, or something cannot be measured; 2 if
the command line is invalid.)";

std::vector<Attack> all_attacks() {
    std::vector<Attack> all;
    for (const auto group : {vgpu::attack::control_runs(), vgpu::attack::queue_attacks(),
                             vgpu::attack::message_attacks(), vgpu::attack::connection_attacks(),
                             vgpu::attack::descriptor_attacks()}) {
        all.insert(all.end(), group.begin(), group.end());
    }
    return all;
}

std::vector<std::string> names_of(const std::vector<Attack>& attacks) {
    std::vector<std::string> names;
    names.reserve(attacks.size());
    for (const Attack& attack : attacks) {
        names.emplace_back(attack.name);
    }
    return names;
}

void list(const std::vector<Attack>& attacks) {
    for (const Attack& attack : attacks) {
        fmt::print("{:<16}{}\n", attack.name, attack.description);
    }
}

// Measures the attacks in `only`, or all if it is empty. Throws std::runtime_error, after all of
// them, if a bar was missed.
void run_attacks(const std::vector<Attack>& attacks, const std::vector<std::string>& only,
                 const vgpu::attack::Plan& plan, const std::string& json_path) {
    const nlohmann::json machine = vgpu::bench::describe_machine();
    fmt::print("{}, {} cores, Linux {}, load average {}; {} ms without and with the attacker\n\n",
               machine.at("cpu").get<std::string>(), machine.at("cores").get<int>(),
               machine.at("kernel").get<std::string>(), machine.at("load_average").dump(),
               plan.length.count());
    vgpu::attack::print_head();
    nlohmann::json results = nlohmann::json::array();
    std::string missed;
    for (const Attack& attack : attacks) {
        if (!only.empty() && std::ranges::count(only, attack.name) == 0) {
            continue;
        }
        const auto result = vgpu::attack::measure(attack, plan);
        vgpu::attack::print_result(result);
        results.push_back(to_json(result));
        if (!result.missed.empty()) {
            missed += missed.empty() ? "" : ", ";
            missed += attack.name;
        }
    }
    vgpu::bench::write_report(json_path, {{"program", "vgpu-attack"},
                                          {"machine", machine},
                                          {"period_ms", plan.length.count()},
                                          {"busy_off", plan.busy_off},
                                          {"attacks", results},
                                          {"met", missed.empty()}});
    if (!missed.empty()) {
        throw std::runtime_error("limits were exceeded by: " + missed);
    }
    fmt::print("\nall limits are met\n");
}

void run_program(CLI::App& app, int argc, char** argv) {
    const std::vector<Attack> attacks = all_attacks();
    vgpu::attack::Plan plan{.mediator = VGPU_MEDIATOR_PATH};
    std::vector<std::string> only;
    std::string json_path;
    double seconds = 4;
    bool list_only = false;
    app.description(kDescription);
    app.footer(kFooter);
    app.add_option("--mediator", plan.mediator, "Path of the vgpu-mediator to start")
        ->capture_default_str()
        ->check(CLI::ExistingFile);
    app.add_option("--attack", only, "Run only this attack; may be given several times")
        ->allow_extra_args(false)
        ->check(CLI::IsMember(names_of(attacks)));
    app.add_option("--seconds", seconds, "Length of each of the two periods, in seconds")
        ->capture_default_str()
        ->transform(vgpu::command_line::fraction(0.1, 3600));
    app.add_flag("--busy-off", plan.busy_off,
                 "Keep a CPU busy while measuring without the attacker: the ratio then excludes "
                 "the attacker's use of a CPU");
    app.add_flag("--list", list_only, "List the attacks and exit");
    app.add_option("--json", json_path, "Write the results to this file");
    app.parse(argc, argv);

    if (list_only) {
        list(attacks);
        return;
    }
    plan.length = std::chrono::milliseconds(static_cast<long>(seconds * 1000));
    vgpu::attack::stop_on_signals();
    try {
        run_attacks(attacks, only, plan, json_path);
    } catch (const vgpu::attack::Stopped&) {
        throw std::runtime_error("stopped by a signal");
    }
}

}  // namespace

int main(int argc, char** argv) {
    return vgpu::bench::run_main("vgpu-attack", run_program, argc, argv);
}
