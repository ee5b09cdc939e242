// SPDX-License-Identifier: MIT
#include "executor/cuda/cuda_memory.h"

#include <string>

namespace vgpu::cuda {

Result<void> CudaMemory::open(Device device) {
    int supported = 0;
    if (api_.pool_create == nullptr || api_.mem_alloc_from_pool == nullptr ||
        api_.mem_free_async == nullptr || api_.pool_trim == nullptr ||
        api_.pool_set_attribute == nullptr || api_.pool_get_attribute == nullptr ||
        api_.pool_destroy == nullptr || api_.stream_synchronize == nullptr ||
        api_.device_get_attribute(&supported, kAttributeMemoryPools, device) != kSuccess ||
        supported == 0) {
        return {};
    }
    const PoolProperties properties{.device = device};
    std::uint64_t kept = kKept;
    Status status = api_.pool_create(&pool_, &properties);
    if (status == kSuccess) {
        status = api_.pool_set_attribute(pool_, kPoolReleaseThreshold, &kept);
    }
    if (status == kSuccess) {
        status = api_.stream_create(&stream_, kStreamNonBlocking);
    }
    if (status == kSuccess) {
        status = api_.event_create(&given_, kEventDisableTiming);
    }
    if (status != kSuccess) {
        close();
        return Error{"cannot make a pool of GPU memory: " + api_.describe(status)};
    }
    return {};
}

Status CudaMemory::allocate_from_pool(std::uint64_t size, DeviceAddress& address) {
    Status status = api_.mem_alloc_from_pool(&address, size, pool_, stream_);
    if (status == kOutOfMemory) {
        // The pool's unused memory may be too fragmented.
        status = api_.pool_trim(pool_, 0);
        if (status == kSuccess) {
            status = api_.mem_alloc_from_pool(&address, size, pool_, stream_);
        }
    }
    return status;
}

Status CudaMemory::allocate(std::uint64_t size, Stream stream, BufferId& buffer) {
    DeviceAddress address = 0;
    const Status status =
        pool_ == nullptr ? api_.mem_alloc(&address, size) : allocate_from_pool(size, address);
    if (status != kSuccess) {
        return status;
    }
    buffer = next_++;
    buffers_.emplace(buffer, address);
    // Usable in this stream once it has been allocated in the other, which is immediate.
    return pool_ == nullptr ? kSuccess : api_.put_behind(stream, stream_, given_);
}

Status CudaMemory::free_address(DeviceAddress address) {
    released_ = true;
    return pool_ == nullptr ? api_.mem_free(address) : api_.mem_free_async(address, stream_);
}

void CudaMemory::hide(BufferId buffer) {
    hidden_.insert(buffers_.extract(buffer));
}

Status CudaMemory::release(BufferId buffer) {
    for (Buffers* const all : {&buffers_, &hidden_}) {
        if (const auto found = all->extract(buffer)) {
            return free_address(found.mapped());
        }
    }
    return kSuccess;
}

DeviceAddress CudaMemory::address(BufferId buffer) const {
    const auto found = buffers_.find(buffer);
    return found == buffers_.end() ? 0 : found->second;
}

std::uint64_t CudaMemory::unused() const {
    std::uint64_t reserved = 0;
    std::uint64_t used = 0;
    if (pool_ == nullptr || api_.pool_get_attribute(pool_, kPoolReserved, &reserved) != kSuccess ||
        api_.pool_get_attribute(pool_, kPoolUsed, &used) != kSuccess) {
        return 0;
    }
    return reserved > used ? reserved - used : 0;
}

void CudaMemory::give_back() {
    if (pool_ != nullptr && released_) {
        released_ = false;
        // Makes the pool release what exceeds its threshold.
        api_.stream_synchronize(stream_);
    }
}

void CudaMemory::close() {
    for (Buffers* const all : {&buffers_, &hidden_}) {
        for (const auto& [id, address] : *all) {
            free_address(address);
        }
    }
    if (given_ != nullptr) {
        api_.event_destroy(given_);
    }
    if (stream_ != nullptr) {
        api_.stream_destroy(stream_);
    }
    if (pool_ != nullptr) {
        api_.pool_destroy(pool_);
    }
    forget_all();
}

void CudaMemory::forget_all() {
    buffers_.clear();
    hidden_.clear();
    pool_ = nullptr;
    stream_ = nullptr;
    given_ = nullptr;
}

}  // namespace vgpu::cuda
