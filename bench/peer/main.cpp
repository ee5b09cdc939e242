// SPDX-License-Identifier: MIT
//
// vgpu-bench-peer: what stands on the host at the other end of vgpu-bench-guest. It says what it
// listens on and serves until it is ended.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>

#include "peers.h"

namespace {

void run_program(const CLI::App& app, const std::string& place, std::uint16_t port,
                 std::uint32_t interval_ms) {
    if (app.got_subcommand("file")) {
        vgpu::bench::FileServer(place).serve(std::chrono::milliseconds(interval_ms));
    }
    if (app.got_subcommand("tcp")) {
        vgpu::bench::serve_tcp_echo(port);
    }
    vgpu::bench::serve_unix_echo(place);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        std::string place;
        std::uint16_t port = 0;
        std::uint32_t interval_ms = 1000;
        CLI::App app("The host's side of what vgpu is compared with; serves until it is ended");
        app.require_subcommand(1);
        CLI::App* file = app.add_subcommand("file", "The old protocol of text files");
        file->add_option("directory", place, "The folder that holds the VMs' folders")
            ->required()
            ->check(CLI::ExistingDirectory);
        file->add_option("--interval-ms", interval_ms, "Time between two looks")
            ->capture_default_str()
            ->check(CLI::Range(1U, 3'600'000U));
        app.add_subcommand("tcp", "Echo by TCP on the loopback interface")
            ->add_option("--port", port, "0: any")
            ->capture_default_str();
        app.add_subcommand("unix", "Echo on a Unix socket, for a chardev")
            ->add_option("path", place, "The socket to make")
            ->required();
        try {
            app.parse(argc, argv);
        } catch (const CLI::ParseError& error) {
            return app.exit(error) == 0 ? 0 : 2;
        }
        run_program(app, place, port, interval_ms);
        return 0;
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "vgpu-bench-peer: %s\n", error.what()));
        return 1;
    }
}
