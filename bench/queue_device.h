// SPDX-License-Identifier: MIT
//
// QueueDevice: a process of this host attached to a mediator with one queue, through libvgpu like
// any other program. Checks every call: a failed command never counts as a fast one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "client/include/vgpu.h"

namespace vgpu::bench {

class QueueDevice {
  public:
    enum class Wait : std::uint8_t {
        kSpin,    // polls the timeline
        kSleep,   // blocks at once, until the interrupt
        kDefault  // libvgpu's default: polls briefly, then blocks
    };

    // Attaches as VM `vm` with `shm_size` bytes, a power of two, and opens a queue. This and all
    // functions below throw std::runtime_error with libvgpu's error message.
    QueueDevice(const std::string& socket, std::uint32_t vm, Wait wait,
                std::uint64_t shm_size = std::uint64_t{16} << 20);
    QueueDevice(const QueueDevice&) = delete;
    QueueDevice& operator=(const QueueDevice&) = delete;
    ~QueueDevice();

    [[nodiscard]] vgpu_queue* queue() const { return queue_; }
    [[nodiscard]] vgpu_gpu_info info() const;

    // Both are freed with the object.
    [[nodiscard]] vgpu_heap_block allocate(std::uint64_t size);
    [[nodiscard]] std::uint32_t allocate_buffer(std::uint64_t size);

    // Runs one NOP without a reply and waits for it.
    void nop() {
        std::uint64_t point = 0;
        check(vgpu_queue_push_nop(queue_, nullptr, &point, &why_));
        wait(point);
    }
    void flush() { check(vgpu_queue_flush(queue_, &why_)); }
    void wait(std::uint64_t point) { check(vgpu_queue_wait(queue_, point, kLimitMs, &why_)); }
    // Waits for all commands and throws if one failed; commands without a reply report errors here.
    void synchronize();

    // Throws if `code`, the result of a call that was passed why(), is not 0.
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
