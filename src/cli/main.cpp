// SPDX-License-Identifier: MIT
//
// vgpu: the program for the person inside a VM. Reads the command line and calls one command.
// Exit status: 0 done, 1 it failed (the sentence says why), 2 the command line is wrong.
#include <CLI/CLI.hpp>
#include <exception>
#include <iostream>
#include <map>
#include <string>

#include "cli/common.h"

namespace {

using vgpu::cli::Settings;

const std::map<std::string, vgpu_wait_mode> kWaitModes{
    {"auto", VGPU_WAIT_AUTO}, {"poll", VGPU_WAIT_POLL}, {"interrupt", VGPU_WAIT_INTERRUPT}};

int parse_and_run(int argc, char** argv) {
    CLI::App app{"Use the GPU of this VM's vgpu-stub device."};
    app.set_version_flag("--version", std::string("vgpu ") + vgpu_version());
    app.require_subcommand(1);
    app.fallthrough();
    app.footer("Exit status: 0 done, 1 failure, 2 wrong usage.");

    Settings settings;
    double timeout_s = 35;
    app.add_flag("--json", settings.json, "Print one JSON document instead of words");
    app.add_option("--device", settings.open.address,
                   "PCI address of the device (see 'vgpu list'); default: the first")
        ->type_name("ADDR");
    app.add_option("--timeout", timeout_s, "Longest wait for an answer, in seconds")
        ->type_name("S")
        ->check(CLI::Range(0.001, 86400.0))
        ->capture_default_str();
    std::string wait = "auto";
    app.add_option("--wait", wait,
                   "How to wait: auto (interrupt where there is one), poll or interrupt")
        ->type_name("MODE")
        ->check([](const std::string& text) -> std::string {
            return kWaitModes.contains(text)
                       ? ""
                       : "'" + text + "' is not a way of waiting: give auto, poll or interrupt";
        });
    // Another sysfs than /sys, for tests.
    app.add_option("--sysfs-root", settings.open.sysfs_root)->group("");

    int status = vgpu::cli::kUsage;
    const auto command = [&](const char* name, const char* help, auto body) {
        auto* const added = app.add_subcommand(name, help);
        added->callback([&settings, &timeout_s, &wait, &status, body] {
            settings.open.wait_mode = kWaitModes.at(wait);
            settings.timeout = std::chrono::nanoseconds(static_cast<long>(timeout_s * 1e9));
            status = body();
        });
        return added;
    };

    command("list", "List the vGPU devices of this VM",
            [&] { return vgpu::cli::run_list(settings); });
    command("info", "Show the device and the GPU behind it",
            [&] { return vgpu::cli::run_info(settings); });

    std::string a;
    std::string b;
    auto* const add = command("add", "Add two 32-bit integers on the GPU",
                              [&] { return vgpu::cli::run_add(settings, a, b); });
    add->add_option("A", a, "First number, -2147483648 to 4294967295")->required();
    add->add_option("B", b, "Second number")->required();

    std::string only;
    bool gpu = false;
    auto* const selftest =
        command("selftest", "Check registers, buffers, doorbell, interrupt and requests",
                [&] { return vgpu::cli::run_selftest(settings, only, gpu); });
    selftest->add_option("--only", only, "One group of checks")
        ->check(
            CLI::IsMember({"registers", "buffers", "doorbell", "interrupt", "requests", "gpu"}));
    selftest->add_flag("--gpu", gpu, "Also check every operation on GPU memory");

    vgpu::cli::BenchOptions bench_options;
    auto* const bench = command("bench", "Measure round trips of NOP and add",
                                [&] { return vgpu::cli::run_bench(settings, bench_options); });
    bench->add_option("-n,--count", bench_options.count, "Round trips for each line")
        ->check(CLI::Range(1, 10'000'000))
        ->capture_default_str();
    bench->add_option("--op", bench_options.operation, "Only this operation")
        ->check(CLI::IsMember({"nop", "add"}));

    try {
        app.parse(argc, argv);
    } catch (const CLI::RequiredError& error) {
        if (app.get_subcommands().empty()) {
            std::cerr << "vgpu: give a command: list, info, add, selftest or bench "
                         "(vgpu --help tells more)\n";
            return vgpu::cli::kUsage;
        }
        (void)app.exit(error);
        return vgpu::cli::kUsage;
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? vgpu::cli::kSuccess : vgpu::cli::kUsage;
    }
    return status;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return parse_and_run(argc, argv);
    } catch (const std::exception& error) {
        std::cerr << "vgpu: " << error.what() << '\n';
        return vgpu::cli::kFailure;
    }
}
