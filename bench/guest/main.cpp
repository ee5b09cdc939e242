// SPDX-License-Identifier: MIT
//
// vgpu-bench-guest: round trips from a guest to its host over the transports that vgpu is compared
// with. Prints one JSON object on one line, in the format of `vgpu --json bench`. It must never
// print a figure of a run in which anything failed.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "command_line.h"
#include "round_trips.h"
#include "statistics.h"

namespace {

using vgpu::bench::EchoClient;
using vgpu::bench::FileClient;
using vgpu::command_line::whole_number;
using Clock = std::chrono::steady_clock;

struct Options {
    std::string place;
    std::string address;
    std::uint16_t port = 0;
    std::uint32_t vm = 1;
    std::uint32_t count = 1000;
    std::uint32_t warm_up = 20;
    std::uint32_t think_ms = 0;
    std::string wait = "sleep";
};

nlohmann::json measure(const Options& options, std::string path, std::string operation,
                       const std::function<void()>& prepare,
                       const std::function<void()>& round_trip) {
    std::vector<std::int64_t> times;
    times.reserve(options.count);
    // Send requests at random times: with a host that polls periodically, a request sent right
    // after a response would always wait for the longest time.
    std::minstd_rand random(1);  // NOLINT(cert-msc32-c,cert-msc51-cpp)
    std::uniform_int_distribution<std::int64_t> think(0, std::int64_t{options.think_ms} * 1000);
    for (std::uint32_t i = 0; i < options.warm_up + options.count; ++i) {
        prepare();
        if (options.think_ms != 0) {
            std::this_thread::sleep_for(std::chrono::microseconds(think(random)));
        }
        const auto begin = Clock::now();
        round_trip();
        const auto took = Clock::now() - begin;
        if (i >= options.warm_up) {
            times.push_back(std::chrono::nanoseconds(took).count());
        }
    }
    const auto summary = vgpu::bench::summarize(std::move(times));
    const nlohmann::json line{{"path", std::move(path)},     {"operation", std::move(operation)},
                              {"wait", options.wait},        {"n", options.count},
                              {"min_us", summary.min / 1e3}, {"mean_us", summary.mean / 1e3},
                              {"p50_us", summary.p50 / 1e3}, {"p90_us", summary.p90 / 1e3},
                              {"p99_us", summary.p99 / 1e3}};
    return {{"ok", true}, {"lines", nlohmann::json::array({line})}};
}

nlohmann::json measure_file(const Options& options) {
    FileClient client(options.place, options.vm);
    return measure(
        options, "file", "add", [&] { client.prepare(); }, [&] { client.round_trip(); });
}

nlohmann::json measure_echo(const Options& options, const char* path, EchoClient client) {
    return measure(
        options, path, "echo-64", [] {}, [&] { client.round_trip(); });
}

void run_program(CLI::App& app, int argc, char** argv) {
    Options options;
    app.description(
        "Measure round trips from a guest to its host over the transports that vgpu is compared "
        "with");
    app.require_subcommand(1);
    const auto common = [&](CLI::App* way) {
        way->add_option("--count", options.count, "Round trips")
            ->capture_default_str()
            ->transform(whole_number(1, 100'000'000));
        way->add_option("--warm-up", options.warm_up, "Warm-up round trips, not measured")
            ->capture_default_str()
            ->transform(whole_number(0, 100'000'000));
        return way;
    };
    const auto waiting = [&](CLI::App* way) {
        way->add_option("--wait", options.wait, "sleep or spin until the response arrives")
            ->capture_default_str()
            ->check(CLI::IsMember({"sleep", "spin"}));
        return common(way);
    };
    CLI::App* file = common(app.add_subcommand("file", "The old protocol with text files"));
    file->add_option("directory", options.place, "The VM's folder")->required();
    file->add_option("--vm", options.vm, "The VM's number")
        ->capture_default_str()
        ->transform(whole_number(0, std::numeric_limits<std::uint32_t>::max()));
    file->add_option("--think-ms", options.think_ms, "Maximum random pause before each request")
        ->capture_default_str()
        ->transform(whole_number(0, 3'600'000));
    CLI::App* tcp = waiting(app.add_subcommand("tcp", "Echo of 64 bytes over TCP"));
    tcp->add_option("address", options.address, "IPv4 address of the echo server")->required();
    tcp->add_option("port", options.port, "Port of the echo server")
        ->required()
        ->transform(whole_number(1, 65535));
    CLI::App* serial =
        waiting(app.add_subcommand("serial", "Echo of 64 bytes over a virtio-serial port"));
    serial->add_option("device", options.place, "The port, /dev/vport0p1")->required();
    app.parse(argc, argv);
    const auto wait = options.wait == "spin" ? EchoClient::Wait::kSpin : EchoClient::Wait::kSleep;
    nlohmann::json report;
    if (file->parsed()) {
        options.wait = "poll";
        report = measure_file(options);
    } else if (tcp->parsed()) {
        report = measure_echo(options, "tcp",
                              EchoClient::connect_tcp(options.address, options.port, wait));
    } else {
        report = measure_echo(options, "virtio-serial", EchoClient::open_port(options.place, wait));
    }
    std::cout << report.dump() << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
    return vgpu::bench::run_main("vgpu-bench-guest", run_program, argc, argv);
}
