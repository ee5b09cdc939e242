// SPDX-License-Identifier: MIT
#include "placement.h"

#include <cerrno>
#include <system_error>

#include "process_tree.h"

namespace vgpu::bench {

namespace {

cpu_set_t usable_cores() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (::sched_getaffinity(0, sizeof set, &set) != 0) {
        throw std::system_error(errno, std::generic_category(), "sched_getaffinity");
    }
    return set;
}

// A thread that has ended meanwhile needs no place.
void place_thread(pid_t thread, const cpu_set_t& set) {
    if (::sched_setaffinity(thread, sizeof set, &set) != 0 && errno != ESRCH) {
        throw std::system_error(errno, std::generic_category(), "sched_setaffinity");
    }
}

// With all its threads and the processes that it has started.
void place_process(pid_t process, const cpu_set_t& set) {
    for (const pid_t one : process_tree(process)) {
        for (const pid_t thread : threads_of(one)) {
            place_thread(thread, set);
        }
    }
}

}  // namespace

std::string name_of(Placement placement) {
    switch (placement) {
        case Placement::kAny:
            return "any";
        case Placement::kOneCore:
            return "one-core";
        case Placement::kTwoCores:
            return "two-cores";
    }
    return "unknown";
}

bool Placed::possible(Placement placement) {
    const cpu_set_t set = usable_cores();
    return placement != Placement::kTwoCores || CPU_COUNT(&set) >= 2;
}

Placed::Placed(Placement placement, const std::vector<pid_t>& servers)
    : servers_(servers), before_(usable_cores()) {
    if (placement == Placement::kAny) {
        return;
    }
    cpu_set_t ours;
    CPU_ZERO(&ours);
    for (int core = 0; core < CPU_SETSIZE; ++core) {
        if (CPU_ISSET(core, &before_)) {
            CPU_SET(core, &ours);
            break;
        }
    }
    cpu_set_t theirs = ours;
    if (placement == Placement::kTwoCores) {
        CPU_XOR(&theirs, &before_, &ours);
    }
    place_thread(0, ours);
    for (const pid_t server : servers_) {
        place_process(server, theirs);
    }
}

Placed::~Placed() {
    try {
        place_thread(0, before_);
        for (const pid_t server : servers_) {
            place_process(server, before_);
        }
    } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
        // They stay where they are: what runs later is slower, not wrong.
    }
}

}  // namespace vgpu::bench
