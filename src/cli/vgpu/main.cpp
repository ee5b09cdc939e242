// SPDX-License-Identifier: MIT
//
// vgpu: the command-line program for users inside a VM. Parses the command line and runs one
// command. Exit status: 0 success, 1 failure (with an error text), 2 wrong usage.
#include <CLI/CLI.hpp>
#include <limits>
#include <map>
#include <optional>
#include <string>

#include "base/command_line.h"
#include "base/number.h"
#include "base/program.h"
#include "cli/vgpu/common.h"

namespace {

using vgpu::cli::Settings;
using vgpu::command_line::fraction;
using vgpu::command_line::whole_number;

const std::map<std::string, vgpu_wait_mode> kWaitModes{
    {"auto", VGPU_WAIT_AUTO}, {"poll", VGPU_WAIT_POLL}, {"interrupt", VGPU_WAIT_INTERRUPT}};

const std::map<std::string, vgpu_priority> kPriorities{
    {"low", VGPU_PRIORITY_LOW}, {"medium", VGPU_PRIORITY_MEDIUM}, {"high", VGPU_PRIORITY_HIGH}};

// As typed.
struct SocketOptions {
    std::string pool = "A";
    std::string priority = "medium";
    std::string shm_size = "64M";
};

std::string check_size(const std::string& text) {
    return vgpu::parse_size(text) ? "" : vgpu::command_line::not_a_size(text);
}

// Option of bench and stress. With unix: the socket replaces the registers, under its own name.
void add_path(CLI::App& command, std::string& path) {
    command.add_option("--path", path, "Only this path: registers (alias socket) or queue")
        ->check(CLI::IsMember({"registers", "socket", "queue"}))
        ->transform([](const std::string& text) { return text == "socket" ? "registers" : text; });
}

// Parses microseconds or "always"; nothing if it is neither.
std::optional<std::uint32_t> parse_spin(const std::string& text) {
    if (text == "always") {
        return VGPU_SPIN_ALWAYS;
    }
    const auto number = vgpu::parse_number(text);
    return number && *number < VGPU_SPIN_ALWAYS ? std::optional(static_cast<std::uint32_t>(*number))
                                                : std::nullopt;
}

int parse_and_run(int argc, char** argv) {
    CLI::App app{"Use the GPU through this VM's vgpu-stub device.", "vgpu"};
    app.set_version_flag("--version", std::string("vgpu ") + vgpu_version());
    app.require_subcommand(1);
    app.fallthrough();
    app.footer("Exit status: 0 success, 1 failure, 2 invalid command line.");

    Settings settings;
    double timeout_s = 35;
    app.add_flag("--json", settings.json, "Print one JSON document instead of text");
    auto* const device = app.add_option(
        "--device", settings.open.address,
        "PCI address of the device (see 'vgpu list'), or unix:PATH for the socket of a "
        "mediator on this host; default: the device with the lowest address");
    device->type_name("ADDR");
    std::string transport;
    auto* const way =
        app.add_option("--transport", transport,
                       "device (default); file:DIR for the file protocol in the folder vmN of DIR, "
                       "additions only; or auto: a device if there is one, else the files in "
                       "$VGPU_FILES or /mnt/vgpu");
    way->type_name("NAME")->excludes(device)->check([](const std::string& text) -> std::string {
        return text == "auto" || text == "device" ||
                       (text.starts_with(vgpu::cli::kFilePrefix) &&
                        text.size() > vgpu::cli::kFilePrefix.size())
                   ? ""
                   : "'" + text + "' is not a transport: give auto, device or file:DIR";
    });
    SocketOptions socket;
    app.add_option("--vm-id", settings.open.vm_id,
                   "VM id of this process, for unix:PATH and file:DIR; concurrent programs need "
                   "different ids")
        ->type_name("N")
        ->transform(whole_number(0, std::numeric_limits<std::uint32_t>::max()));
    app.add_option("--pool", socket.pool,
                   "Pool of this process, one letter, for unix:PATH and file:DIR")
        ->type_name("LETTER")
        ->check([](const std::string& text) -> std::string {
            const bool letter = text.size() == 1 && ((text[0] >= 'A' && text[0] <= 'Z') ||
                                                     (text[0] >= 'a' && text[0] <= 'z'));
            return letter ? "" : "'" + text + "' is not a letter";
        })
        ->capture_default_str();
    app.add_option("--priority", socket.priority, "low, medium or high, for unix:PATH and file:DIR")
        ->type_name("LEVEL")
        ->check([](const std::string& text) -> std::string {
            return kPriorities.contains(text)
                       ? ""
                       : "'" + text + "' is not a priority: give low, medium or high";
        })
        ->capture_default_str();
    app.add_option(
           "--shm-size", socket.shm_size,
           "Size of the shared memory, for unix:PATH: a power of two from 1M to 4G, or 0 for "
           "no shared memory and no queues")
        ->type_name("SIZE")
        ->check(check_size)
        ->capture_default_str();
    app.add_option("--timeout", timeout_s, "Timeout for a response, in seconds")
        ->type_name("S")
        ->transform(fraction(0.001, 86400))
        ->capture_default_str();
    std::string wait = "auto";
    app.add_option(
           "--wait", wait,
           "How to wait for a response: auto (by interrupt if there is one), poll or interrupt")
        ->type_name("MODE")
        ->check([](const std::string& text) -> std::string {
            return kWaitModes.contains(text)
                       ? ""
                       : "'" + text + "' is not a wait mode: give auto, poll or interrupt";
        });
    // Replaces /sys in tests.
    app.add_option("--sysfs-root", settings.open.sysfs_root)->group("");

    int status = vgpu::cli::kUsage;
    const auto command = [&](const char* name, const char* help, auto body) {
        auto* const added = app.add_subcommand(name, help);
        added->callback([&settings, &timeout_s, &wait, &socket, &transport, &status, body] {
            vgpu::cli::choose_transport(settings, transport);
            settings.open.pool = socket.pool[0];
            settings.open.priority = kPriorities.at(socket.priority);
            settings.open.shm_size = *vgpu::parse_size(socket.shm_size);
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
        command("selftest", "Check registers, buffers, doorbell, interrupt, requests and queues",
                [&] { return vgpu::cli::run_selftest(settings, only, gpu); });
    selftest->add_option("--only", only, "Only this group of checks")
        ->check(CLI::IsMember(
            {"registers", "buffers", "doorbell", "interrupt", "requests", "queues", "gpu"}));
    selftest->add_flag("--gpu", gpu, "Also check all operations on GPU memory");

    vgpu::cli::BenchOptions bench_options;
    std::string bench_size = "1M";
    std::string spin;
    auto* const bench = command("bench", "Measure round trips and throughput", [&] {
        bench_options.size = *vgpu::parse_size(bench_size);
        bench_options.spin_given = !spin.empty();
        if (bench_options.spin_given) {
            settings.open.spin_us = *parse_spin(spin);
        }
        return vgpu::cli::run_bench(settings, bench_options);
    });
    bench->add_option("-n,--count", bench_options.count, "Round trips or commands per line")
        ->type_name("N")
        ->transform(whole_number(1, 100'000'000))
        ->capture_default_str();
    bench->add_option("--op", bench_options.operation, "Only this operation")
        ->check(CLI::IsMember({"nop", "add", "vector-add", "copy-to", "copy-from"}));
    add_path(*bench, bench_options.path);
    bench->add_option("--in-flight", bench_options.in_flight, "Commands in flight in the queue")
        ->type_name("N")
        ->transform(whole_number(1, 256));
    bench->add_option("--size", bench_size, "Bytes of each vector or copy, a multiple of 4")
        ->type_name("SIZE")
        ->check([](const std::string& text) -> std::string {
            const auto size = vgpu::parse_size(text);
            return size && *size != 0 && *size % 4 == 0
                       ? ""
                       : "'" + text +
                             "' is not a size: give a multiple of 4 bytes, or a number followed by "
                             "K, M or G, without leading zeros";
        })
        ->capture_default_str();
    bench->add_option("--spin", spin, "Microseconds to poll a queue before sleeping, or always")
        ->type_name("US")
        ->check([](const std::string& text) -> std::string {
            return parse_spin(text) ? "" : "'" + text + "' is neither microseconds nor 'always'";
        });

    vgpu::cli::StressOptions stress_options;
    double stress_seconds = 10;
    auto* const stress = command(
        "stress", "Compute through registers and a queue at the same time, and check each result",
        [&] {
            stress_options.length =
                std::chrono::nanoseconds(static_cast<long>(stress_seconds * 1e9));
            return vgpu::cli::run_stress(settings, stress_options);
        });
    stress->add_option("--seconds", stress_seconds, "Duration, in seconds")
        ->type_name("S")
        ->transform(fraction(0.001, 86400))
        ->capture_default_str();
    stress
        ->add_option("-n,--count", stress_options.count,
                     "Minimum number of additions per path; runs longer if needed")
        ->type_name("N")
        ->transform(whole_number(0, 100'000'000));
    add_path(*stress, stress_options.path);
    stress->add_option("--in-flight", stress_options.in_flight, "Additions in flight in the queue")
        ->type_name("N")
        ->transform(whole_number(1, 32))
        ->capture_default_str();
    stress
        ->add_option("--rate", stress_options.rate,
                     "Additions per second per path, instead of one after the other")
        ->type_name("N")
        ->transform(whole_number(1, 1'000'000));
    stress
        ->add_option("--matrix", stress_options.matrix,
                     "Also multiply N by N matrices through the queue")
        ->type_name("N")
        ->transform(whole_number(1, 1024));

    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return vgpu::command_line::end_parse("vgpu", app, error);
    }
    return status;
}

}  // namespace

int main(int argc, char** argv) {
    return vgpu::program::run("vgpu", [&] { return parse_and_run(argc, argv); });
}
