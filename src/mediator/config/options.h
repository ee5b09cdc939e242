// SPDX-License-Identifier: MIT
//
// The command line of vgpu-mediator. Used at start-up only.
#pragma once

#include <optional>
#include <string>

#include "mediator/config/config.h"

namespace vgpu {

inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;

struct Options {
    Config config;
    std::string config_path;  // empty: none
};

// Writes one line to standard error, prefixed with the program's name. A write error is ignored:
// there is no other place to report it.
void complain(const std::string& message);

// What to do next: run with `options`, or print `error`, unless it is empty, and exit with
// `exit_status`.
struct ParsedOptions {
    std::optional<Options> options;
    int exit_status = 0;
    std::string error{};
    std::optional<std::uint64_t> error_line{};  // in the file, if the error is there
};

// Reads the file named by --config, if any, then applies the other options over it. Prints the
// output of --help, --version and --check-config itself and then returns no options.
ParsedOptions parse_options(int argc, const char* const* argv);

}  // namespace vgpu
