// SPDX-License-Identifier: MIT
//
// CPU affinity of the two ends of a ping-pong. Waking a process costs some 5 µs on the same core
// and 25 µs or more on a sleeping core (virtual machines), and an idle kernel may leave one pair of
// processes on one core and spread the next over two. Without pinning, a ratio of two round trips
// depends on that choice, so both pairs are pinned to the same cores.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <string>
#include <vector>

namespace vgpu::bench {

enum class Placement {
    kAny,       // chosen by the kernel
    kOneCore,   // all on one core
    kTwoCores,  // this process on one core, the other end on any other, on another physical core
                // if the kernel reports one
};

// "any", "one-core", "two-cores".
std::string name_of(Placement placement);

// Pins this process and others according to a placement and restores the affinity on destruction.
// Call from the thread that measures; other threads of this process are not affected.
class Placed {
  public:
    // `servers`: processes, pinned with all their current threads and child processes. Throws
    // std::system_error if the kernel rejects it. Precondition: possible(placement).
    Placed(Placement placement, const std::vector<pid_t>& servers);
    Placed(const Placed&) = delete;
    Placed& operator=(const Placed&) = delete;
    ~Placed();

    // Returns whether this process may use enough cores.
    static bool possible(Placement placement);

  private:
    std::vector<pid_t> servers_;
    cpu_set_t before_{};
};

}  // namespace vgpu::bench
