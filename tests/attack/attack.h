// SPDX-License-Identifier: MIT
//
// An attack: the load that one hostile or merely busy neighbour puts on a mediator while a
// well-behaved VM is measured. Each attack runs in its own process, with at most one busy thread,
// until it is killed.
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
    std::uint16_t metrics_port = 0;  // 0 if Attack::config opens none
};

// Context of an attacking process.
struct Attacker {
    Place place;
    // Call once after setup: the measurement starts then.
    std::function<void()> ready;
    // Counts the attack's steps, so that a report shows whether it ran at all.
    std::atomic<std::uint64_t>* steps = nullptr;

    void count(std::uint64_t done = 1) const { steps->fetch_add(done, std::memory_order_relaxed); }
};

struct Attack {
    const char* name;
    const char* description;
    // Runs until killed. Throws std::exception if it cannot continue. nullptr: no attacker.
    void (*run)(Attacker& attacker);
    // Appended to the mediator's configuration file.
    const char* config = "";
    // Whether a newly connected VM must also be served at the end.
    bool newcomer = false;
};

// VM ids of attackers; the victim uses 1 and 2.
inline constexpr std::uint32_t kAttackerVm = 66;
inline constexpr std::uint32_t kFirstOfMany = 1000;

// Keeps a processor busy without using the mediator. Never returns.
void keep_a_processor_busy(Attacker& attacker);

// The attack groups, one file each.
std::span<const Attack> control_runs();
std::span<const Attack> queue_attacks();
std::span<const Attack> message_attacks();
std::span<const Attack> connection_attacks();
std::span<const Attack> descriptor_attacks();

}  // namespace vgpu::attack
