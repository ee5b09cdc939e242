// SPDX-License-Identifier: MIT
//
// vgpuctl: the command-line program for operators of the mediator. Parses the command line and runs
// one command. Exit status: 0 success, 1 failure (with an error text), 2 wrong usage.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/command_line.h"
#include "base/program.h"
#include "cli/vgpuctl/commands.h"
#include "cli/vgpuctl/completion.h"
#include "cli/vgpuctl/text.h"

namespace {

using nlohmann::json;
using vgpu::command_line::fraction;
using vgpu::command_line::whole_number;
using vgpu::ctl::Settings;

constexpr std::uint64_t kMostId = std::numeric_limits<std::uint32_t>::max();

// A number that may have the suffix K, M or G.
struct Bytes {
    std::uint64_t count = 0;
};
// For CLI11, which finds it by argument-dependent lookup.
std::istream& operator>>(std::istream& in, Bytes& bytes) {
    return in >> bytes.count;
}

// Optional settings of a command, and their place in the body of the request.
class Change {
  public:
    explicit Change(CLI::App& command) : command_(command) {}

    template <typename T>
    CLI::Option* add(const char* option, const char* help, std::vector<std::string> place) {
        CLI::Option* const added = command_.add_option_function<T>(
            option,
            [this, place = std::move(place)](const T& value) {
                json* at = &body_;
                for (const std::string& name : place) {
                    at = &(*at)[name];
                }
                set(*at, value);
            },
            help);
        if constexpr (std::is_floating_point_v<T>) {
            added->transform(fraction());
        } else if constexpr (std::is_same_v<T, Bytes>) {
            added->transform(vgpu::command_line::size());
        } else if constexpr (std::is_unsigned_v<T> && !std::is_same_v<T, bool>) {
            added->transform(whole_number());
        }
        return added;
    }
    [[nodiscard]] const json& body() const { return body_; }

  private:
    static void set(json& at, const std::string& value) {
        // Removes an override: no pool or priority has this name.
        at = value == "none" ? json() : json(value);
    }
    static void set(json& at, const Bytes& value) { at = value.count; }
    template <typename T>
    static void set(json& at, const T& value) {
        at = value;
    }

    CLI::App& command_;
    json body_ = json::object();
};

struct VmCommands {
    CLI::App* show = nullptr;
    CLI::App* set = nullptr;
    CLI::App* quarantine = nullptr;
    CLI::App* release = nullptr;
    std::uint32_t id = 0;
    std::string reason;
    std::optional<Change> change;
};

// Checks only the syntax of numbers; the mediator checks their ranges.
void add_vm_set(CLI::App& vm, VmCommands& commands) {
    CLI::App& set = *vm.add_subcommand("set", "Change settings of a VM, until the next reload");
    commands.set = &set;
    Change& change = commands.change.emplace(set);
    change
        .add<std::string>(
            "--pool", "Pool that serves it, overriding the device's property; none: no override",
            {"pool"})
        ->type_name("POOL");
    change
        .add<std::string>("--priority",
                          "Priority, overriding the device's property; none: no override",
                          {"priority"})
        ->check(CLI::IsMember({"low", "medium", "high", "none"}));
    change.add<double>("--weight", "Share under the fair policy, 0.001 to 1000", {"weight"})
        ->type_name("N");
    change
        .add<bool>("--boost", "Whether a request's BOOST flag has effect: true or false", {"boost"})
        ->type_name("BOOL");
    change
        .add<std::uint64_t>("--queue-depth", "Maximum number of queued requests", {"queue_depth"})
        ->type_name("N");
    change
        .add<double>("--requests-per-second", "Average request rate; 0: unlimited",
                     {"limits", "requests_per_second"})
        ->type_name("N");
    change
        .add<std::uint64_t>("--burst", "Requests in a burst after an idle period",
                            {"limits", "burst"})
        ->type_name("N");
    change
        .add<std::uint64_t>("--gpu-time-ms-per-window", "GPU time per window; 0: unlimited",
                            {"limits", "gpu_time_ms_per_window"})
        ->type_name("MS");
    change
        .add<std::uint64_t>("--gpu-window-ms", "Length of the window", {"limits", "gpu_window_ms"})
        ->type_name("MS");
    change
        .add<std::uint64_t>("--quarantine-after-faults",
                            "Faults until the VM is quarantined; 0: never",
                            {"limits", "quarantine_after_faults"})
        ->type_name("N");
    change
        .add<std::uint64_t>("--longest-execution-ms",
                            "Report requests that run longer; 0: no limit",
                            {"limits", "longest_execution_ms"})
        ->type_name("MS");
    change
        .add<Bytes>("--memory-bytes", "Maximum GPU memory allocated at a time; 0: unlimited",
                    {"limits", "memory_bytes"})
        ->type_name("SIZE");
}

void add_vm(CLI::App& app, VmCommands& commands) {
    CLI::App& vm = *app.add_subcommand("vm", "Show or change one VM");
    vm.require_subcommand(1);
    commands.show = vm.add_subcommand("show", "Show one VM");
    add_vm_set(vm, commands);
    commands.quarantine = vm.add_subcommand("quarantine", "Reject all requests of a VM");
    commands.quarantine->add_option("--reason", commands.reason,
                                    "Reason for the log and the events");
    commands.release =
        vm.add_subcommand("release", "Release a VM from quarantine and reset its fault count");
    for (CLI::App* command : {commands.show, commands.set, commands.quarantine, commands.release}) {
        command->add_option("ID", commands.id, "VM id")
            ->required()
            ->type_name("")
            ->transform(whole_number(0, kMostId).description(""));
    }
}

int run_vm(const Settings& settings, const VmCommands& commands) {
    const std::string target = "/v1/vms/" + std::to_string(commands.id);
    if (commands.set->parsed()) {
        if (commands.change->body().empty()) {
            std::cerr << "vgpuctl: nothing to change: give at least one option, see vgpuctl vm set "
                         "--help\n";
            return vgpu::ctl::kUsage;
        }
        return run_change(settings, "PATCH", target, commands.change->body(), vgpu::ctl::vm_text);
    }
    if (commands.quarantine->parsed()) {
        const json body = commands.reason.empty() ? json() : json{{"reason", commands.reason}};
        return run_change(settings, "POST", target + "/quarantine", body, vgpu::ctl::vm_text);
    }
    if (commands.release->parsed()) {
        return run_change(settings, "POST", target + "/release", json(), vgpu::ctl::vm_text);
    }
    return run_get(settings, target, vgpu::ctl::vm_text);
}

// Percent-encodes everything but letters, digits and underscores.
std::string query_escaped(const std::string& text) {
    constexpr char kHex[] = "0123456789ABCDEF";
    std::string escaped;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            c == '_') {
            escaped += c;
        } else {
            escaped += '%';
            escaped += kHex[byte >> 4U];
            escaped += kHex[byte & 15U];
        }
    }
    return escaped;
}

std::string events_query(const std::optional<std::uint32_t>& vm,
                         const std::vector<std::string>& types) {
    std::string query;
    if (vm) {
        query += "?vm=" + std::to_string(*vm);
    }
    for (std::size_t i = 0; i < types.size(); ++i) {
        query += i > 0 ? "," : (query.empty() ? "?type=" : "&type=");
        query += query_escaped(types[i]);
    }
    return query;
}

// Expands `vm 7`, which users type, to `vm show 7`.
std::vector<std::string> with_show(int argc, char** argv) {
    std::vector<std::string> words(argv + 1, argv + argc);
    for (std::size_t i = 0; i + 1 < words.size(); ++i) {
        const std::string& next = words[i + 1];
        const bool command = words[i] == "vm" && (i == 0 || words[i - 1] != "--reason");
        if (command && !next.empty() && next[0] >= '0' && next[0] <= '9') {
            words.insert(words.begin() + static_cast<std::ptrdiff_t>(i) + 1, "show");
            break;
        }
        if (command) {
            break;
        }
    }
    return words;
}

int print_completion(const Settings& settings, const std::string& shell) {
    const std::string script = vgpu::ctl::completion_script(shell);
    if (settings.json) {
        std::cout << json{{"shell", shell}, {"script", script}}.dump() << '\n';
    } else {
        std::cout << script;
    }
    return vgpu::ctl::kSuccess;
}

// Returns what is wrong with a pool's name; empty if it is valid.
std::string pool_complaint(const std::string& text) {
    const bool letter = text.size() == 1 &&
                        ((text[0] >= 'A' && text[0] <= 'Z') || (text[0] >= 'a' && text[0] <= 'z'));
    return letter ? "" : "'" + text + "' is not a pool: give one letter, e.g. A";
}

int parse_and_run(int argc, char** argv) {
    CLI::App app{"Monitor and control a running vgpu-mediator.", "vgpuctl"};
    app.set_version_flag("--version", "vgpuctl " VGPU_VERSION);
    app.require_subcommand(1);
    app.fallthrough();
    app.footer("Exit status: 0 success, 1 failure, 2 invalid command line.");

    Settings settings;
    double timeout_s = 10;
    app.add_option("--socket", settings.socket, "The mediator's admin socket")
        ->envname("VGPU_ADMIN_SOCKET")
        ->type_name("PATH")
        ->capture_default_str();
    app.add_flag("--json", settings.json, "Print JSON instead of text");
    app.add_option("--timeout", timeout_s, "Timeout for a response, in seconds")
        ->type_name("S")
        ->transform(fraction(0.001, 3600))
        ->capture_default_str();

    // Simple commands: a name and the text form of one resource.
    std::map<const CLI::App*, std::pair<std::string, vgpu::ctl::Shown>> pictures;
    const auto picture = [&](const char* name, const char* help, vgpu::ctl::Shown shown) {
        pictures[app.add_subcommand(name, help)] = {std::string("/v1/") + name, shown};
    };
    picture("status", "Show a summary of the mediator", vgpu::ctl::status_text);
    picture("gpus", "Show all GPUs", vgpu::ctl::gpus_text);
    picture("pools", "Show all pools", vgpu::ctl::pools_text);
    picture("vms", "Show all VMs that are configured or have connected", vgpu::ctl::vms_text);

    CLI::App& pool = *app.add_subcommand("pool", "Show or change one pool");
    pool.require_subcommand(1);
    std::string pool_id;
    CLI::App& pool_show = *pool.add_subcommand("show", "Show one pool");
    CLI::App& pool_set = *pool.add_subcommand("set", "Change a pool, until the next reload");
    for (CLI::App* command : {&pool_show, &pool_set}) {
        command->add_option("ID", pool_id, "Pool, one letter")
            ->required()
            ->type_name("")
            ->check(pool_complaint);
    }
    Change pool_change(pool_set);
    pool_change.add<std::string>("--policy", "Scheduling policy: strict or fair", {"policy"})
        ->check(CLI::IsMember({"strict", "fair"}));
    pool_change
        .add<std::uint64_t>("--aging-ms", "Requests that have waited longer go first; 0: never",
                            {"aging_ms"})
        ->type_name("MS");

    VmCommands vm;
    add_vm(app, vm);

    CLI::App& drain = *app.add_subcommand("drain", "Make the mediator finish queued work and exit");
    CLI::App& reload =
        *app.add_subcommand("reload", "Make the mediator reload its configuration file");

    CLI::App& events =
        *app.add_subcommand("events", "Print events as they happen, until interrupted");
    std::optional<std::uint32_t> event_vm;
    std::vector<std::string> event_types;
    events.add_option("--vm", event_vm, "Only events of this VM")
        ->type_name("ID")
        ->transform(whole_number(0, kMostId));
    events.add_option("--type", event_types, "Only these events, separated by commas")
        ->delimiter(',')
        ->check(CLI::IsMember({"request_accepted", "request_started", "request_finished",
                               "request_refused", "request_dropped", "request_overran",
                               "session_opened", "session_identified", "session_closed",
                               "vm_quarantined", "vm_released", "notice", "queue_stopped",
                               "memory_attached", "memory_refused"}));

    CLI::App& metrics =
        *app.add_subcommand("metrics", "Print the metrics in the Prometheus text format");

    CLI::App& top = *app.add_subcommand("top", "Show a live view of GPU use by VM");
    double interval_s = 2;
    top.add_option("--interval", interval_s, "Refresh interval, in seconds")
        ->type_name("S")
        ->transform(fraction(0.1, 3600))
        ->capture_default_str();

    CLI::App& completion = *app.add_subcommand("completion", "Print a shell completion script");
    std::string shell;
    completion.add_option("SHELL", shell, "bash, zsh or fish")
        ->required()
        ->check(CLI::IsMember({"bash", "zsh", "fish"}));

    try {
        auto words = with_show(argc, argv);
        std::reverse(words.begin(), words.end());
        app.parse(words);
    } catch (const CLI::ParseError& error) {
        return vgpu::command_line::end_parse("vgpuctl", app, error);
    }
    const auto milliseconds = [](double seconds) {
        return std::chrono::milliseconds(static_cast<long>(seconds * 1000));
    };
    settings.limit = milliseconds(timeout_s);

    const CLI::App* const chosen = app.get_subcommands().front();
    if (const auto found = pictures.find(chosen); found != pictures.end()) {
        return run_get(settings, found->second.first, found->second.second);
    }
    if (chosen == &pool) {
        const std::string target = "/v1/pools/" + pool_id;
        if (pool_show.parsed()) {
            return run_get(settings, target, vgpu::ctl::pool_text);
        }
        if (pool_change.body().empty()) {
            std::cerr << "vgpuctl: nothing to change: give --policy, --aging-ms or both\n";
            return vgpu::ctl::kUsage;
        }
        return run_change(settings, "PATCH", target, pool_change.body(), vgpu::ctl::pool_text);
    }
    if (chosen == &drain) {
        return run_change(settings, "POST", "/v1/drain", json(), vgpu::ctl::drain_text);
    }
    if (chosen == &reload) {
        return run_change(settings, "POST", "/v1/reload", json(), vgpu::ctl::reload_text);
    }
    if (chosen == &events) {
        return run_events(settings, events_query(event_vm, event_types));
    }
    if (chosen == &metrics) {
        return run_metrics(settings);
    }
    if (chosen == &top) {
        return run_top_command(settings, milliseconds(interval_s));
    }
    if (chosen == &completion) {
        return print_completion(settings, shell);
    }
    return run_vm(settings, vm);
}

}  // namespace

int main(int argc, char** argv) {
    return vgpu::program::run("vgpuctl", [&] { return parse_and_run(argc, argv); });
}
