// SPDX-License-Identifier: MIT
#include "mediator/shm/memory_guard.h"

#include <algorithm>

namespace vgpu {
namespace {

// Time for which memory that blocked the control loop is rejected, doubled each time.
constexpr std::chrono::seconds kRejectedFor{10};
constexpr unsigned kMostDoublings = 7;
// After this many offenses, by any of its VMs, all memory of that user is rejected.
constexpr unsigned kTimesOfUser = 3;
constexpr std::size_t kMostBlocked = 1024;

}  // namespace

bool MemoryGuard::allows(std::uint32_t vm_id, uid_t user) const {
    const auto allowed = [this](const auto& blocked, auto key) {
        const auto found = blocked.find(key);
        return found == blocked.end() || found->second.until <= clock_.now();
    };
    return allowed(vms_, vm_id) && allowed(users_, user);
}

void MemoryGuard::judge(GuestQueues& queues) {
    clock_.next();
    // The loop may have blocked on something else: only punched holes shrink the file.
    const std::int64_t blocks = queues.memory->blocks();
    const bool punched = blocks < queues.most_blocks;
    queues.most_blocks = std::max(queues.most_blocks, blocks);
    if (!touches_.blames(clock_.now()) || !punched) {
        return;
    }
    if (vms_.size() >= kMostBlocked) {
        vms_.erase(vms_.begin());
    }
    Blocked& vm = vms_[queues.header.vm_id];
    vm.times = std::min(vm.times + 1, kMostDoublings);
    vm.until = clock_.now() + kRejectedFor * (1U << (vm.times - 1));
    Blocked& user = users_[queues.session->peer().uid];
    if (++user.times > kTimesOfUser) {
        user.until = clock_.now() + kRejectedFor;
    }
    queues.session->close_soon(
        CloseReason::kMemoryBlocks,
        "its shared memory made the mediator wait, because its process punches holes into it");
}

}  // namespace vgpu
