// SPDX-License-Identifier: MIT
//
// Where the two ends of a ping-pong run. Waking a process costs some 5 µs on the same core and 25
// µs or more on a core that sleeps (virtual machines), and an idle kernel may leave one pair of
// processes on one core and spread the next over two. Left alone, a ratio of two round trips then
// says which pair was lucky. So the ends of both are held in the same places.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <string>
#include <vector>

namespace vgpu::bench {

enum class Placement {
    kAny,       // wherever the kernel puts them
    kOneCore,   // all on one core
    kTwoCores,  // we on one core, the other end on any of the others, on another physical core if
                // the kernel knows of one
};

// "any", "one-core", "two-cores".
std::string name_of(Placement placement);

// Puts this process and others where a placement wants them, and back where they were when the
// object goes. Call from the thread that measures; other threads of this process are left alone.
class Placed {
  public:
    // `servers` are processes, with all the threads and child processes they have now. Throws
    // std::system_error if the kernel refuses. Precondition: possible(placement).
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
