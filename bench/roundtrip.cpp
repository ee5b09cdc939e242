// SPDX-License-Identifier: MIT
//
// vgpu-bench-roundtrip: cost of a request through the real mediator, compared with the machine's
// raw Unix sockets. It starts its own mediator on a private socket, acts as the device, checks
// every response, prints a table and writes JSON. It must never print a figure of a run in which
// anything failed.
#include <fmt/core.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "command_line.h"
#include "machine.h"
#include "measure.h"
#include "native_add.h"
#include "placement.h"
#include "program.h"
#include "socket_device.h"
#include "statistics.h"
#include "support/process.h"
#include "support/temp_dir.h"

namespace {

using vgpu::bench::Latency;
using vgpu::bench::Placed;
using vgpu::bench::Placement;
using vgpu::bench::Plan;
using vgpu::bench::Throughput;

// A VM id of its own: the mediator may notice a disconnect only after the next connection started.
constexpr std::uint32_t kInfoVm = 999;

struct Options {
    std::string mediator;
    std::string backend = "cpu";
    std::string json_path;
    std::vector<Placement> placements;
    Plan plan;
};

void print_row(const std::string& path, const Latency& latency, const vgpu::bench::Summary& summary,
               double ratio) {
    const auto us = [](double ns) { return ns / 1000; };
    fmt::print("{:<11} {:<4} {:<10} {:>8.1f} {:>8.1f} {:>8.1f} {:>8.1f} {:>8.1f} {:>8.2f}\n", path,
               latency.operation, name_of(latency.placement), us(summary.min), us(summary.mean),
               us(summary.p50), us(summary.p90), us(summary.p99), ratio);
}

void print_table(const Options& options, const vgpu::bench::DeviceInfo& info,
                 const std::vector<Latency>& latencies, const Throughput& throughput) {
    fmt::print("round trips in microseconds, medians of {} rounds of {}; backend {} ({})\n\n",
               options.plan.rounds, options.plan.iterations, info.backend, info.name);
    fmt::print("{:<11} {:<4} {:<10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}\n", "path", "op",
               "placement", "min", "mean", "p50", "p90", "p99", "p50/raw");
    for (const Latency& latency : latencies) {
        print_row("raw socket", latency, latency.raw, 1);
        if (latency.native) {
            print_row("native", latency, latency.native->times,
                      latency.native->times.p50 / latency.raw.p50);
        }
        print_row("mediator", latency, latency.mediator, latency.ratio_p50);
        if (latency.native) {
            fmt::print("{:<11} {:<4} {:<10} p50 / (native p50 + raw p50) = {:.2f}\n", "mediator",
                       latency.operation, name_of(latency.placement),
                       latency.native->ratio_with_raw);
        }
    }
    fmt::print("\nNOP from {} connections at once: {:.0f} requests/s (raw sockets: {:.0f})\n",
               throughput.connections, throughput.mediator_per_second, throughput.raw_per_second);
}

nlohmann::json make_report(const Options& options, const nlohmann::json& machine,
                           const vgpu::bench::DeviceInfo& info,
                           const std::vector<Latency>& latencies, const Throughput& throughput) {
    nlohmann::json results = nlohmann::json::array();
    for (const Latency& latency : latencies) {
        const auto row = [&](const char* path, const vgpu::bench::Summary& summary, double p50,
                             double p99) {
            nlohmann::json entry = vgpu::bench::to_json(summary);
            entry.update({{"path", path},
                          {"operation", latency.operation},
                          {"placement", name_of(latency.placement)},
                          {"request_bytes", latency.request_size},
                          {"reply_bytes", latency.reply_size},
                          {"ratio_to_raw_p50", p50},
                          {"ratio_to_raw_p99", p99}});
            return entry;
        };
        results.push_back(row("raw_socket", latency.raw, 1, 1));
        if (latency.native) {
            nlohmann::json entry = vgpu::bench::to_json(latency.native->times);
            entry.update({{"path", "native"},
                          {"operation", latency.operation},
                          {"placement", name_of(latency.placement)}});
            results.push_back(std::move(entry));
        }
        results.push_back(row("mediator", latency.mediator, latency.ratio_p50, latency.ratio_p99));
        results.back()["exec_time_us"] = latency.exec_time_us;
        if (latency.native) {
            results.back()["ratio_to_native_and_raw_p50"] = latency.native->ratio_with_raw;
        }
    }
    return {{"program", "vgpu-bench-roundtrip"},
            {"machine", machine},
            {"backend", {{"kind", info.backend}, {"device", info.name}}},
            {"rounds", options.plan.rounds},
            {"iterations", options.plan.iterations},
            {"results", results},
            {"throughput",
             {{"operation", "nop"},
              {"connections", throughput.connections},
              {"mediator_per_second", throughput.mediator_per_second},
              {"raw_per_second", throughput.raw_per_second}}}};
}

// Measures with a mediator that lives for the duration of the call.
void run(Options options) {
    const nlohmann::json machine = vgpu::bench::describe_machine();
    const vgpu::test::TempDir dir;
    options.plan.socket_path = dir.file("m.sock");
    vgpu::test::Process mediator(
        {options.mediator, "--socket", options.plan.socket_path, "--backend", options.backend});
    // Creating a CUDA context can take some seconds.
    if (!mediator.wait_for_output("ready", std::chrono::seconds(60))) {
        throw std::runtime_error("the mediator did not become ready; its output:\n" +
                                 mediator.output());
    }

    const auto info = vgpu::bench::SocketDevice(options.plan.socket_path, kInfoVm).device_info();
    options.plan.mediator_pid = mediator.pid();
    std::unique_ptr<vgpu::bench::NativeAdd> native;
    if (info.backend == "cuda") {
        auto made = vgpu::bench::NativeAdd::create(0);
        if (!made) {
            throw std::runtime_error("no native additions to compare with: " +
                                     made.error().message);
        }
        native = std::move(made).value();
        options.plan.native = native.get();
    }
    std::vector<Latency> latencies;
    for (const Placement placement : options.placements) {
        if (!Placed::possible(placement)) {
            fmt::print("skipped: {}: needs two cores, this process may use one\n",
                       name_of(placement));
            continue;
        }
        std::ranges::move(vgpu::bench::measure_latency(options.plan, placement),
                          std::back_inserter(latencies));
    }
    if (latencies.empty()) {
        throw std::runtime_error("nothing was measured: choose another --placement");
    }
    const auto throughput = vgpu::bench::measure_throughput(options.plan);

    mediator.signal(SIGTERM);
    const auto status = mediator.wait();
    if (status != 0) {
        throw std::runtime_error("the mediator failed at exit; its output:\n" + mediator.output());
    }
    print_table(options, info, latencies, throughput);
    vgpu::bench::write_report(options.json_path,
                              make_report(options, machine, info, latencies, throughput));
}

void run_program(CLI::App& app, int argc, char** argv) {
    Options options;
    app.description(
        "Measure round trips through the vgpu mediator against those of raw Unix sockets");
    const CLI::Validator at_least_one = vgpu::command_line::whole_number(1, 100'000'000);
    vgpu::bench::add_mediator_options(app, options.mediator, options.backend);
    std::vector<std::string> placements;
    app.add_option("--placement", placements,
                   "CPU placement of both ends of a round trip: one-core, two-cores, or any (the "
                   "kernel chooses); several, separated by commas, are measured in turn (default: "
                   "one-core,two-cores; two-cores with a GPU backend)")
        ->delimiter(',')
        ->check(CLI::IsMember({"any", "one-core", "two-cores"}));
    app.add_option("--rounds", options.plan.rounds,
                   "Number of rounds; the figures are medians over all rounds")
        ->capture_default_str()
        ->transform(at_least_one);
    app.add_option("--iterations", options.plan.iterations, "Round trips per round")
        ->capture_default_str()
        ->transform(at_least_one);
    app.add_option("--connections", options.plan.connections,
                   "Connections in the throughput measurement")
        ->capture_default_str()
        ->transform(vgpu::command_line::whole_number(1, 400));
    app.add_option("--requests", options.plan.requests,
                   "Requests per round of the throughput measurement")
        ->capture_default_str()
        ->transform(at_least_one);
    vgpu::bench::add_json_option(app, options.json_path);
    app.parse(argc, argv);
    if (placements.empty()) {
        // The thread that drives a GPU polls continuously and needs a core besides this one.
        placements = {"two-cores"};
        if (options.backend == "cpu") {
            placements.emplace_back("one-core");
        }
    }
    for (const Placement placement : {Placement::kAny, Placement::kOneCore, Placement::kTwoCores}) {
        if (std::ranges::count(placements, name_of(placement)) > 0) {
            options.placements.push_back(placement);
        }
    }
    run(options);
}

}  // namespace

int main(int argc, char** argv) {
    return vgpu::bench::run_main("vgpu-bench-roundtrip", run_program, argc, argv);
}
