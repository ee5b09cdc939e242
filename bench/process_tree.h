// SPDX-License-Identifier: MIT
//
// Process information from /proc.
#pragma once

#include <sys/types.h>

#include <vector>

namespace vgpu::bench {

// Returns the threads of a process; none if it no longer exists.
std::vector<pid_t> threads_of(pid_t process);

// Returns a process and its descendants, except those that have been reaped. Without the children
// if the kernel does not report them (CONFIG_PROC_CHILDREN).
std::vector<pid_t> process_tree(pid_t process);

}  // namespace vgpu::bench
