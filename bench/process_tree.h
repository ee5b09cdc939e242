// SPDX-License-Identifier: MIT
//
// Processes as /proc shows them.
#pragma once

#include <sys/types.h>

#include <vector>

namespace vgpu::bench {

// The threads of a process; none if it is gone.
std::vector<pid_t> threads_of(pid_t process);

// A process and all that it, and they, have started and not yet waited for. Without the children
// where the kernel does not tell them (CONFIG_PROC_CHILDREN).
std::vector<pid_t> process_tree(pid_t process);

}  // namespace vgpu::bench
