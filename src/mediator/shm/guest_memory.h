// SPDX-License-Identifier: MIT
//
// GuestMemory: the memory that one device shares with the mediator, with the doorbell and interrupt
// eventfds of its queues. create() validates the hello; from then on, sizes and offsets come from
// the layout only, never from the memory.
//
// The guest may change the contents at any time. The mapping stays valid: the file is sealed
// against shrinking and backed by ordinary pages, so that no access can raise a signal.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/disposer.h"
#include "base/fd.h"
#include "base/mapping.h"
#include "base/result.h"
#include "mediator/session/hello.h"
#include "ring/layout.h"
#include "vgpu_protocol.h"

namespace vgpu {

class GuestMemory {
  public:
    struct Refusal {
        vgpu_hello_status status;  // never VGPU_HELLO_TAKEN
        std::string shortage;      // resource that the host lacks, for the operator; empty: none
    };

    // Returns the memory, or the reason for rejecting it; the offered descriptors are then closed.
    // The disposer unmaps and closes the memory when the last reference is dropped:
    // about 1 ms per 20 MiB if no other process holds the memory.
    static Result<std::shared_ptr<GuestMemory>, Refusal> create(OfferedMemory offered,
                                                                Disposer::Source disposer);

    GuestMemory(const GuestMemory&) = delete;
    GuestMemory& operator=(const GuestMemory&) = delete;
    ~GuestMemory() = default;

    [[nodiscard]] const ring::Layout& layout() const { return layout_; }
    [[nodiscard]] std::byte* base() const { return mapping_.data(); }
    // Descriptor of the memory file; borrowed.
    [[nodiscard]] int fd() const { return fd_.get(); }
    // Descriptors of a queue; borrowed. Precondition: queue < layout().queue_count.
    [[nodiscard]] int doorbell(std::uint32_t queue) const { return queues_[queue].doorbell.get(); }
    [[nodiscard]] int interrupt(std::uint32_t queue) const {
        return queues_[queue].interrupt.get();
    }
    // Returns the allocated size of the memory file in 512-byte blocks. It grows as pages are
    // touched and shrinks only when a process punches holes; swapped-out pages count.
    [[nodiscard]] std::int64_t blocks() const;
    // Returns true if both are the same memory file, even if it was offered again.
    [[nodiscard]] bool same_file(const GuestMemory& other) const {
        return device_ == other.device_ && inode_ == other.inode_;
    }

  private:
    struct Queue {
        Fd doorbell;
        Fd interrupt;
    };

    GuestMemory(Fd fd, Mapping mapping, const ring::Layout& layout, std::vector<Queue> queues,
                dev_t device, ino_t inode)
        : fd_(std::move(fd)),
          mapping_(std::move(mapping)),
          layout_(layout),
          queues_(std::move(queues)),
          device_(device),
          inode_(inode) {}

    Fd fd_;
    Mapping mapping_;
    ring::Layout layout_;
    std::vector<Queue> queues_;
    dev_t device_;
    ino_t inode_;
};

}  // namespace vgpu
