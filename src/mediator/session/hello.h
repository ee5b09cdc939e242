// SPDX-License-Identifier: MIT
//
// HelloReader: puts a hello together out of its messages and their descriptors, and holds it to its
// form (docs/protocol.md, section 15). What it offers is not judged here: GuestMemory does that.
//
//   HELLO + 1 descriptor ──▶ HELLO_QUEUE 0 + 2 ──▶ … ──▶ HELLO_QUEUE n−1 + 2 ──▶ complete
//
// The kernel hands descriptors over with the last bytes that one read gave, not with a message: so
// those that came stand in a line, and each message takes as many as it has to have, in order.
// Whatever is left of them when the reader goes is closed.
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

// What a complete hello brings; its form is right, its contents may be anything.
struct OfferedMemory {
    struct Queue {
        ForeignFd doorbell;
        ForeignFd interrupt;
    };
    vgpu_msg_header header{};  // of the HELLO
    vgpu_msg_hello hello{};
    ForeignFd memory;
    std::vector<Queue> queues;  // none if hello.queue_count is out of range
    bool lost = false;          // this process could not take the descriptors: all are empty
};

class HelloReader {
  public:
    enum class Step : std::uint8_t { kMore, kComplete, kBroken };

    // Descriptors came with a read. False: more than a peer that keeps to the protocol sends.
    [[nodiscard]] bool add_descriptors(std::vector<ForeignFd> descriptors);
    // Descriptors came, and this process could not take them. The hello is read to its end without.
    void lose_descriptors() {
        lost_ = true;
        waiting_.clear();
    }
    // Whether there are descriptors that no message has taken.
    [[nodiscard]] bool has_descriptors() const { return !waiting_.empty(); }

    // A HELLO or HELLO_QUEUE. After kBroken, broken() says what was wrong with it.
    [[nodiscard]] Step take(const vgpu_msg_header& header, std::span<const std::byte> payload);
    [[nodiscard]] bool begun() const { return offered_.has_value(); }
    [[nodiscard]] std::string_view broken() const { return broken_; }

    // Precondition: take() gave kComplete.
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
    // One group of descriptors, if it has `count`; else nothing.
    std::optional<std::vector<ForeignFd>> descriptors(std::size_t count);

    std::deque<std::vector<ForeignFd>> waiting_;
    std::optional<OfferedMemory> offered_;
    std::uint32_t queues_seen_ = 0;
    bool lost_ = false;
    std::string_view broken_;
};

}  // namespace vgpu
