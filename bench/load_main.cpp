// SPDX-License-Identifier: MIT
//
// vgpu-bench-load: what the real mediator does under load, beside the figures that it is to reach.
// It must never print a figure of a run in which anything went wrong. A target that is missed is
// a figure like the others: the exit status says only whether everything could be measured.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "load.h"
#include "machine.h"

namespace {

using vgpu::bench::Figure;
using vgpu::bench::LoadPlan;

struct Part {
    const char* name;
    std::vector<Figure> (*measure)(const LoadPlan&);
};
constexpr std::array kParts{
    Part{"throughput", vgpu::bench::measure_load_throughput},
    Part{"flood", vgpu::bench::measure_flood}, Part{"memory", vgpu::bench::measure_idle_memory},
    Part{"idle", vgpu::bench::measure_idle_time}, Part{"fairness", vgpu::bench::measure_fairness}};

int run_program(int argc, char** argv) {
    LoadPlan plan;
    plan.mediator = VGPU_MEDIATOR_PATH;
    std::string json_path;
    std::vector<std::string> only;
    CLI::App app("Measures the vgpu mediator under load, beside the figures that it is to reach");
    const CLI::Range count(std::size_t{1}, std::size_t{100'000'000});
    app.add_option("--mediator", plan.mediator, "The vgpu-mediator to start")
        ->capture_default_str()
        ->check(CLI::ExistingFile);
    app.add_option("--backend", plan.backend, "Backend of the mediator: cpu, cuda or auto")
        ->capture_default_str()
        ->check(CLI::IsMember({"cpu", "cuda", "auto"}));
    std::vector<std::string> names;
    names.reserve(kParts.size());
    for (const Part& part : kParts) {
        names.emplace_back(part.name);
    }
    app.add_option("--only", only, "Measure these parts alone, separated by commas")
        ->delimiter(',')
        ->check(CLI::IsMember(names));
    app.add_option("--rounds", plan.rounds, "Rounds; the figures are medians over them")
        ->capture_default_str()
        ->check(count);
    app.add_option("--connections", plan.connections, "Connections for the throughput")
        ->capture_default_str()
        ->check(CLI::Range(std::size_t{1}, std::size_t{400}));
    app.add_option("--requests", plan.requests, "Requests in a round of the closed loop")
        ->capture_default_str()
        ->check(count);
    app.add_option("--paced-requests", plan.paced_requests, "Requests in a paced round")
        ->capture_default_str()
        ->check(count);
    app.add_option("--rate", plan.paced_rate, "Requests per second of a paced round")
        ->capture_default_str()
        ->check(CLI::Range(std::size_t{1}, std::size_t{1'000'000}));
    app.add_option("--samples", plan.flood_samples, "Requests in a round of the flood")
        ->capture_default_str()
        ->check(count);
    app.add_option("--work-us", plan.work_us, "Length of one execution, microseconds, about")
        ->capture_default_str()
        ->check(CLI::Range(std::size_t{100}, std::size_t{1'000'000}));
    app.add_option("--idle-vms", plan.idle_vms, "Idle VMs whose memory is measured")
        ->capture_default_str()
        ->check(CLI::Range(std::size_t{1}, std::size_t{100'000}));
    app.add_option("--idle-window-ms", plan.idle_window_ms, "How long the idle mediator is watched")
        ->capture_default_str()
        ->check(count);
    app.add_option("--fair-window-ms", plan.fair_window_ms, "How long VMs share the GPU in a round")
        ->capture_default_str()
        ->check(count);
    app.add_option("--json", json_path, "Write the figures to this file");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }

    const nlohmann::json machine = vgpu::bench::describe_machine();
    nlohmann::json figures = nlohmann::json::array();
    fmt::print("{}, {} cores, Linux {}, load average {}; backend {}; medians of {} rounds\n\n",
               machine.at("cpu").get<std::string>(), machine.at("cores").get<int>(),
               machine.at("kernel").get<std::string>(), machine.at("load_average").dump(),
               plan.backend, plan.rounds);
    for (const Part& part : kParts) {
        if (!only.empty() && std::ranges::count(only, part.name) == 0) {
            continue;
        }
        for (const Figure& figure : part.measure(plan)) {
            print_figure(figure);
            figures.push_back(to_json(figure));
        }
    }
    if (!json_path.empty()) {
        const nlohmann::json report{{"program", "vgpu-bench-load"},
                                    {"machine", machine},
                                    {"backend", plan.backend},
                                    {"rounds", plan.rounds},
                                    {"figures", figures}};
        vgpu::bench::write_report(json_path, report);
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run_program(argc, argv);
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "vgpu-bench-load: %s\n", error.what()));
        return 1;
    }
}
