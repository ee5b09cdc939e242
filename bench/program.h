// SPDX-License-Identifier: MIT
//
// What the programs that measure the mediator have in common, so that they take the same options
// and report in the same form.
#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "figure.h"

namespace vgpu::bench {

// --mediator and --backend. Sets `mediator` to the one in the build folder.
void add_mediator_options(CLI::App& app, std::string& mediator, std::string& backend);
void add_json_option(CLI::App& app, std::string& path);

// What can be measured by itself. `measure` throws if anything goes wrong.
struct Part {
    const char* name;
    std::function<std::vector<Figure>()> measure;
};

// --only: names of parts.
void add_only_option(CLI::App& app, std::vector<std::string>& only, std::span<const Part> parts);

// Prints a line about the machine, measures the parts named in `only`, or all where it is empty,
// and prints the figures of each as they come. Returns the report: {"program", "machine",
// "backend", "rounds", "figures"}.
nlohmann::json measure_parts(const char* program, const std::string& backend, std::size_t rounds,
                             std::span<const Part> parts, const std::vector<std::string>& only);

}  // namespace vgpu::bench
