// SPDX-License-Identifier: MIT
//
// The operations on buffers on the host CPU, implemented in the simplest form that shows what they
// compute. docs/protocol.md specifies their accuracy.
#pragma once

#include <atomic>
#include <cstddef>

#include "executor/cpu/cpu_memory.h"
#include "executor/job.h"

namespace vgpu {

// Runs MEMORY_ALLOC, MEMORY_FREE, MEMORY_COPY and the vendor operations; any other fails with
// VGPU_ERR_UNSUPPORTED_OPERATION. `region` is the start of the job's shared memory; null if it has
// none. Once `abandoned` is true, an operation on elements ends early and fails. Precondition: the
// job lies within its buffers and its region.
Outcome run_on_memory(const Job& job, CpuMemory& memory, std::byte* region,
                      const std::atomic<bool>& abandoned);

}  // namespace vgpu
