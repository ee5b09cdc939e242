// SPDX-License-Identifier: MIT
//
// HelloReader: assembles a hello from its messages and their descriptors, and validates its form
// (docs/protocol.md, section 15). GuestMemory validates its contents.
//
//   HELLO + 1 descriptor ──▶ HELLO_QUEUE 0 + 2 ──▶ … ──▶ HELLO_QUEUE n−1 + 2 ──▶ complete
//
// The kernel delivers descriptors with the last bytes of a read, not with a message. So they are
// queued, and each message takes the number that it requires, in order. Descriptors that are left
// when the reader is destroyed are closed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "ipc/foreign_fd.h"
#include "vgpu_protocol.h"

namespace vgpu {

// Contents of a complete hello, of valid form but not validated otherwise.
struct OfferedMemory {
    struct Queue {
        ForeignFd doorbell;
        ForeignFd interrupt;
    };
    vgpu_msg_header header{};  // of the HELLO
    vgpu_msg_hello hello{};
    ForeignFd memory;
    std::vector<Queue> queues;  // none if hello.queue_count is out of range
    // What the queues' descriptors are.
    enum class Kind : std::uint8_t { kEventfds, kOther, kUnknown };
    Kind kind = Kind::kEventfds;
    bool lost = false;  // this process could not receive the descriptors: all are empty
};

class HelloReader {
  public:
    enum class Step : std::uint8_t { kMore, kComplete, kBroken };

    // Adds the descriptors of a read. Returns false if no conforming peer sends this many.
    [[nodiscard]] bool add_descriptors(std::vector<ForeignFd> descriptors);
    // Records that descriptors could not be received. The hello is read to its end without them.
    void lose_descriptors() {
        lost_ = true;
        waiting_.clear();
    }
    // Returns true if there are descriptors that no message has taken.
    [[nodiscard]] bool has_descriptors() const { return !waiting_.empty(); }

    // Processes a HELLO or HELLO_QUEUE. After kBroken, broken() returns the error text.
    [[nodiscard]] Step take(const vgpu_msg_header& header, std::span<const std::byte> payload);
    [[nodiscard]] bool begun() const { return offered_.has_value(); }
    [[nodiscard]] std::string_view broken() const { return broken_; }

    // Precondition: take() returned kComplete.
    OfferedMemory finish() {
        offered_->lost = lost_;
        return *std::move(offered_);
    }

  private:
    Step take_hello(const vgpu_msg_header& header, std::span<const std::byte> payload);
    Step take_queue(std::span<const std::byte> payload);
    Step broken(std::string_view why) {
        broken_ = why;
        return Step::kBroken;
    }
    [[nodiscard]] Step progress();
    // Records what a queue's descriptor is. Done with each message, because it takes a system call
    // of about 1 us, and a hello has up to 128 of them.
    void note_kind(int fd);
    // Returns the next group of descriptors if it has `count`; else none.
    std::optional<std::vector<ForeignFd>> descriptors(std::size_t count);

    std::deque<std::vector<ForeignFd>> waiting_;
    std::optional<OfferedMemory> offered_;
    std::uint32_t queues_seen_ = 0;
    bool lost_ = false;
    std::string_view broken_;
};

}  // namespace vgpu
