// SPDX-License-Identifier: MIT
#include "placement.h"

#include <fmt/core.h>

#include <cerrno>
#include <fstream>
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

// Returns the logical cores that share a physical core with `core`, itself included, as far as the
// kernel reports them: in a VM it often does not.
cpu_set_t siblings_of(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    // Such as "0,16" or "0-1".
    std::ifstream file(
        fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", core));
    int first = 0;
    while (file >> first) {
        int last = first;
        if (file.peek() == '-') {
            file.get();
            file >> last;
        }
        for (int one = first; one <= last && one < CPU_SETSIZE; ++one) {
            CPU_SET(one, &set);
        }
        file.get();
    }
    return set;
}

// Ignores a thread that has exited meanwhile.
void place_thread(pid_t thread, const cpu_set_t& set) {
    if (::sched_setaffinity(thread, sizeof set, &set) != 0 && errno != ESRCH) {
        throw std::system_error(errno, std::generic_category(), "sched_setaffinity");
    }
}

// Includes all its threads and descendants.
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
    int our_core = 0;
    while (CPU_ISSET(our_core, &before_) == 0) {
        ++our_core;
    }
    cpu_set_t ours;
    CPU_ZERO(&ours);
    CPU_SET(our_core, &ours);
    cpu_set_t theirs = ours;
    if (placement == Placement::kTwoCores) {
        CPU_XOR(&theirs, &before_, &ours);
        // Avoid SMT siblings: two threads that share a physical core are a different measurement.
        const cpu_set_t siblings = siblings_of(our_core);
        cpu_set_t near;
        CPU_AND(&near, &theirs, &siblings);
        cpu_set_t apart;
        CPU_XOR(&apart, &theirs, &near);
        theirs = CPU_COUNT(&apart) > 0 ? apart : theirs;
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
        // The affinity stays as it is: later measurements are slower, not wrong.
    }
}

}  // namespace vgpu::bench
