// SPDX-License-Identifier: MIT
//
// Shared by the commands of `vgpu`: the options, the output of results and failures, and the exit
// statuses. A command prints to standard output, as text or as one JSON document; error texts go to
// standard error.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "client/include/vgpu.hpp"

namespace vgpu::cli {

enum ExitStatus : int { kSuccess = 0, kFailure = 1, kUsage = 2 };

// Options of every command.
struct Settings {
    OpenOptions open;
    bool json = false;
    std::chrono::nanoseconds timeout = std::chrono::seconds(35);
};

// Prints why a command failed; returns kFailure. With --json, adds `ok` and `error` to `partial`.
int report_failure(const Settings& settings, const Failure& failure, nlohmann::json partial);
int report_failure(const Settings& settings, const Failure& failure);
// Prints one JSON document on a line of its own.
void print_json(const nlohmann::json& document);
// {"code": "no-device", "number": 256, "message": "…"}.
nlohmann::json failure_json(const Failure& failure);

// Parses a 32-bit integer as base/number.h reads numbers, signed (from -2147483648) or unsigned (to
// 4294967295).
std::optional<std::int64_t> parse_int32(std::string_view text);

// "64 MiB", "4 KiB", "100 bytes".
std::string size_text(std::uint64_t bytes);

// Returns whether the device has registers: not a mediator's socket, and not files.
bool has_registers(const Settings& settings);
// Name of the path of requests, for tables: "registers", "socket" or "files".
const char* request_path(const Settings& settings);

// Prefix of the address of files: see vgpu_options.address.
inline constexpr std::string_view kFilePrefix = "file:";
// Sets settings.open.address for --transport: "device", "file:DIR", "auto", or "". Prints what
// "auto" chose unless it is a device.
void choose_transport(Settings& settings, const std::string& transport);

std::string priority_name(std::uint32_t priority);
std::string version_text(std::uint32_t version);
// "12.3 µs", "1.23 ms", "2.10 s".
std::string duration_text(std::chrono::nanoseconds time);

// Returns the time that `body` takes.
template <typename Body>
std::chrono::nanoseconds time_of(Body body) {
    const auto start = std::chrono::steady_clock::now();
    body();
    return std::chrono::steady_clock::now() - start;
}

// The commands. Each returns an ExitStatus.
int run_list(const Settings& settings);
int run_info(const Settings& settings);
// `a` and `b` as typed.
int run_add(const Settings& settings, const std::string& a, const std::string& b);
// `only`: one group of checks, or empty for all. `gpu`: also run the group gpu.
int run_selftest(const Settings& settings, const std::string& only, bool gpu);

struct BenchOptions {
    std::uint32_t count = 1000;   // round trips or commands measured for each line
    std::string operation;        // empty: nop and add
    std::string path;             // "registers", "queue", or empty for both
    std::uint32_t in_flight = 0;  // commands in flight; 0: one, plus nop with 64
    std::uint64_t size = 0;       // bytes of each vector or copy; 0: 1 MiB
    bool spin_given = false;      // --spin was given
};
int run_bench(const Settings& settings, const BenchOptions& options);

struct StressOptions {
    std::chrono::nanoseconds length = std::chrono::seconds(10);
    std::uint64_t count = 0;      // minimum number of additions per path
    std::string path;             // "registers", "queue", or empty for both
    std::uint32_t in_flight = 1;  // additions in flight in the queue
    std::uint32_t rate = 0;       // additions due per second and path; 0: without pause
    std::uint32_t matrix = 0;     // rows and columns of the matrices multiplied in between; 0: none
};
int run_stress(const Settings& settings, const StressOptions& options);

}  // namespace vgpu::cli
