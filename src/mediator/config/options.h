// SPDX-License-Identifier: MIT
//
// The command line of vgpu-mediator. Starting up only.
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

// Writes one line to standard error, with the program's name before it. A standard error that takes
// nothing leaves nobody to tell, so there is no result.
void complain(const std::string& message);

// What to do next: run with these options, or print `error`, unless it is empty, and exit with this
// status.
struct ParsedOptions {
    std::optional<Options> options;
    int exit_status = 0;
    std::string error{};
};

// Reads the file named by --config, if any, then applies the other options over it. Prints what
// --help, --version and --check-config ask for, and then gives no options.
ParsedOptions parse_options(int argc, const char* const* argv);

}  // namespace vgpu
