// SPDX-License-Identifier: MIT
//
// GuestMemory: the memory that one device shares with the mediator, with the doorbells and
// interrupts of its queues. Made from a hello whose contents have been judged; from then on sizes
// and places come from the layout alone, never from the memory.
//
// Everything in it may change at any moment. It cannot go away: the file is sealed against
// shrinking and lies in memory of ordinary pages, so that no access here can raise a signal.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "base/disposer.h"
#include "base/fd.h"
#include "base/mapping.h"
#include "mediator/session/hello.h"
#include "ring/layout.h"
#include "vgpu_protocol.h"

namespace vgpu {

class GuestMemory {
  public:
    struct Refusal {
        vgpu_hello_status status;  // never VGPU_HELLO_TAKEN
        std::string shortage;      // what this host lacks, for the operator; empty: nothing
    };

    // The memory, or why it is refused; what was offered is then closed.
    // Borrows the disposer, which unmaps and closes the memory when the last reference is gone:
    // that takes a millisecond for each 20 MiB where no other process has it any more.
    static std::variant<std::shared_ptr<GuestMemory>, Refusal> create(OfferedMemory offered,
                                                                      Disposer& disposer);

    GuestMemory(const GuestMemory&) = delete;
    GuestMemory& operator=(const GuestMemory&) = delete;
    ~GuestMemory() = default;

    [[nodiscard]] const ring::Layout& layout() const { return layout_; }
    [[nodiscard]] std::byte* base() const { return mapping_.data(); }
    // The memory file. Borrows.
    [[nodiscard]] int fd() const { return fd_.get(); }
    // Descriptors of a queue. Borrow. Precondition: queue < layout().queue_count.
    [[nodiscard]] int doorbell(std::uint32_t queue) const { return queues_[queue].doorbell.get(); }
    [[nodiscard]] int interrupt(std::uint32_t queue) const {
        return queues_[queue].interrupt.get();
    }
    // How much of the memory file is there now, in blocks of 512 bytes. It grows as pages are
    // touched, and only a process that punches holes makes it less; a page that was swapped out
    // counts.
    [[nodiscard]] std::int64_t blocks() const;
    // Whether this is the same memory file, be it offered again.
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
