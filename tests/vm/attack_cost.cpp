// SPDX-License-Identifier: MIT
#include "vm/attack_cost.h"

#include <algorithm>
#include <array>
#include <iomanip>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>

#include "vm/fleet.h"

namespace vgpu::test {
namespace {

// Workloads of the other VM: a kind of vgpu-attacker, or nothing.
constexpr std::array<const char*, 6> kOthers{"nothing",     "spin",  "unknown",
                                             "synchronize", "reset", "mixed"};
constexpr std::size_t kVictim = 0;
constexpr std::size_t kOther = 1;
// The other VM starts before the victim and ends after it.
constexpr auto kLonger = std::chrono::seconds(3);
// A request delayed by the attack completes when the attack ends at the latest.
constexpr auto kSlack = std::chrono::seconds(60);
// Additions per second of the victim (open loop: due even if earlier ones are still in flight, so
// that a stall of seconds counts for all that were due in it).
constexpr const char* kRate = " --rate 500";

PathFigures measure(Fleet& fleet, const std::string& other, const std::string& path,
                    std::chrono::seconds length) {
    Vm& vm = fleet.vm(kOther);
    const bool attacks = other != "nothing";
    if (attacks) {
        vm.start("vgpu-attacker " + other + " 64 " + std::to_string((length + kLonger).count()));
        if (!vm.wait_for_output("attacking")) {
            throw std::runtime_error("the attacker did not start: " + vm.log());
        }
    }
    const auto result = fleet.vm(kVictim).run("vgpu stress --json --path " + path + kRate +
                                                  " --seconds " + std::to_string(length.count()),
                                              length + kSlack);
    VmFigures figures;
    Fleet::add_report(figures, result.output);
    if (attacks) {
        const auto ended = vm.finish(length + kSlack);
        if (ended.status != 0) {
            throw std::runtime_error("the attacker failed: " + ended.output);
        }
    }
    return figures[path];
}

void print_line(const std::string& path, const std::string& other, const PathFigures& figures,
                const PathFigures& alone, const PathFigures& control) {
    std::cout << std::left << std::setw(10) << path << std::setw(13) << other << std::right
              << std::setw(9) << figures.done << std::setw(7) << figures.wrong << std::fixed
              << std::setprecision(3);
    for (const double us : {figures.p50_us, figures.p99_us, figures.max_us, figures.open_us}) {
        std::cout << std::setw(12) << us / 1e3;
    }
    std::cout << std::setprecision(1) << std::setw(10) << figures.p50_us / alone.p50_us
              << std::setw(10) << figures.p99_us / alone.p99_us << std::setw(12)
              << figures.p99_us / control.p99_us << "  ";
    for (const auto& [error, count] : figures.errors) {
        std::cout << count << " " << error << " ";
    }
    std::cout << std::endl;
}

}  // namespace

bool measure_attacks(std::chrono::seconds length) {
    Fleet fleet({{'A', "medium"}, {'A', "medium"}});
    fleet.start_mediator();
    fleet.boot_all();
    std::cout
        << "path      other VM          done  wrong      p50 ms         p99         max        open"
           "   p50/off   p99/off    p99/spin  errors"
        << std::endl;
    bool good = true;
    for (const std::string path : {"registers", "queue"}) {
        std::map<std::string, PathFigures> measured;
        for (const std::string other : kOthers) {
            const PathFigures figures = measure(fleet, other, path, length);
            measured[other] = figures;
            const PathFigures& alone = measured["nothing"];
            const PathFigures& control = other == "nothing" ? alone : measured["spin"];
            print_line(path, other, figures, alone, control);
            const bool attack = other != "nothing" && other != "spin";
            const double bar = kMostSlower * std::max(alone.p99_us, control.p99_us);
            good = good && figures.wrong == 0 && figures.errors.empty() &&
                   figures.done >= kLeastSamples && (!attack || figures.p99_us <= bar);
        }
    }
    std::cout << (good ? "passed" : "failed") << ": beside an attack, at least " << kLeastSamples
              << " additions, without errors and wrong results, and a p99 of at most "
              << kMostSlower << " times the one alone (off) or beside a busy VM (spin)"
              << std::endl;
    return good;
}

}  // namespace vgpu::test
