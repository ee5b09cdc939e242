// SPDX-License-Identifier: MIT
//
// Options and report format shared by the programs that measure the mediator.
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

// Adds --mediator and --backend. Sets `mediator` to the one in the build folder.
void add_mediator_options(CLI::App& app, std::string& mediator, std::string& backend);
void add_json_option(CLI::App& app, std::string& path);

// A part that can be measured by itself. `measure` throws on failure.
struct Part {
    const char* name;
    std::function<std::vector<Figure>()> measure;
};

// Adds --only, a list of part names.
void add_only_option(CLI::App& app, std::vector<std::string>& only, std::span<const Part> parts);

// Prints a line about the machine, measures the parts named in `only` (all if empty) and prints the
// figures of each part as it completes. Returns the report: {"program", "machine", "backend",
// "rounds", "figures"}.
nlohmann::json measure_parts(const char* program, const std::string& backend, std::size_t rounds,
                             std::span<const Part> parts, const std::vector<std::string>& only);

}  // namespace vgpu::bench
