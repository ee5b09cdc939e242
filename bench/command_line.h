// SPDX-License-Identifier: MIT
//
// The main() of every program here. A header that needs CLI11 alone, for vgpu-bench-guest, which is
// linked statically.
#pragma once

#include <CLI/CLI.hpp>

#include "base/command_line.h"
#include "base/program.h"

namespace vgpu::bench {

// Exit status 0: `run` returned or printed help, and all of the output arrived; 2: the command line
// that it let the app parse is wrong; 1: it threw something else, which goes to standard error, or
// output is lost. What the options set may be gone by the time help is printed: the text holds
// copies of the defaults.
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
