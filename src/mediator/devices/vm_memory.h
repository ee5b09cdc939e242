// SPDX-License-Identifier: MIT
//
// VmMemory: one VM's buffers and its quota. It turns the handles of an operation into a backend's
// buffers and refuses what does not lie within them; a refused operation has changed nothing.
//
//   prepare(operation)  -->  backend runs operation.job  -->  complete(operation, outcome)
//
// The bytes of an allocation count from prepare() on, so that two on their way cannot both have
// what is left. Control loop only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "executor/operation.h"
#include "mediator/devices/handle_table.h"
#include "mediator/requests/operations.h"

namespace vgpu {

class VmMemory {
  public:
    // `quota`: bytes that the VM may have allocated at once; 0: no limit.
    explicit VmMemory(std::uint64_t quota) : quota_(quota) {}

    // Fills operation.job.buffers for this device, or says why not: VGPU_ERR_CUDA_INVALID_HANDLE,
    // VGPU_ERR_CUDA_OUT_OF_BOUNDS, VGPU_ERR_CUDA_MEMORY_QUOTA.
    std::optional<Outcome> prepare(Operation& operation, std::size_t device);
    // Takes in what came of a prepared operation, and makes the outcome the guest's: a handle for a
    // new buffer, the quota in what is free. Precondition: prepare() gave nothing for it.
    void complete(const Operation& operation, std::size_t device, Outcome& outcome);

    // From the next allocation on. What is allocated stays.
    void set_quota(std::uint64_t quota) { quota_ = quota; }
    // The device has been reset: its buffers are gone, and so are their handles.
    void lose(std::size_t device);
    [[nodiscard]] bool has_buffers_on(std::size_t device) const { return table_.any_on(device); }

    // All buffers, now the caller's to free.
    std::vector<HandleTable::Buffer> take_all();
    [[nodiscard]] std::uint64_t used() const { return used_; }
    [[nodiscard]] std::uint64_t used_on(std::size_t device) const {
        return device < used_on_.size() ? used_on_[device] : 0;
    }

  private:
    // Counts bytes as used, and as used no more.
    void charge(std::size_t device, std::uint64_t bytes);
    void refund(std::size_t device, std::uint64_t bytes);
    void complete_alloc(const Operation& operation, std::size_t device, Outcome& outcome);

    std::uint64_t quota_;
    bool lost_some_ = false;
    std::uint64_t used_ = 0;              // bytes allocated or about to be
    std::vector<std::uint64_t> used_on_;  // the same by device
    std::size_t allocating_ = 0;          // buffers that are prepared, and not complete
    HandleTable table_;
};

}  // namespace vgpu
