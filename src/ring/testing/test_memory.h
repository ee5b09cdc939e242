// SPDX-License-Identifier: MIT
//
// BAR2 for tests: zeroed memory with a layout, and both ends of a queue in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "ring/consumer.h"
#include "ring/layout.h"
#include "ring/producer.h"

namespace vgpu::ring {

class TestMemory {
  public:
    explicit TestMemory(std::uint64_t size = VGPU_SHM_SIZE_MIN, std::uint32_t queues = 2)
        : layout_(Layout::compute(size, queues).value()),
          bytes_(static_cast<std::byte*>(std::aligned_alloc(4096, size)), &std::free) {
        std::memset(bytes_.get(), 0, size);
    }

    [[nodiscard]] const Layout& layout() const { return layout_; }
    [[nodiscard]] std::byte* base() const { return bytes_.get(); }
    [[nodiscard]] QueueView queue(std::uint32_t index = 0) const {
        return layout_.queue(base(), index);
    }

  private:
    Layout layout_;
    std::unique_ptr<std::byte, decltype(&std::free)> bytes_;
};

// Both ends of a running queue.
template <typename Memory = SharedMemory>
struct RunningQueue {
    explicit RunningQueue(const TestMemory& memory, std::uint32_t index = 0)
        : consumer(memory.queue(index), memory.layout()), producer(memory.queue(index)) {
        Record record;
        static_cast<void>(producer.request_reset());
        static_cast<void>(consumer.take(record));
        static_cast<void>(consumer.finish_reset());
        static_cast<void>(producer.reset_progress());
    }

    BasicConsumer<Memory> consumer;
    BasicProducer<SharedMemory> producer;
};

// A command with only a cookie set.
inline vgpu_record nop(std::uint64_t cookie = 0) {
    vgpu_record command{};
    command.opcode = VGPU_OP_NOP;
    command.cookie = cookie;
    return command;
}

}  // namespace vgpu::ring
