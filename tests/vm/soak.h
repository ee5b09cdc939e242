// SPDX-License-Identifier: MIT
//
// Soak: seven guests work on one mediator for a long time, in rounds. A round may include an event:
// the mediator is killed and restarted, a VM is reset or replaced during work, or one attacks.
// Results are checked in the guests, the order of execution by the event stream, and the mediator's
// resource use at the end is compared with the beginning.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "vm/event_reader.h"
#include "vm/fleet.h"
#include "vm/usage.h"

namespace vgpu::test {

class Soak {
  public:
    struct Options {
        std::chrono::seconds length{600};
        std::chrono::seconds round{15};
        std::uint64_t seed = 1;  // seeds the choice of events
        bool attacks = true;
    };

    explicit Soak(const Options& options);

    // Returns true if all checks passed. Throws std::runtime_error if it cannot continue.
    bool run();

  private:
    enum class Round : std::uint8_t { kSteady, kRestart, kReset, kReplace, kAttack };
    static constexpr std::array<const char*, 5> kNames{"steady", "restart", "reset", "replace",
                                                       "attack"};

    // Draws from a shuffled deck of all kinds. The mediator is not killed in the second half, so
    // that its memory at the end can be compared.
    Round choose(bool restarts);
    void play(Round round);
    // Triggers the round's event while all VMs but `chosen` work.
    void disturb(Round round, std::size_t chosen);
    void restart_mediator();
    void follow_events();
    void stop_following();
    // Adds the reports of the working VMs and records errors that this round does not explain.
    void collect(Round round, std::size_t chosen);
    void expect(bool good, const std::string& what);
    // Waits until the mediator serves `count` devices; returns false on time-out.
    bool await_devices(std::uint64_t count);
    void expect_descriptors(std::uint64_t count);
    [[nodiscard]] Usage usage();
    void compare_with_baseline();
    void compare_attacked();
    void compare_with_empty(const Usage& empty);
    void print_figures() const;

    Options options_;
    std::mt19937_64 random_;
    std::vector<Round> deck_;
    bool deck_has_restarts_ = false;
    Fleet fleet_{{kSeven.begin(), kSeven.end()}};
    OrderCheck order_;
    std::optional<EventReader> events_;
    std::optional<Usage> baseline_;
    // Indexed by kind of round.
    std::array<std::vector<VmFigures>, kNames.size()> figures_;
    std::array<std::uint64_t, kNames.size()> rounds_{};
    std::vector<std::string> failures_;
};

}  // namespace vgpu::test
