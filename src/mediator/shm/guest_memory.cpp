// SPDX-License-Identifier: MIT
#include "mediator/shm/guest_memory.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>

#include "mediator/events/shortages.h"

namespace vgpu {
namespace {

constexpr std::uint64_t kFeaturesNeeded = VGPU_FEATURE_SHM | VGPU_FEATURE_QUEUES;
constexpr int kSealsNeeded = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

// Returns true for a memory file of ordinary pages: pages of a file on a disk, or huge pages when
// none are left, may be unavailable on access.
bool is_plain_memory(int fd) {
    struct statfs found {};
    return ::fstatfs(fd, &found) == 0 && found.f_type == TMPFS_MAGIC;
}

}  // namespace

std::int64_t GuestMemory::blocks() const {
    struct stat file {};
    return ::fstat(fd_.get(), &file) == 0 ? file.st_blocks : 0;
}

Result<std::shared_ptr<GuestMemory>, GuestMemory::Refusal> GuestMemory::create(
    OfferedMemory offered, Disposer::Source disposer) {
    const vgpu_msg_hello& hello = offered.hello;
    const auto refuse = [](vgpu_hello_status status) { return Refusal{status, {}}; };
    if (offered.lost) {
        return Refusal{VGPU_HELLO_NO_RESOURCES, descriptor_shortage()};
    }
    if (hello.protocol_version >> 16U != VGPU_PROTOCOL_VERSION >> 16U ||
        hello.layout_version != VGPU_SHM_LAYOUT_VERSION ||
        (hello.features & kFeaturesNeeded) != kFeaturesNeeded) {
        return refuse(VGPU_HELLO_BAD_VERSION);
    }
    const auto layout = ring::Layout::compute(hello.shm_size, hello.queue_count);
    if (!layout) {
        return refuse(VGPU_HELLO_BAD_LAYOUT);
    }
    struct stat file {};
    const int seals = ::fcntl(offered.memory.get(), F_GET_SEALS);
    if (seals < 0 || (seals & kSealsNeeded) != kSealsNeeded ||
        !is_plain_memory(offered.memory.get()) || ::fstat(offered.memory.get(), &file) != 0 ||
        static_cast<std::uint64_t>(file.st_size) != hello.shm_size) {
        return refuse(VGPU_HELLO_BAD_MEMORY);
    }
    if (offered.kind == OfferedMemory::Kind::kUnknown) {
        return Refusal{VGPU_HELLO_NO_RESOURCES,
                       "it cannot check the type of descriptors, because /proc/self/fd does not "
                       "exist: mount /proc where the mediator runs"};
    }
    if (offered.kind == OfferedMemory::Kind::kOther) {
        return refuse(VGPU_HELLO_BAD_DESCRIPTOR);
    }
    auto mapping = Mapping::create(offered.memory.get(), hello.shm_size, PROT_READ | PROT_WRITE);
    if (!mapping && mapping.error().sys_errno == ENOMEM) {
        return Refusal{VGPU_HELLO_NO_RESOURCES,
                       mapping.error().message +
                           " (a limit on address space, ulimit -v, or vm.max_map_count)"};
    }
    if (!mapping) {
        return refuse(
            VGPU_HELLO_BAD_MEMORY);  // sealed against writing, or the descriptor is read-only
    }
    // No other process can make closing a memory file or an eventfd block.
    std::vector<Queue> queues;
    queues.reserve(offered.queues.size());
    for (OfferedMemory::Queue& queue : offered.queues) {
        queues.push_back({.doorbell = queue.doorbell.take(), .interrupt = queue.interrupt.take()});
    }
    return std::shared_ptr<GuestMemory>(
        new GuestMemory(offered.memory.take(), std::move(mapping).value(), *layout,
                        std::move(queues), file.st_dev, file.st_ino),
        [disposer = std::move(disposer)](GuestMemory* memory) {
            disposer.dispose(std::shared_ptr<GuestMemory>(memory));
        });
}

}  // namespace vgpu
