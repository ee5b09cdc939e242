// SPDX-License-Identifier: MIT
#include "vm/soak.h"

#include <algorithm>
#include <iostream>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

namespace vgpu::test {
namespace {

using Clock = std::chrono::steady_clock;

// Maximum growth of a mediator's own memory between the baseline and the end.
constexpr std::uint64_t kMostGrowthKib = std::uint64_t{8} * 1024;
// Maximum p99 of additions beside an attacker, as a multiple of the worst steady round.
constexpr double kMostSlower = 3;
// Maximum delay of a working VM after the end of its round.
constexpr auto kSlack = std::chrono::seconds(90);
constexpr auto kDevicesLimit = std::chrono::seconds(30);
constexpr auto kPollInterval = std::chrono::milliseconds(50);
// Errors that a guest sees when its mediator is killed.
const std::set<std::string> kRestartErrors{"mediator-unavailable", "mediator-lost", "no-queues",
                                           "queue-stopped"};

}  // namespace

Soak::Soak(const Options& options) : options_(options), random_(options.seed) {
    for (auto& figures : figures_) {
        figures.resize(fleet_.size());
    }
}

bool Soak::run() {
    fleet_.start_mediator();
    const Usage empty = usage();
    std::cout << "empty     " << usage_text(empty) << std::endl;
    fleet_.boot_all();
    follow_events();
    const auto start = Clock::now();
    const auto half = start + options_.length / 2;
    const auto end = start + options_.length;
    play(Round::kSteady);
    while (Clock::now() < half) {
        play(choose(true));
    }
    play(Round::kSteady);
    baseline_ = usage();
    std::cout << "baseline  " << usage_text(*baseline_) << std::endl;
    while (Clock::now() < end) {
        play(choose(false));
    }
    play(Round::kSteady);
    compare_with_baseline();
    stop_following();
    for (std::size_t index = 0; index != fleet_.size(); ++index) {
        fleet_.stop(index);
    }
    compare_with_empty(empty);
    compare_attacked();
    for (const auto& [pool, figures] : order_.pools()) {
        expect(figures.wrong_priority == 0 && figures.wrong_arrival == 0, order_.first_violation());
    }
    print_figures();
    for (const std::string& failure : failures_) {
        std::cout << "FAILED: " << failure << std::endl;
    }
    return failures_.empty();
}

Soak::Round Soak::choose(bool restarts) {
    if (std::exchange(deck_has_restarts_, restarts) != restarts) {
        deck_.clear();
    }
    if (deck_.empty()) {
        deck_ = {Round::kSteady, Round::kReset, Round::kReplace};
        if (options_.attacks) {
            deck_.push_back(Round::kAttack);
        }
        if (restarts) {
            // Only in the first half, hence twice per deck.
            deck_.insert(deck_.end(), {Round::kRestart, Round::kRestart});
        }
        std::shuffle(deck_.begin(), deck_.end(), random_);
    }
    const Round chosen = deck_.back();
    deck_.pop_back();
    return chosen;
}

void Soak::play(Round round) {
    const auto kind = static_cast<std::size_t>(round);
    const bool one_differs = round != Round::kSteady && round != Round::kRestart;
    const std::size_t chosen =
        one_differs ? std::uniform_int_distribution<std::size_t>(0, fleet_.size() - 1)(random_)
                    : fleet_.size();
    ++rounds_.at(kind);
    std::cout << "round     " << kNames.at(kind)
              << (one_differs ? " of VM " + std::to_string(chosen + 1) : "") << std::endl;
    for (std::size_t index = 0; index != fleet_.size(); ++index) {
        if (index != chosen) {
            fleet_.vm(index).start("vgpu stress --json --in-flight 8 --matrix 96 --seconds " +
                                   std::to_string(options_.round.count()));
        }
    }
    disturb(round, chosen);
    collect(round, chosen);
    expect(!fleet_.mediator().wait(std::chrono::milliseconds(0)).has_value(),
           "the mediator exited unexpectedly in a round of kind " + std::string(kNames.at(kind)));
}

void Soak::disturb(Round round, std::size_t chosen) {
    // Runs in the background, so that the shell accepts the next command.
    const std::string work =
        "vgpu stress --in-flight 8 --matrix 96 --seconds 600 "
        "> /dev/null 2>&1 & usleep 500000";
    switch (round) {
        case Round::kSteady:
            break;
        case Round::kRestart:
            // The guests work during this time.
            std::this_thread::sleep_for(options_.round / 3);
            restart_mediator();
            break;
        case Round::kReset:
            fleet_.vm(chosen).run(work);
            if (!fleet_.vm(chosen).reset(std::chrono::seconds(120))) {
                throw std::runtime_error("a VM did not boot after its reset: " +
                                         fleet_.vm(chosen).log());
            }
            break;
        case Round::kReplace:
            fleet_.vm(chosen).run(work);
            fleet_.stop(chosen);
            fleet_.boot(chosen);
            break;
        case Round::kAttack:
            fleet_.vm(chosen).run(
                "vgpu-attacker mixed 64 " + std::to_string(options_.round.count()),
                options_.round + kSlack);
            break;
    }
}

void Soak::restart_mediator() {
    fleet_.kill_mediator();
    stop_following();
    fleet_.start_mediator();
    follow_events();
}

void Soak::follow_events() {
    order_.reset();
    events_.emplace(fleet_.admin_socket(), order_);
}

void Soak::stop_following() {
    events_.reset();
}

void Soak::collect(Round round, std::size_t chosen) {
    for (std::size_t index = 0; index != fleet_.size(); ++index) {
        if (index == chosen) {
            continue;
        }
        const auto result = fleet_.vm(index).finish(options_.round + kSlack);
        const std::string who = "VM " + std::to_string(index + 1) + " in a round of kind " +
                                kNames.at(static_cast<std::size_t>(round));
        if (result.status < 0) {
            throw std::runtime_error(who + " does not end; " + fleet_.vm(index).log());
        }
        VmFigures figures;
        Fleet::add_report(figures, result.output);
        Fleet::add_report(figures_.at(static_cast<std::size_t>(round)).at(index), result.output);
        for (const auto& [name, path] : figures) {
            const auto check = [&, &label = name](bool good, const std::string& what) {
                expect(good, std::string(who).append(", ").append(label).append(": ").append(what));
            };
            check(path.wrong == 0, "wrong, " + path.first_wrong);
            check(path.done != 0, "nothing was done");
            for (const auto& [error, count] : path.errors) {
                check(round == Round::kRestart && kRestartErrors.contains(error),
                      std::to_string(count).append(" times ").append(error));
            }
        }
    }
}

void Soak::expect(bool good, const std::string& what) {
    if (!good) {
        failures_.push_back(what);
        std::cout << "FAILED: " << what << std::endl;
    }
}

Usage Soak::usage() {
    return read_usage(fleet_.mediator().pid(), fleet_.admin_socket());
}

bool Soak::await_devices(std::uint64_t count) {
    const auto deadline = Clock::now() + kDevicesLimit;
    while (usage().shared_memory_devices != count) {
        if (Clock::now() > deadline) {
            return false;
        }
        // The admin API reports current state only and offers no wait.
        std::this_thread::sleep_for(kPollInterval);
    }
    return true;
}

void Soak::expect_descriptors(std::uint64_t count) {
    const auto deadline = Clock::now() + kDevicesLimit;
    std::uint64_t now = 0;
    // The admin API's own connections close shortly after their last response.
    while ((now = count_descriptors(fleet_.mediator().pid())) != count && Clock::now() < deadline) {
        std::this_thread::sleep_for(kPollInterval);
    }
    expect(now == count, "the mediator has " + std::to_string(now) + " descriptors, not " +
                             std::to_string(count) + " as before");
}

void Soak::compare_with_baseline() {
    expect(await_devices(fleet_.size()), "not all devices are served at the end");
    const Usage now = usage();
    std::cout << "end       " << usage_text(now) << std::endl;
    expect_descriptors(baseline_->descriptors);
    expect(now.connections == baseline_->connections,
           "the number of connections differs from the baseline");
    expect(now.shared_memory_bytes == baseline_->shared_memory_bytes,
           "the amount of shared memory differs from the baseline");
    expect(now.buffer_bytes == 0, "buffers are still allocated although no VM works");
    expect(now.anonymous_kib <= baseline_->anonymous_kib + kMostGrowthKib,
           "the mediator's own memory has grown by more than " + std::to_string(kMostGrowthKib) +
               " KiB");
}

void Soak::compare_with_empty(const Usage& empty) {
    expect(await_devices(0), "devices are still served although no VM runs");
    const Usage now = usage();
    std::cout << "empty     " << usage_text(now) << std::endl;
    expect_descriptors(empty.descriptors);
    expect(now.connections == 0, "without VMs, connections are left");
    expect(now.shared_memory_bytes == 0, "without VMs, shared memory is left");
    expect(now.buffer_bytes == 0, "without VMs, buffers are left");
}

void Soak::compare_attacked() {
    const auto& attacked = figures_.at(static_cast<std::size_t>(Round::kAttack));
    for (std::size_t index = 0; index != fleet_.size(); ++index) {
        VmFigures steady = figures_.at(static_cast<std::size_t>(Round::kSteady)).at(index);
        for (const auto& [name, path] : attacked.at(index)) {
            const double bar = kMostSlower * steady[name].p99_us;
            // A round has too few matrix products.
            expect(name == "matmul" || path.p99_us <= bar,
                   "VM " + std::to_string(index + 1) + ", " + name +
                       ": the p99 beside an attacker is " +
                       std::to_string(path.p99_us / steady[name].p99_us) +
                       " times the worst of the steady rounds");
        }
    }
}

void Soak::print_figures() const {
    for (std::size_t kind = 0; kind != kNames.size(); ++kind) {
        if (rounds_.at(kind) != 0) {
            std::cout << "\n"
                      << rounds_.at(kind) << " rounds of kind " << kNames.at(kind)
                      << "; p50 and p99 of the worst\n"
                      << fleet_.table(figures_.at(kind));
        }
    }
    std::cout << "\n";
    for (const auto& [pool, figures] : order_.pools()) {
        std::cout << OrderCheck::text(pool, figures) << "\n";
    }
    std::cout << order_.lost() << " events lost" << std::endl;
}

}  // namespace vgpu::test
