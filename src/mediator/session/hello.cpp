// SPDX-License-Identifier: MIT
#include "mediator/session/hello.h"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

namespace vgpu {
namespace {

// Groups of descriptors that may wait for their messages: as many as one full read can bring.
constexpr std::size_t kMostGroups = 2;
// A hello that announces more queues than there may be is read to its end and rejected, up to this
// number: each costs the mediator a message and two descriptors.
constexpr std::uint32_t kMostAnnounced = 2 * VGPU_QUEUES_MAX;

// Returns none if that cannot be determined.
std::optional<bool> is_eventfd(int fd) {
    std::array<char, 64> path{};
    std::array<char, 64> target{};
    static_cast<void>(std::snprintf(path.data(), path.size(), "/proc/self/fd/%d", fd));
    const ssize_t length = ::readlink(path.data(), target.data(), target.size());
    if (length <= 0) {
        return std::nullopt;
    }
    return std::string_view(target.data(), static_cast<std::size_t>(length)) ==
           "anon_inode:[eventfd]";
}

}  // namespace

bool HelloReader::add_descriptors(std::vector<ForeignFd> descriptors) {
    if (descriptors.empty() || lost_) {
        return true;
    }
    waiting_.push_back(std::move(descriptors));
    return waiting_.size() <= kMostGroups;
}

std::optional<std::vector<ForeignFd>> HelloReader::descriptors(std::size_t count) {
    if (lost_) {
        return std::vector<ForeignFd>(count);
    }
    if (waiting_.empty() || waiting_.front().size() != count) {
        return std::nullopt;
    }
    std::vector<ForeignFd> taken = std::move(waiting_.front());
    waiting_.pop_front();
    return taken;
}

HelloReader::Step HelloReader::take(const vgpu_msg_header& header,
                                    std::span<const std::byte> payload) {
    return header.msg_type == VGPU_MSG_HELLO ? take_hello(header, payload) : take_queue(payload);
}

HelloReader::Step HelloReader::take_hello(const vgpu_msg_header& header,
                                          std::span<const std::byte> payload) {
    if (offered_) {
        return broken("a second HELLO");
    }
    if (payload.size() != sizeof(vgpu_msg_hello)) {
        return broken("a HELLO with a wrong length");
    }
    auto memory = descriptors(VGPU_HELLO_DESCRIPTORS);
    if (!memory) {
        return broken("a HELLO without exactly one descriptor");
    }
    OfferedMemory& offered = offered_.emplace();
    offered.header = header;
    std::memcpy(&offered.hello, payload.data(), sizeof offered.hello);
    if (offered.hello.reserved[0] != 0 || offered.hello.reserved[1] != 0) {
        return broken("a HELLO with a nonzero reserved field");
    }
    if (offered.hello.queue_count > kMostAnnounced) {
        return broken("a HELLO with more than 128 queues");
    }
    offered.memory = std::move(memory->front());
    return progress();
}

void HelloReader::note_kind(int fd) {
    const auto known = is_eventfd(fd);
    if (!known) {
        offered_->kind = OfferedMemory::Kind::kUnknown;
    } else if (!*known && offered_->kind == OfferedMemory::Kind::kEventfds) {
        offered_->kind = OfferedMemory::Kind::kOther;
    }
}

HelloReader::Step HelloReader::take_queue(std::span<const std::byte> payload) {
    if (!offered_) {
        return broken("a HELLO_QUEUE without a HELLO");
    }
    vgpu_msg_hello_queue queue{};
    if (payload.size() != sizeof queue) {
        return broken("a HELLO_QUEUE with a wrong length");
    }
    std::memcpy(&queue, payload.data(), sizeof queue);
    if (queue.queue != queues_seen_ || queue.reserved != 0) {
        return broken("a HELLO_QUEUE out of order, or with a nonzero reserved field");
    }
    auto pair = descriptors(VGPU_HELLO_QUEUE_DESCRIPTORS);
    if (!pair) {
        return broken("a HELLO_QUEUE without exactly two descriptors");
    }
    ++queues_seen_;
    if (offered_->hello.queue_count <= VGPU_QUEUES_MAX) {
        if (!lost_) {
            note_kind((*pair)[0].get());
            note_kind((*pair)[1].get());
        }
        offered_->queues.push_back(
            {.doorbell = std::move((*pair)[0]), .interrupt = std::move((*pair)[1])});
    }
    return progress();
}

HelloReader::Step HelloReader::progress() {
    return queues_seen_ < offered_->hello.queue_count ? Step::kMore : Step::kComplete;
}

}  // namespace vgpu
