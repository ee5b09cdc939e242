// SPDX-License-Identifier: MIT
//
// vgpu-bench-load: the real mediator under load, compared with its targets. It must never print a
// figure of a run in which anything failed. A missed target is a figure like any other: the exit
// status only indicates whether everything could be measured.
#include <CLI/CLI.hpp>
#include <array>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "command_line.h"
#include "load.h"
#include "machine.h"
#include "program.h"

namespace {

using vgpu::bench::LoadPlan;
using vgpu::bench::Part;

void run_program(CLI::App& app, int argc, char** argv) {
    LoadPlan plan;
    const std::array parts{Part{"throughput", [&] { return measure_load_throughput(plan); }},
                           Part{"flood", [&] { return measure_flood(plan); }},
                           Part{"memory", [&] { return measure_idle_memory(plan); }},
                           Part{"idle", [&] { return measure_idle_time(plan); }},
                           Part{"fairness", [&] { return measure_fairness(plan); }},
                           Part{"freeing", [&] { return measure_freeing(plan); }}};
    std::string json_path;
    std::vector<std::string> only;
    app.description("Measure the vgpu mediator under load, against its target figures");
    const CLI::Validator count = vgpu::command_line::whole_number(1, 100'000'000);
    vgpu::bench::add_mediator_options(app, plan.mediator, plan.backend);
    vgpu::bench::add_only_option(app, only, parts);
    app.add_option("--rounds", plan.rounds,
                   "Number of rounds; the figures are medians over all rounds")
        ->capture_default_str()
        ->transform(count);
    app.add_option("--connections", plan.connections, "Connections in the throughput measurement")
        ->capture_default_str()
        ->transform(vgpu::command_line::whole_number(1, 400));
    app.add_option("--requests", plan.requests, "Requests per round of the closed loop")
        ->capture_default_str()
        ->transform(count);
    app.add_option("--paced-requests", plan.paced_requests, "Requests per paced round")
        ->capture_default_str()
        ->transform(count);
    app.add_option("--rate", plan.paced_rate, "Requests per second in a paced round")
        ->capture_default_str()
        ->transform(vgpu::command_line::whole_number(1, 1'000'000));
    app.add_option("--samples", plan.flood_samples, "Requests per round of the flood")
        ->capture_default_str()
        ->transform(count);
    app.add_option("--work-us", plan.work_us,
                   "Approximate length of one execution, in microseconds")
        ->capture_default_str()
        ->transform(vgpu::command_line::whole_number(100, 1'000'000));
    app.add_option("--idle-vms", plan.idle_vms, "Idle VMs in the memory measurement")
        ->capture_default_str()
        ->transform(vgpu::command_line::whole_number(1, 100'000));
    app.add_option("--idle-window-ms", plan.idle_window_ms,
                   "Duration of the idle measurement, in milliseconds")
        ->capture_default_str()
        ->transform(count);
    app.add_option("--fair-window-ms", plan.fair_window_ms,
                   "Duration of a fairness round, in milliseconds")
        ->capture_default_str()
        ->transform(count);
    vgpu::bench::add_json_option(app, json_path);
    app.parse(argc, argv);

    vgpu::bench::write_report(json_path, vgpu::bench::measure_parts("vgpu-bench-load", plan.backend,
                                                                    plan.rounds, parts, only));
}

}  // namespace

int main(int argc, char** argv) {
    return vgpu::bench::run_main("vgpu-bench-load", run_program, argc, argv);
}
