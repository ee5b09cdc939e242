// SPDX-License-Identifier: MIT
#include "mediator/shm/memory_guard.h"

#include <algorithm>

namespace vgpu {
namespace {

// Time for which memory that blocked the control loop is rejected, doubled each time.
constexpr std::chrono::seconds kRejectedFor{10};
constexpr unsigned kMostDoublings = 7;
// After this many offenses, by any of its VMs, all memory of that user is rejected.
constexpr unsigned kTimesOfUser = 8;
constexpr std::size_t kMostBlocked = 1024;

}  // namespace

bool MemoryGuard::allows(std::uint32_t vm_id, uid_t user) const {
    const auto allowed = [this](const auto& blocked, auto key) {
        const auto found = blocked.find(key);
        return found == blocked.end() || found->second.until <= clock_.now();
    };
    return allowed(vms_, vm_id) && allowed(users_, user);
}

void MemoryGuard::judge(GuestQueues* queues, bool replaced) {
    clock_.next();
    const auto now = clock_.now();
    const bool slow = touches_.blames(now);
    touches_.begin(now);
    if (queues == nullptr || queues->blamed) {
        return;
    }
    // The host's memory management, and the lock of this process's address space, make an access
    // wait as well: only punched holes shrink the file.
    const std::int64_t blocks = queues->memory->blocks();
    const bool punched = blocks < queues->most_blocks;
    queues->most_blocks = std::max(queues->most_blocks, blocks);
    if (replaced || (slow && punched)) {
        queues->blamed = true;
        blame(*queues->session, queues->header.vm_id, 1);
    }
}

void MemoryGuard::blame(Session& session, std::uint32_t vm_id, unsigned times) {
    if (vms_.size() >= kMostBlocked) {
        vms_.erase(vms_.begin());
    }
    const auto now = clock_.now();
    const auto reject = [now](Blocked& blocked, unsigned count, unsigned free) {
        blocked.times = std::min(blocked.times + count, free + kMostDoublings);
        if (blocked.times > free) {
            blocked.until = now + kRejectedFor * (1U << (blocked.times - free - 1));
        }
    };
    reject(vms_[vm_id], 1, 0);
    reject(users_[session.peer().uid], times, kTimesOfUser);
    session.close_soon(
        CloseReason::kMemoryBlocks,
        "its shared memory blocked the mediator, because a process punches holes in it");
}

}  // namespace vgpu
