// SPDX-License-Identifier: MIT
//
// PciPort: the queues of a device on the PCI bus. BAR2 is the shared memory, mapped from resource2
// as write-back or uncached memory. Doorbells and the attachment state are registers of BAR0, which
// several processes map concurrently.
//
// The interrupt is INTx: one line for all queues of all processes. A process woken by it reads
// QUEUE_IRQ and clears the bits that would keep the line asserted needlessly: that of its own
// queue, and those of queues without a sleeper (wake_at is 0, or the queue has no owner). It leaves
// the bit of a queue for which another process sleeps to that process, which the same interrupt
// woke. A process that falls asleep between the read of wake_at and the write can lose its bit;
// therefore every sleep is limited to 100 ms, after which the process polls its queue.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "client/core/transport.h"
#include "client/pci/pci_sysfs.h"
#include "client/queue/claims.h"
#include "client/queue/queue_port.h"
#include "ring/layout.h"

namespace vgpu::client {

class PciPort : public QueuePort {
  public:
    // `registers`: BAR0 of a device with VGPU_CAP_DMA and VGPU_CAP_MULTI_REQUEST. Errors:
    // VGPU_E_NO_QUEUES if its sizes are invalid or BAR2 has no address, VGPU_E_NO_PERMISSION,
    // VGPU_E_SYSTEM.
    static Expected<std::unique_ptr<PciPort>> create(std::shared_ptr<RegisterWindow> registers,
                                                     const Roots& roots, const PciDevice& device);

    [[nodiscard]] std::byte* base() const override { return memory_.mapping.data(); }
    [[nodiscard]] const ring::Layout& layout() const override { return layout_; }
    [[nodiscard]] int claims_file() const override { return memory_.file.get(); }
    void ring_doorbell(std::uint32_t queue) override;
    bool attached() override;
    Expected<void> attach() override;
    std::unique_ptr<InterruptSource> make_interrupt(std::uint32_t queue) override;

  private:
    PciPort(std::shared_ptr<RegisterWindow> registers, Bar memory, const ring::Layout& layout,
            Roots roots, PciDevice device);

    std::shared_ptr<RegisterWindow> registers_;
    Bar memory_;
    ring::Layout layout_;
    Roots roots_;
    PciDevice device_;
    std::atomic<std::uint64_t> waiting_{0};  // bit q: this process has an interrupt for queue q
};

// The INTx of a device with queues, for one queue. The references must outlive it. `waiting` has a
// bit set for each queue of this process that has a QueueInterrupt.
class QueueInterrupt : public InterruptSource {
  public:
    QueueInterrupt(std::unique_ptr<InterruptSource> line, RegisterWindow& registers,
                   const QueuePort& port, std::atomic<std::uint64_t>& waiting, std::uint32_t queue);
    ~QueueInterrupt() override;

    Expected<void> arm() override { return line_->arm(); }
    Expected<bool> wait(Nanoseconds limit) override;

  private:
    void clear_half(std::uint32_t first_queue, std::uint32_t offset);

    std::unique_ptr<InterruptSource> line_;
    RegisterWindow& registers_;
    const QueuePort& port_;
    std::atomic<std::uint64_t>& waiting_;
    std::uint32_t queue_;
};

}  // namespace vgpu::client
