// SPDX-License-Identifier: MIT
//
// Builds and pushes queue commands without memory allocation.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "client/core/api_support.h"
#include "client/include/vgpu.h"
#include "client/queue/queue.h"
#include "ring/producer.h"

namespace vgpu::client {

constexpr std::uint32_t low(std::uint64_t value) {
    return static_cast<std::uint32_t>(value);
}
constexpr std::uint32_t high(std::uint64_t value) {
    return static_cast<std::uint32_t>(value >> 32);
}

// The params of a command, in order.
class Params {
  public:
    Params(std::initializer_list<std::uint32_t> words) {
        for (const std::uint32_t word : words) {
            add(word);
        }
    }
    void add(std::uint32_t word) { words_[count_++] = word; }
    void add_wide(std::uint64_t value) {
        add(low(value));
        add(high(value));
    }
    [[nodiscard]] const std::uint32_t* data() const { return words_.data(); }
    [[nodiscard]] std::uint32_t count() const { return count_; }

  private:
    std::array<std::uint32_t, 12> words_;
    std::uint32_t count_ = 0;
};

// The result refers to `params`.
inline vgpu_queue_command command_of(std::uint32_t opcode, const Params& params) {
    vgpu_queue_command made{};
    made.opcode = opcode;
    made.params = params.data();
    made.param_count = params.count();
    return made;
}

// Returns the params that all kinds of MEMORY_COPY have in common.
inline Params copy_params(std::uint32_t kind, std::uint32_t handle, std::uint64_t offset) {
    Params made{kind, handle};
    made.add_wide(offset);
    return made;
}

// Reports a failed push. Out of line because it is rare.
[[gnu::cold]] int push_failed(ring::Push result, vgpu_failure* why);

// Completes a push: stores the command's point, or reports the failure.
inline int pushed(const Queue& queue, ring::Push result, std::uint64_t* point, vgpu_failure* why) {
    if (result != ring::Push::kDone) [[unlikely]] {
        return push_failed(result, why);
    }
    if (point != nullptr) {
        *point = queue.submitted();
    }
    return VGPU_OK;
}

// vgpu_queue_push for a command without params and inline data. Skips vgpu_queue_command, so that a
// NOP costs little more than the stores of its record.
inline int push_bare(vgpu_queue* queue, std::uint32_t opcode, const vgpu_reply_place* reply,
                     std::uint64_t* point, vgpu_failure* why) {
    if (queue == nullptr) {
        return bad_argument(why, "queue is null");
    }
    vgpu_record record{};
    record.opcode = opcode;
    if (reply != nullptr) {
        record.reply_capacity = reply->capacity;
        record.reply_offset = reply->offset;
        record.cookie = reply->cookie;
    }
    return pushed(*queue->impl, queue->impl->push(record), point, why);
}

// vgpu_queue_push with a reply buffer; a null `reply` selects the one in `command`. Inline, so that
// the compiler drops absent parts of a command.
inline int push_command(vgpu_queue* queue, const vgpu_queue_command& command,
                        const vgpu_reply_place* reply, std::uint64_t* point, vgpu_failure* why) {
    if (queue == nullptr) {
        return bad_argument(why, "queue is null");
    }
    if ((command.params == nullptr && command.param_count != 0) ||
        (command.inline_data == nullptr && command.inline_length != 0)) {
        return bad_argument(why, "params or inline_data is null, but its length is not 0");
    }
    vgpu_record record{};
    record.opcode = command.opcode;
    record.flags = command.flags;
    record.reply_capacity = reply != nullptr ? reply->capacity : command.reply_capacity;
    record.data_offset = command.data_offset;
    record.data_length = command.data_length;
    record.reply_offset = reply != nullptr ? reply->offset : command.reply_offset;
    record.cookie = reply != nullptr ? reply->cookie : command.cookie;
    Queue& impl = *queue->impl;
    return pushed(
        impl,
        impl.push(record, {command.params, command.param_count},
                  {static_cast<const std::byte*>(command.inline_data), command.inline_length}),
        point, why);
}

}  // namespace vgpu::client
