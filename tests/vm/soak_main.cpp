// SPDX-License-Identifier: MIT
//
// vgpu-soak: the long version of the seven-VM test, and the measurement of what an attacker in one
// guest costs another. Run by `make soak`. Exit status: 0 all checks passed, 1 one failed, 2 wrong
// usage.
#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <limits>

#include "base/command_line.h"
#include "base/program.h"
#include "vm/attack_cost.h"
#include "vm/soak.h"

namespace {

int parse_and_run(int argc, char** argv) {
    CLI::App app{
        "Run seven VMs on one mediator for a long time, while VMs start, stop, are reset and\n"
        "attack, and the mediator is killed and restarted. Needs QEMU and the test guest (make "
        "vm).",
        "vgpu-soak"};
    vgpu::test::Soak::Options options;
    double minutes = 10;
    std::int64_t round = options.round.count();
    bool no_attacks = false;
    app.add_option("--minutes", minutes, "Duration, in minutes")
        ->transform(vgpu::command_line::fraction(0.5, 10000))
        ->capture_default_str();
    app.add_option("--round", round, "Length of a round, in seconds")
        ->transform(vgpu::command_line::whole_number(2, 600))
        ->capture_default_str();
    app.add_option("--seed", options.seed, "Seed of the random sequence of events")
        ->transform(vgpu::command_line::whole_number())
        ->capture_default_str();
    app.add_flag("--no-attacks", no_attacks, "Skip the rounds in which a VM attacks");
    bool attack_cost = false;
    app.add_flag("--attack-cost", attack_cost,
                 "Measure how an attacker in one VM slows additions in another instead: each "
                 "combination for the length of a round");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return vgpu::command_line::end_parse("vgpu-soak", app, error);
    }
    if (const std::string why = vgpu::test::Fleet::missing(); !why.empty()) {
        std::cerr << "vgpu-soak: " << why << '\n';
        return 1;
    }
    // The end of a QEMU or mediator must not terminate this program.
    (void)std::signal(SIGPIPE, SIG_IGN);
    options.round = std::chrono::seconds(round);
    if (attack_cost) {
        return vgpu::test::measure_attacks(options.round) ? 0 : 1;
    }
    options.length = std::chrono::seconds(static_cast<std::int64_t>(minutes * 60));
    options.attacks = !no_attacks;
    const bool good = vgpu::test::Soak(options).run();
    std::cout << (good ? "passed" : "failed") << std::endl;
    return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    return vgpu::program::run("vgpu-soak", [&] { return parse_and_run(argc, argv); });
}
