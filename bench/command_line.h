// SPDX-License-Identifier: MIT
//
// The main() of every program here. A header that needs CLI11 alone, for vgpu-bench-guest, which is
// linked statically.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

namespace vgpu::bench {

// Exit status 0: `run` returned or printed help; 2: the command line that it let the app parse is
// wrong; 1: it threw something else, which goes to standard error. What the options set may be gone
// by the time help is printed: the text holds copies of the defaults.
inline int run_main(const char* program, void (*run)(CLI::App& app, int argc, char** argv),
                    int argc, char** argv) {
    try {
        CLI::App app;
        try {
            run(app, argc, argv);
            return 0;
        } catch (const CLI::ParseError& error) {
            return app.exit(error) == 0 ? 0 : 2;
        }
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "%s: %s\n", program, error.what()));
        return 1;
    }
}

}  // namespace vgpu::bench
