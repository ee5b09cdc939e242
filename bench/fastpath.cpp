// SPDX-License-Identifier: MIT
//
// vgpu-bench-fastpath: a host process with queues in shared memory on the real mediator, compared
// with what the machine achieves without a mediator. It must never print a figure of a run in which
// anything failed. A missed target is a figure like any other: the exit status only indicates
// whether everything could be measured.
#include "fastpath.h"

#include <CLI/CLI.hpp>
#include <array>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "command_line.h"
#include "machine.h"
#include "program.h"

namespace {

using vgpu::bench::FastPathPlan;
using vgpu::bench::Part;

// Enough for a functional check, not for reliable figures.
void make_quick(FastPathPlan& plan) {
    plan.rounds = 2;
    plan.iterations = 200;
    plan.commands = 5000;
    plan.adds = 5000;
    plan.shm_size = std::uint64_t{16} << 20;
    plan.largest_copy = std::uint64_t{4} << 20;
    plan.copy_rounds = 1;
}

void run_program(CLI::App& app, int argc, char** argv) {
    FastPathPlan plan;
    nlohmann::json bandwidth = nlohmann::json::array();
    const auto measure_copies = [&] {
        vgpu::bench::CopyFigures found = vgpu::bench::measure_copies(plan);
        for (const auto& point : found.points) {
            bandwidth.push_back({{"name", point.name},
                                 {"bytes", point.bytes},
                                 {"gb_per_second", point.gb_per_second}});
        }
        return std::move(found.figures);
    };
    const std::array parts{Part{"latency", [&] { return measure_nop_latency(plan); }},
                           Part{"rate", [&] { return measure_nop_rate(plan); }},
                           Part{"adds", [&] { return measure_adds(plan); }},
                           Part{"copies", measure_copies}};
    std::string json_path;
    std::vector<std::string> only;
    app.description("Measure queues in shared memory against the floors of the machine");
    const CLI::Validator count = vgpu::command_line::whole_number(1, 100'000'000);
    vgpu::bench::add_mediator_options(app, plan.mediator, plan.backend);
    vgpu::bench::add_only_option(app, only, parts);
    app.add_flag_callback(
        "--quick", [&] { make_quick(plan); },
        "Few iterations, as a functional check; later options override it");
    app.add_option("--rounds", plan.rounds,
                   "Number of rounds; the figures are medians over all rounds")
        ->capture_default_str()
        ->transform(count);
    app.add_option("--iterations", plan.iterations, "Round trips per round")
        ->capture_default_str()
        ->transform(count);
    app.add_option("--commands", plan.commands, "Commands per round of the rate measurement")
        ->capture_default_str()
        ->transform(count);
    app.add_option("--window", plan.window, "Commands in flight in the rate measurement")
        ->capture_default_str()
        ->transform(vgpu::command_line::whole_number(2, 256));
    app.add_option("--adds", plan.adds, "Number of additions, each checked")
        ->capture_default_str()
        ->transform(count);
    vgpu::bench::add_json_option(app, json_path);
    app.parse(argc, argv);

    nlohmann::json report =
        vgpu::bench::measure_parts("vgpu-bench-fastpath", plan.backend, plan.rounds, parts, only);
    report["bandwidth_in_flight"] = plan.copies_in_flight;
    report["bandwidth"] = bandwidth;
    vgpu::bench::write_report(json_path, report);
}

}  // namespace

int main(int argc, char** argv) {
    return vgpu::bench::run_main("vgpu-bench-fastpath", run_program, argc, argv);
}
