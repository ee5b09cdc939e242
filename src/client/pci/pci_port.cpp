// SPDX-License-Identifier: MIT
#include "client/pci/pci_port.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "client/include/vgpu.h"
#include "client/pci/uio_interrupt.h"

namespace vgpu::client {
namespace {

constexpr Nanoseconds kLongestSleep = std::chrono::milliseconds(100);
// Value of reads from an absent device.
constexpr std::uint32_t kAllOnes = 0xFFFFFFFFu;

}  // namespace

Expected<std::unique_ptr<PciPort>> PciPort::create(std::shared_ptr<RegisterWindow> registers,
                                                   const Roots& roots, const PciDevice& device) {
    const std::uint64_t size = std::uint64_t{registers->read32(VGPU_REG_SHM_SIZE_HI)} << 32 |
                               registers->read32(VGPU_REG_SHM_SIZE_LO);
    const std::uint32_t queues = registers->read32(VGPU_REG_QUEUE_COUNT);
    const auto layout = ring::Layout::compute(size, queues);
    if (!layout) {
        return no_queues("the device reports " + std::to_string(size) +
                         " bytes of shared memory and " + std::to_string(queues) +
                         " queues, a layout that this library does not support: install the "
                         "library that matches the host");
    }
    auto memory = open_shared_memory(device, size);
    if (!memory) {
        return memory.failure();
    }
    return std::unique_ptr<PciPort>(
        new PciPort(std::move(registers), std::move(*memory), *layout, roots, device));
}

PciPort::PciPort(std::shared_ptr<RegisterWindow> registers, Bar memory, const ring::Layout& layout,
                 Roots roots, PciDevice device)
    : registers_(std::move(registers)),
      memory_(std::move(memory)),
      layout_(layout),
      roots_(std::move(roots)),
      device_(std::move(device)) {}

void PciPort::ring_doorbell(std::uint32_t queue) {
    registers_->write32(VGPU_REG_QUEUE_DOORBELL + VGPU_QUEUE_DOORBELL_STRIDE * queue, 1);
}

bool PciPort::attached() {
    const std::uint32_t state = registers_->read32(VGPU_REG_SHM_STATE);
    return state != kAllOnes && (state & VGPU_SHM_ATTACHED) != 0;
}

Expected<void> PciPort::attach() {
    return attached() ? Expected<void>()
                      : no_queues(
                            "no mediator serves the device's shared memory now: start one on the "
                            "host with queues.enabled = true, or use requests instead of queues");
}

std::unique_ptr<InterruptSource> PciPort::make_interrupt(std::uint32_t queue) {
    auto line = UioInterrupt::create(roots_, device_, UioInterrupt::AtEnd::kLeave);
    if (!line) {
        return nullptr;
    }
    return std::make_unique<QueueInterrupt>(std::move(*line), *registers_, *this, waiting_, queue);
}

QueueInterrupt::QueueInterrupt(std::unique_ptr<InterruptSource> line, RegisterWindow& registers,
                               const QueuePort& port, std::atomic<std::uint64_t>& waiting,
                               std::uint32_t queue)
    : line_(std::move(line)), registers_(registers), port_(port), waiting_(waiting), queue_(queue) {
    waiting_.fetch_or(std::uint64_t{1} << queue_);
    // Never cleared: other processes may wait for queues.
    registers_.update32(VGPU_REG_IRQ_CTRL, 0, VGPU_IRQ_QUEUE);
}

QueueInterrupt::~QueueInterrupt() {
    waiting_.fetch_and(~(std::uint64_t{1} << queue_));
}

Expected<bool> QueueInterrupt::wait(Nanoseconds limit) {
    auto woken = line_->wait(std::min(limit, kLongestSleep));
    if (woken && *woken) {
        clear_half(0, VGPU_REG_QUEUE_IRQ_LO);
        if (port_.layout().queue_count > 32) {
            clear_half(32, VGPU_REG_QUEUE_IRQ_HI);
        }
    }
    return woken;
}

// See the top of pci_port.h.
void QueueInterrupt::clear_half(std::uint32_t first_queue, std::uint32_t offset) {
    const std::uint32_t set = registers_.read32(offset);
    std::uint32_t clear = 0;
    for (std::uint32_t bit = 0; bit != 32; ++bit) {
        const std::uint32_t queue = first_queue + bit;
        if ((set >> bit & 1U) == 0 || queue >= port_.layout().queue_count) {
            continue;
        }
        vgpu_queue_control& control = *port_.layout().queue(port_.base(), queue).control;
        // A process's own claims do not show as locks, so track its queues in waiting_.
        const bool own = (waiting_.load() >> queue & 1U) != 0;
        if (queue == queue_ || ring::SharedMemory::load_acquire(control.wake_at) == 0 ||
            (!own && !Claims(port_.claims_file()).end_of_obstacle(queue, 1))) {
            clear |= 1U << bit;
        }
    }
    if (clear != 0) {
        registers_.write32(offset, clear);
    }
}

}  // namespace vgpu::client
