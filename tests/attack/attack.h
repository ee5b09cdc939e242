// SPDX-License-Identifier: MIT
//
// An attack: what one hostile or merely busy neighbour does to a mediator while a well-behaved VM
// is measured. Each attack runs in a process of its own, with one busy thread at most, until it is
// killed.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace vgpu::attack {

// The sockets of the mediator under attack.
struct Place {
    std::string socket;
    std::string admin_socket;
};

// What the process of an attack is given.
struct Attacker {
    Place place;
    // To be called once, when the setup is complete: the measurement begins then.
    std::function<void()> ready;
    // Counts what the attack does, so that a report shows whether it ran at all.
    std::atomic<std::uint64_t>* steps = nullptr;

    void count(std::uint64_t done = 1) const { steps->fetch_add(done, std::memory_order_relaxed); }
};

struct Attack {
    const char* name;
    const char* description;
    // Runs until it is killed. Throws std::exception if it cannot go on. nullptr: no attacker.
    void (*run)(Attacker& attacker);
    // Added to the mediator's configuration file.
    const char* config = "";
    // Whether a VM that connects for the first time must be served at the end, too.
    bool newcomer = false;
};

// VM ids of attackers; the victim has 1 and 2.
inline constexpr std::uint32_t kAttackerVm = 66;
inline constexpr std::uint32_t kFirstOfMany = 1000;

// Keeps a processor busy and leaves the mediator alone. Never returns.
void keep_a_processor_busy(Attacker& attacker);

// The groups, one file each.
std::span<const Attack> control_runs();
std::span<const Attack> queue_attacks();
std::span<const Attack> message_attacks();
std::span<const Attack> connection_attacks();
std::span<const Attack> descriptor_attacks();

}  // namespace vgpu::attack
