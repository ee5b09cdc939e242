// SPDX-License-Identifier: MIT
//
// vgpu-bench-peer: host side of vgpu-bench-guest. It prints the address it listens on and serves
// until it is terminated.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <string>

#include "command_line.h"
#include "peers.h"

namespace {

void run_program(CLI::App& app, int argc, char** argv) {
    std::string place;
    std::uint16_t port = 0;
    std::uint32_t interval_ms = 1000;
    app.description(
        "Host side of the transports that vgpu is compared with; runs until it is terminated");
    app.require_subcommand(1);
    CLI::App* file = app.add_subcommand("file", "The old protocol with text files");
    file->add_option("directory", place, "Folder with one folder per VM")
        ->required()
        ->check(CLI::ExistingDirectory);
    file->add_option("--interval-ms", interval_ms, "Time between two polls")
        ->capture_default_str()
        ->transform(vgpu::command_line::whole_number(1, 3'600'000));
    app.add_subcommand("tcp", "Echo over TCP on the loopback interface")
        ->add_option("--port", port, "Port to listen on; 0: any free port")
        ->capture_default_str()
        ->transform(vgpu::command_line::whole_number(0, 65535));
    app.add_subcommand("unix", "Echo on a Unix socket, for a chardev")
        ->add_option("path", place, "Path of the socket to create")
        ->required();
    app.parse(argc, argv);
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
    return vgpu::bench::run_main("vgpu-bench-peer", run_program, argc, argv);
}
