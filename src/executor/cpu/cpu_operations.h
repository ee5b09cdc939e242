// SPDX-License-Identifier: MIT
//
// The operations on buffers, done by the host's processor: what they mean, in the plainest form.
// docs/protocol.md says how exact their results are.
#pragma once

#include <cstddef>

#include "executor/cpu/cpu_memory.h"
#include "executor/operation.h"

namespace vgpu {

// Does MEMORY_ALLOC, MEMORY_FREE, MEMORY_COPY and the vendor operations; any other is answered with
// VGPU_ERR_UNSUPPORTED_OPERATION. `region` is where the job's shared memory begins; null if it has
// none. Precondition: the job lies within its buffers and its region.
Outcome run_on_memory(const Job& job, CpuMemory& memory, std::byte* region);

}  // namespace vgpu
