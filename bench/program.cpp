// SPDX-License-Identifier: MIT
#include "program.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>

#include "machine.h"

namespace vgpu::bench {

void add_mediator_options(CLI::App& app, std::string& mediator, std::string& backend) {
    mediator = VGPU_MEDIATOR_PATH;
    app.add_option("--mediator", mediator, "Path of the vgpu-mediator to start")
        ->capture_default_str()
        ->check(CLI::ExistingFile);
    app.add_option("--backend", backend, "The mediator's backend: cpu, cuda or auto")
        ->capture_default_str()
        ->check(CLI::IsMember({"cpu", "cuda", "auto"}));
}

void add_json_option(CLI::App& app, std::string& path) {
    app.add_option("--json", path, "Write the figures to this file");
}

void add_only_option(CLI::App& app, std::vector<std::string>& only, std::span<const Part> parts) {
    std::vector<std::string> names;
    names.reserve(parts.size());
    for (const Part& part : parts) {
        names.emplace_back(part.name);
    }
    app.add_option("--only", only, "Measure only these parts, separated by commas")
        ->delimiter(',')
        ->check(CLI::IsMember(names));
}

nlohmann::json measure_parts(const char* program, const std::string& backend, std::size_t rounds,
                             std::span<const Part> parts, const std::vector<std::string>& only) {
    const nlohmann::json machine = describe_machine();
    fmt::print("{}, {} cores, Linux {}, load average {}; backend {}; medians of {} rounds\n\n",
               machine.at("cpu").get<std::string>(), machine.at("cores").get<int>(),
               machine.at("kernel").get<std::string>(), machine.at("load_average").dump(), backend,
               rounds);
    nlohmann::json figures = nlohmann::json::array();
    for (const Part& part : parts) {
        if (!only.empty() && std::ranges::count(only, part.name) == 0) {
            continue;
        }
        for (const Figure& figure : part.measure()) {
            print_figure(figure);
            figures.push_back(to_json(figure));
        }
        static_cast<void>(std::fflush(stdout));
    }
    return {{"program", program},
            {"machine", machine},
            {"backend", backend},
            {"rounds", rounds},
            {"figures", figures}};
}

}  // namespace vgpu::bench
