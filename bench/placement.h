// SPDX-License-Identifier: MIT
//
// Where the two ends of a ping-pong run. A wake-up on the same core, on a core that is awake and
// on one that sleeps cost very different times (some 5, 10 and 50 µs on a virtual machine), and
// left alone the kernel changes its mind in the middle of a measurement. So figures are taken with
// the ends held in place, and once as the kernel likes it, which is how a user has it.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <string>
#include <vector>

namespace vgpu::bench {

enum class Placement {
    kAny,       // wherever the kernel puts them
    kOneCore,   // all on one core
    kTwoCores,  // we on one core, the other end on any of the others
};

// "any", "one-core", "two-cores".
std::string name_of(Placement placement);

// Puts this process and others where a placement wants them, and back where they were when the
// object goes. Call from the thread that measures; other threads of this process are left alone.
class Placed {
  public:
    // `servers` are processes, with all the threads they have now. Throws std::system_error if the
    // kernel refuses. Precondition: possible(placement).
    Placed(Placement placement, const std::vector<pid_t>& servers);
    Placed(const Placed&) = delete;
    Placed& operator=(const Placed&) = delete;
    ~Placed();

    // Whether this process may use enough cores.
    static bool possible(Placement placement);

  private:
    std::vector<pid_t> servers_;
    cpu_set_t before_{};
};

}  // namespace vgpu::bench
