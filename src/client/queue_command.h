// SPDX-License-Identifier: MIT
//
// Commands put together: params in order, without an allocation.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "client/vgpu.h"

namespace vgpu::client {

constexpr std::uint32_t low(std::uint64_t value) {
    return static_cast<std::uint32_t>(value);
}
constexpr std::uint32_t high(std::uint64_t value) {
    return static_cast<std::uint32_t>(value >> 32);
}

// The params of a command, without an allocation.
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

// Borrows the params.
inline vgpu_queue_command command_of(std::uint32_t opcode, const Params& params) {
    vgpu_queue_command made{};
    made.opcode = opcode;
    made.params = params.data();
    made.param_count = params.count();
    return made;
}

// Params of a MEMORY_COPY, as far as all kinds have them in common.
inline Params copy_params(std::uint32_t kind, std::uint32_t handle, std::uint64_t offset) {
    Params made{kind, handle};
    made.add_wide(offset);
    return made;
}

// vgpu_queue_push with a place for the reply; `reply` may be null.
inline int push_command(vgpu_queue* queue, vgpu_queue_command command,
                        const vgpu_reply_place* reply, std::uint64_t* point, vgpu_failure* why) {
    if (reply != nullptr) {
        command.reply_offset = reply->offset;
        command.reply_capacity = reply->capacity;
        command.cookie = reply->cookie;
    }
    return vgpu_queue_push(queue, &command, point, why);
}

}  // namespace vgpu::client
