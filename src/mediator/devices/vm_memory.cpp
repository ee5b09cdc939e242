// SPDX-License-Identifier: MIT
#include "mediator/devices/vm_memory.h"

#include <algorithm>
#include <string>
#include <utility>

namespace vgpu {
namespace {

// Returns true if `use` lies within `size` bytes. Forms no sum or product that could overflow.
bool lies_within(const BufferUse& use, std::uint64_t size) {
    return use.offset <= size && use.count <= (size - use.offset) / use.unit;
}

std::string reach_text(const BufferUse& use) {
    if (use.unit == 1) {
        return "offset " + std::to_string(use.offset) + " and length " + std::to_string(use.count);
    }
    return std::to_string(use.count) + " elements of " + std::to_string(use.unit) + " bytes";
}

}  // namespace

void VmMemory::charge(std::size_t device, std::uint64_t bytes) {
    if (device >= used_on_.size()) {
        used_on_.resize(device + 1);
    }
    used_ += bytes;
    used_on_[device] += bytes;
}

void VmMemory::refund(std::size_t device, std::uint64_t bytes) {
    used_ -= bytes;
    used_on_.at(device) -= bytes;
}

std::optional<Outcome> VmMemory::prepare(Operation& operation, std::size_t device) {
    if (operation.job.opcode == VGPU_OP_MEMORY_ALLOC) {
        const std::uint64_t size = operation.job.length;
        if (quota_ != 0 && size > quota_ - std::min(used_, quota_)) {
            return Outcome::failure(VGPU_ERR_CUDA_MEMORY_QUOTA,
                                    "this VM has a quota of " + std::to_string(quota_) +
                                        " bytes and has allocated " + std::to_string(used_) + ": " +
                                        std::to_string(size) + " more exceed it");
        }
        if (size > UINT64_MAX - used_) {
            return no_memory_outcome(size);
        }
        if (allocating_ >= table_.room()) {
            return Outcome::failure(
                VGPU_ERR_CUDA_MEMORY_QUOTA,
                "this VM has no free buffer handle: free unused buffers, or reconnect");
        }
        ++allocating_;
        charge(device, size);
        return std::nullopt;
    }
    for (std::size_t i = 0; i < operation.use_count; ++i) {
        const BufferUse& use = operation.uses.at(i);
        if (use.in_heap) {
            continue;
        }
        const HandleTable::Buffer* const buffer = table_.find(use.handle);
        if (buffer == nullptr || buffer->device != device) {
            return Outcome::failure(
                VGPU_ERR_CUDA_INVALID_HANDLE,
                "this VM has no buffer " + std::to_string(use.handle) +
                    (buffer != nullptr ? " on this pool's GPU"
                     : lost_some_      ? ": buffers allocated before the GPU was reset are lost"
                                       : ""));
        }
        if (!lies_within(use, buffer->size)) {
            return Outcome::failure(VGPU_ERR_CUDA_OUT_OF_BOUNDS, reach_text(use) + " exceed the " +
                                                                     std::to_string(buffer->size) +
                                                                     " bytes of buffer " +
                                                                     std::to_string(use.handle));
        }
        operation.job.buffers.at(i) = buffer->id;
    }
    return std::nullopt;
}

void VmMemory::complete(const Operation& operation, std::size_t device, Outcome& outcome) {
    switch (operation.job.opcode) {
        case VGPU_OP_MEMORY_ALLOC:
            complete_alloc(operation, device, outcome);
            break;
        case VGPU_OP_MEMORY_FREE: {
            // Freed for the VM, whatever the outcome on the device.
            const std::uint32_t handle = operation.uses[0].handle;
            if (const HandleTable::Buffer* const buffer = table_.find(handle)) {
                refund(buffer->device, buffer->size);
                table_.erase(handle);
            }
            break;
        }
        case VGPU_OP_GET_DEVICE_INFO:
            if (quota_ != 0 && outcome.result_count == VGPU_INFO_RESULT_COUNT) {
                const std::uint64_t free = std::uint64_t{outcome.results[VGPU_INFO_MEMORY_FREE_HI]}
                                               << 32U |
                                           outcome.results[VGPU_INFO_MEMORY_FREE_LO];
                const std::uint64_t mine = std::min(free, quota_ - std::min(used_, quota_));
                outcome.results[VGPU_INFO_MEMORY_FREE_LO] = static_cast<std::uint32_t>(mine);
                outcome.results[VGPU_INFO_MEMORY_FREE_HI] = static_cast<std::uint32_t>(mine >> 32U);
            }
            break;
        default:
            break;
    }
}

void VmMemory::complete_alloc(const Operation& operation, std::size_t device, Outcome& outcome) {
    --allocating_;
    if (outcome.status != VGPU_ERR_NONE) {
        refund(device, operation.job.length);
        return;
    }
    // prepare() has ensured that there is a handle.
    const auto handle =
        table_.insert({.id = outcome.buffer, .size = operation.job.length, .device = device});
    outcome.result_count = 1;
    outcome.results[0] = handle.value();
}

void VmMemory::lose(std::size_t device) {
    for (const HandleTable::Buffer& buffer : table_.take_all_on(device)) {
        refund(device, buffer.size);
        lost_some_ = true;
    }
}

std::vector<HandleTable::Buffer> VmMemory::take_all() {
    std::vector<HandleTable::Buffer> buffers = table_.take_all();
    used_ = 0;
    used_on_.clear();
    return buffers;
}

}  // namespace vgpu
