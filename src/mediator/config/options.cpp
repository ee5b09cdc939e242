// SPDX-License-Identifier: MIT
#include "mediator/config/options.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "base/command_line.h"

namespace vgpu {
namespace {

ParsedOptions usage_error(const std::string& message) {
    return {std::nullopt, kExitUsage, message + "\nTry 'vgpu-mediator --help'."};
}

}  // namespace

void complain(const std::string& message) {
    static_cast<void>(std::fprintf(stderr, "vgpu-mediator: %s\n", message.c_str()));
}

ParsedOptions parse_options(int argc, const char* const* argv) {
    CLI::App app{
        "Run GPU requests of all virtual machines on this host.\n\n"
        "Each VM's vgpu-stub device connects to the socket; requests are queued by pool and\n"
        "priority and run on the GPU, or on the CPU if there is no GPU.",
        "vgpu-mediator"};
    app.set_version_flag("--version", "vgpu-mediator " VGPU_VERSION);
    std::vector<std::string> sockets;
    std::string backend;
    int device = 0;
    std::string config_path;
    std::string pools;
    std::string log_level;
    std::string log_target;
    std::string admin_socket;
    bool check_only = false;
    app.add_option("--socket", sockets,
                   "Listen on this path; may be given several times (default " VGPU_DEFAULT_SOCKET
                   ")")
        ->type_name("PATH")
        ->allow_extra_args(false);
    app.add_option("--backend", backend,
                   "auto, cpu or cuda (default auto: CUDA if a GPU is usable, else the CPU)")
        ->type_name("NAME");
    const auto* const device_option =
        app.add_option("--device", device, "CUDA device to use (default 0)")
            ->type_name("N")
            ->transform(command_line::whole_number(0, 1023));
    app.add_option("--config", config_path, "Configuration file (TOML); options override it")
        ->type_name("FILE");
    app.add_option("--pools", pools, "Pools to serve, one letter each (default A,B)")
        ->type_name("A,B,…");
    app.add_option("--log-level", log_level, "trace, debug, info, warn or error (default info)")
        ->type_name("LEVEL");
    app.add_option("--log-target", log_target,
                   "auto, journal or stderr (default auto: the journal if standard error is "
                   "connected to it)")
        ->type_name("NAME");
    const auto* const admin_option =
        app.add_option("--admin-socket", admin_socket,
                       "Serve the admin API on this path; \"\" disables it (default: "
                       "/run/vgpu/admin.sock, none with other sockets)")
            ->type_name("PATH");
    app.add_flag("--check-config", check_only, "Check configuration and options, then exit");
    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& success) {
        command_line::print(app, success);
        return {std::nullopt, 0};
    } catch (const CLI::ParseError& error) {
        return {std::nullopt, kExitUsage,
                command_line::UsageError("vgpu-mediator", app, error).text()};
    }

    Options options;
    options.config_path = config_path;
    Config& config = options.config;
    if (!config_path.empty()) {
        if (const auto loaded = load_config_file(config_path, config); !loaded) {
            return {std::nullopt, kExitFailure, loaded.error().message, loaded.error().line};
        }
    }
    if (!sockets.empty()) {
        config.sockets = sockets;
    }
    if (!backend.empty()) {
        const auto parsed = parse_backend(backend);
        if (!parsed) {
            return usage_error(parsed.error().message);
        }
        config.backend = *parsed;
    }
    if (device_option->count() > 0) {
        config.device = device;
    }
    if (!pools.empty()) {
        const auto parsed = parse_pools(pools);
        if (!parsed) {
            return usage_error(parsed.error().message);
        }
        config.mediator.pools = *parsed;
    }
    if (admin_option->count() > 0) {
        config.admin_socket = admin_socket;
    }
    if (!log_level.empty()) {
        if (!is_log_level(log_level)) {
            return usage_error("log level '" + log_level +
                               "' is not one of trace, debug, info, warn, error");
        }
        config.log_level = log_level;
    }
    if (!log_target.empty()) {
        const auto parsed = parse_log_target(log_target);
        if (!parsed) {
            return usage_error(parsed.error().message);
        }
        config.log_target = *parsed;
    }
    if (check_only) {
        std::cout << "configuration is valid\n";
        return {std::nullopt, 0};
    }
    return {std::move(options), 0};
}

}  // namespace vgpu
