// SPDX-License-Identifier: MIT
//
// VmMemory: one VM's buffers and its quota. It resolves the handles of an operation to a backend's
// buffers and rejects accesses out of bounds; a rejected operation has no effect.
//
//   prepare(operation)  -->  backend runs operation.job  -->  complete(operation, outcome)
//
// The bytes of an allocation count from prepare() on, so that two in flight cannot both use the
// same remainder. Control loop only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "executor/job.h"
#include "mediator/devices/handle_table.h"
#include "mediator/requests/decoding.h"

namespace vgpu {

class VmMemory {
  public:
    // `quota`: bytes that the VM may have allocated at once; 0: no limit.
    explicit VmMemory(std::uint64_t quota) : quota_(quota) {}

    // Fills operation.job.buffers for this device, or returns the error:
    // VGPU_ERR_CUDA_INVALID_HANDLE, VGPU_ERR_CUDA_OUT_OF_BOUNDS, VGPU_ERR_CUDA_MEMORY_QUOTA.
    std::optional<Outcome> prepare(Operation& operation, std::size_t device);
    // Records the outcome of a prepared operation and adapts it for the guest: a handle for a new
    // buffer, the quota in free memory. Precondition: prepare() returned no error for it.
    void complete(const Operation& operation, std::size_t device, Outcome& outcome);

    // Takes effect with the next allocation. Existing allocations stay.
    void set_quota(std::uint64_t quota) { quota_ = quota; }
    // Drops the buffers and handles of a device that has been reset.
    void lose(std::size_t device);
    [[nodiscard]] bool has_buffers_on(std::size_t device) const { return table_.any_on(device); }

    // Removes and returns all buffers; the caller frees them.
    std::vector<HandleTable::Buffer> take_all();
    [[nodiscard]] std::uint64_t used() const { return used_; }
    [[nodiscard]] std::uint64_t used_on(std::size_t device) const {
        return device < used_on_.size() ? used_on_[device] : 0;
    }

  private:
    // Adds bytes to the usage, and subtracts them.
    void charge(std::size_t device, std::uint64_t bytes);
    void refund(std::size_t device, std::uint64_t bytes);
    void complete_alloc(const Operation& operation, std::size_t device, Outcome& outcome);

    std::uint64_t quota_;
    bool lost_some_ = false;
    std::uint64_t used_ = 0;              // bytes allocated or being allocated
    std::vector<std::uint64_t> used_on_;  // the same by device
    std::size_t allocating_ = 0;          // allocations prepared and not complete
    HandleTable table_;
};

}  // namespace vgpu
