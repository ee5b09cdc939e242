// SPDX-License-Identifier: MIT
//
// Control runs without an attack, as a baseline for the others.
#include <array>

#include "attack.h"

namespace vgpu::attack {

// Shows what a neighbour costs the victim by its processor use alone.
void keep_a_processor_busy(Attacker& attacker) {
    attacker.ready();
    for (;;) {
        attacker.count();
    }
}

namespace {

constexpr std::array kAttacks{
    Attack{.name = "quiet", .description = "no attacker: the control run", .run = nullptr},
    Attack{.name = "busy",
           .description = "a process that keeps a processor busy and leaves the mediator alone",
           .run = keep_a_processor_busy},
};

}  // namespace

std::span<const Attack> control_runs() {
    return kAttacks;
}

}  // namespace vgpu::attack
