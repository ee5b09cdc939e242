// SPDX-License-Identifier: MIT
//
// vgpu-bench-fastpath: what a host process gets out of the real mediator by queues in shared
// memory, beside what the machine can do with nothing between. It must never print a figure of a
// run in which anything went wrong. A target that is missed is a figure like the others: the exit
// status says only whether everything could be measured.
#include "fastpath.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "machine.h"

namespace {

using vgpu::bench::CopyFigures;
using vgpu::bench::FastPathPlan;

struct Part {
    const char* name;
    CopyFigures (*measure)(const FastPathPlan&);
};
template <std::vector<vgpu::bench::Figure> (*kMeasure)(const FastPathPlan&)>
CopyFigures figures_alone(const FastPathPlan& plan) {
    return {.figures = kMeasure(plan), .points = {}};
}
constexpr std::array kParts{Part{"latency", figures_alone<vgpu::bench::measure_nop_latency>},
                            Part{"rate", figures_alone<vgpu::bench::measure_nop_rate>},
                            Part{"adds", figures_alone<vgpu::bench::measure_adds>},
                            Part{"copies", vgpu::bench::measure_copies}};

// Enough to see that everything works, not to trust a figure.
void make_quick(FastPathPlan& plan) {
    plan.rounds = 2;
    plan.iterations = 200;
    plan.commands = 5000;
    plan.adds = 5000;
    plan.shm_size = std::uint64_t{16} << 20;
    plan.largest_copy = std::uint64_t{4} << 20;
    plan.copy_rounds = 1;
}

int run_program(int argc, char** argv) {
    FastPathPlan plan;
    plan.mediator = VGPU_MEDIATOR_PATH;
    std::string json_path;
    std::vector<std::string> only;
    CLI::App app("Measures queues in shared memory beside the floors of the machine");
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
    app.add_flag_callback(
        "--quick", [&] { make_quick(plan); },
        "Few iterations, to see that it works; options behind it win");
    app.add_option("--rounds", plan.rounds, "Rounds; the figures are medians over them")
        ->capture_default_str()
        ->check(count);
    app.add_option("--iterations", plan.iterations, "Round trips in a round")
        ->capture_default_str()
        ->check(count);
    app.add_option("--commands", plan.commands, "Commands in a round of the rate")
        ->capture_default_str()
        ->check(count);
    app.add_option("--window", plan.window, "Commands under way there")
        ->capture_default_str()
        ->check(CLI::Range(std::size_t{2}, std::size_t{256}));
    app.add_option("--adds", plan.adds, "Additions, each checked")
        ->capture_default_str()
        ->check(count);
    app.add_option("--json", json_path, "Write the figures to this file");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }

    const nlohmann::json machine = vgpu::bench::describe_machine();
    fmt::print("{}, {} cores, Linux {}, load average {}; backend {}; medians of {} rounds\n\n",
               machine.at("cpu").get<std::string>(), machine.at("cores").get<int>(),
               machine.at("kernel").get<std::string>(), machine.at("load_average").dump(),
               plan.backend, plan.rounds);
    nlohmann::json figures = nlohmann::json::array();
    nlohmann::json bandwidth = nlohmann::json::array();
    for (const Part& part : kParts) {
        if (!only.empty() && std::ranges::count(only, part.name) == 0) {
            continue;
        }
        const CopyFigures found = part.measure(plan);
        for (const auto& figure : found.figures) {
            print_figure(figure);
            figures.push_back(to_json(figure));
        }
        for (const auto& point : found.points) {
            bandwidth.push_back({{"name", point.name},
                                 {"bytes", point.bytes},
                                 {"gb_per_second", point.gb_per_second}});
        }
        static_cast<void>(std::fflush(stdout));
    }
    if (!json_path.empty()) {
        vgpu::bench::write_report(json_path, {{"program", "vgpu-bench-fastpath"},
                                              {"machine", machine},
                                              {"backend", plan.backend},
                                              {"rounds", plan.rounds},
                                              {"bandwidth_in_flight", plan.copies_in_flight},
                                              {"figures", figures},
                                              {"bandwidth", bandwidth}});
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run_program(argc, argv);
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "vgpu-bench-fastpath: %s\n", error.what()));
        return 1;
    }
}
