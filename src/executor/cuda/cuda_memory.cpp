// SPDX-License-Identifier: MIT
#include "executor/cuda/cuda_memory.h"

namespace vgpu::cuda {

Status CudaMemory::allocate(std::uint64_t size, BufferId& buffer) {
    DeviceAddress address = 0;
    const Status status = api_.mem_alloc(&address, size);
    if (status == kSuccess) {
        buffer = next_++;
        buffers_.emplace(buffer, address);
    }
    return status;
}

Status CudaMemory::release(BufferId buffer) {
    const auto found = buffers_.find(buffer);
    if (found == buffers_.end()) {
        return kSuccess;
    }
    const DeviceAddress address = found->second;
    buffers_.erase(found);
    return api_.mem_free(address);
}

DeviceAddress CudaMemory::address(BufferId buffer) const {
    const auto found = buffers_.find(buffer);
    return found == buffers_.end() ? 0 : found->second;
}

void CudaMemory::release_all() {
    for (const auto& [id, address] : buffers_) {
        api_.mem_free(address);
    }
    buffers_.clear();
}

}  // namespace vgpu::cuda
