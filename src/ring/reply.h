// SPDX-License-Identifier: MIT
//
// Replies: what the host writes into the heap for a command, and how the guest reads it. The
// timeline orders the two: the host writes before complete(), the guest reads after poll() returns
// kReached.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "ring/shared_memory.h"
#include "vgpu_protocol.h"

namespace vgpu::ring {

// Bytes of a reply with these parts; required reply_capacity. Does not overflow for anything that
// fits into memory.
constexpr std::uint64_t reply_size(std::uint64_t result_count, std::uint64_t data_length) {
    return sizeof(vgpu_queue_reply) + sizeof(std::uint32_t) * result_count + data_length;
}

// Host. Writes the reply to `command.reply_offset`; `base` is a mapping of all of BAR2.
// Precondition: the command came from a Consumer, so the place is valid. Returns true without
// writing anything if the command requests no reply. Returns false and writes nothing if the reply
// is larger than the place; a reply without results and data always fits.
[[nodiscard]] inline bool write_reply(std::byte* base, const vgpu_record& command,
                                      std::uint32_t status, std::uint32_t exec_time_us,
                                      std::span<const std::uint32_t> results,
                                      std::span<const std::byte> data) {
    if (command.reply_offset == 0) {
        return true;
    }
    const std::uint64_t size = reply_size(results.size(), data.size());
    if (size > command.reply_capacity) {
        return false;
    }
    const vgpu_queue_reply header{command.cookie,
                                  status,
                                  static_cast<std::uint32_t>(size),
                                  static_cast<std::uint32_t>(results.size()),
                                  static_cast<std::uint32_t>(data.size()),
                                  exec_time_us,
                                  0};
    std::byte* place = base + command.reply_offset;
    std::memcpy(place, &header, sizeof header);
    place += sizeof header;
    if (!results.empty()) {
        std::memcpy(place, results.data(), results.size_bytes());
        place += results.size_bytes();
    }
    if (!data.empty()) {
        std::memcpy(place, data.data(), data.size());
    }
    return true;
}

// A reply whose lengths fit its place. `results` (4 bytes each) and `data` point into the heap:
// valid until the place is reused.
struct ReplyView {
    vgpu_queue_reply header;
    std::span<const std::byte> results;
    std::span<const std::byte> data;

    // Precondition: index < header.result_count.
    [[nodiscard]] std::uint32_t result(std::size_t index) const {
        std::uint32_t value = 0;
        std::memcpy(&value, results.data() + sizeof value * index, sizeof value);
        return value;
    }
};

// Guest. Reads the reply at `place`, which is aligned to VGPU_REPLY_ALIGN. Returns nullopt if its
// sizes are inconsistent or exceed the place, as a faulty host may write.
[[nodiscard]] inline std::optional<ReplyView> read_reply(std::span<std::byte> place) {
    ReplyView reply{};
    if (place.size() < sizeof reply.header) {
        return std::nullopt;
    }
    std::array<std::uint64_t, sizeof(vgpu_queue_reply) / sizeof(std::uint64_t)> words{};
    for (std::size_t i = 0; i != words.size(); ++i) {
        words[i] = SharedMemory::read(reinterpret_cast<std::uint64_t*>(place.data())[i]);
    }
    std::memcpy(&reply.header, words.data(), sizeof reply.header);
    const std::uint64_t size = reply_size(reply.header.result_count, reply.header.data_length);
    if (size != reply.header.size || size > place.size()) {
        return std::nullopt;
    }
    const std::size_t result_bytes = sizeof(std::uint32_t) * std::size_t{reply.header.result_count};
    reply.results = place.subspan(sizeof reply.header, result_bytes);
    reply.data = place.subspan(sizeof reply.header + result_bytes, reply.header.data_length);
    return reply;
}

}  // namespace vgpu::ring
