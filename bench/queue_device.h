// SPDX-License-Identifier: MIT
//
// QueueDevice: a process of this host attached to a mediator with one queue, through libvgpu as any
// program would do it. Every call is checked: a command that failed can never count as a fast one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "client/include/vgpu.h"

namespace vgpu::bench {

class QueueDevice {
  public:
    enum class Wait : std::uint8_t {
        kSpin,    // looks at the timeline without pause
        kSleep,   // sleeps at once, until the interrupt
        kDefault  // as libvgpu does by itself: spins for a moment, then sleeps
    };

    // Attaches as VM `vm` with `shm_size` bytes, a power of two, and opens a queue. These and all
    // below throw std::runtime_error, with libvgpu's sentence.
    QueueDevice(const std::string& socket, std::uint32_t vm, Wait wait,
                std::uint64_t shm_size = std::uint64_t{16} << 20);
    QueueDevice(const QueueDevice&) = delete;
    QueueDevice& operator=(const QueueDevice&) = delete;
    ~QueueDevice();

    [[nodiscard]] vgpu_queue* queue() const { return queue_; }
    [[nodiscard]] vgpu_gpu_info info() const;

    // Given back with the object.
    [[nodiscard]] vgpu_heap_block allocate(std::uint64_t size);
    [[nodiscard]] std::uint32_t allocate_buffer(std::uint64_t size);

    // One NOP there and back, without a reply.
    void nop() {
        std::uint64_t point = 0;
        check(vgpu_queue_push_nop(queue_, nullptr, &point, &why_));
        wait(point);
    }
    void flush() { check(vgpu_queue_flush(queue_, &why_)); }
    void wait(std::uint64_t point) { check(vgpu_queue_wait(queue_, point, kLimitMs, &why_)); }
    // Waits for all, and throws if one of them failed: commands without a reply tell it so.
    void synchronize();

    // Throws if `code` is not 0: that of a call that was given why().
    void check(int code) {
        if (code != VGPU_OK) {
            fail();
        }
    }
    [[nodiscard]] vgpu_failure* why() { return &why_; }

  private:
    static constexpr std::uint32_t kLimitMs = 10'000;
    [[noreturn]] void fail() const;

    vgpu_device* device_ = nullptr;
    vgpu_queue* queue_ = nullptr;
    vgpu_failure why_{};
};

}  // namespace vgpu::bench
