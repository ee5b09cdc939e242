// SPDX-License-Identifier: MIT
//
// Shared main() of the benchmark programs. Depends on CLI11 only, so that the statically linked
// vgpu-bench-guest can use it.
#pragma once

#include <CLI/CLI.hpp>

#include "base/command_line.h"
#include "base/program.h"

namespace vgpu::bench {

// Calls `run` and returns the exit status: 0 if it returned or printed help and all output was
// written, 2 if the command line is invalid, 1 if it threw another exception (reported on standard
// error) or output was lost. Variables bound to options may be destroyed before help is printed;
// the help text therefore holds copies of the defaults.
inline int run_main(const char* name, void (*run)(CLI::App& app, int argc, char** argv), int argc,
                    char** argv) {
    return program::run(name, [&] {
        CLI::App app("", name);
        try {
            run(app, argc, argv);
            return 0;
        } catch (const CLI::ParseError& error) {
            return command_line::end_parse(name, app, error);
        }
    });
}

}  // namespace vgpu::bench
