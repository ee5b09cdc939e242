// SPDX-License-Identifier: MIT
//
// PciPort: the queues of a device on the PCI bus. BAR2 is the shared memory, mapped from resource2
// as write-back or uncached memory; doorbells and the state of the attachment are registers of
// BAR0, which several processes map side by side.
//
// The interrupt is INTx, one line for all queues of all processes: whoever is woken by it looks
// into QUEUE_IRQ and clears what would keep the line up for nothing: the bit of its own queue, and
// the bits of queues for which nobody sleeps (wake_at is 0, or nobody has the queue). The bit of a
// queue that another process sleeps for is left to that process, which the same interrupt has
// woken. Between a look at wake_at and the write another process may fall asleep and lose its bit
// to it; so nobody sleeps longer than a tenth of a second without a look of its own.
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
    // `registers`: BAR0 of the device, whose capabilities have VGPU_CAP_DMA and
    // VGPU_CAP_MULTI_REQUEST. VGPU_E_NO_QUEUES where the sizes make no sense, VGPU_E_NO_PERMISSION,
    // VGPU_E_SYSTEM.
    static Outcome<std::unique_ptr<PciPort>> create(std::shared_ptr<RegisterWindow> registers,
                                                    const Roots& roots, const PciDevice& device);

    [[nodiscard]] std::byte* base() const override { return memory_.mapping.data(); }
    [[nodiscard]] const ring::Layout& layout() const override { return layout_; }
    [[nodiscard]] int claims_file() const override { return memory_.file.get(); }
    void ring_doorbell(std::uint32_t queue) override;
    bool attached() override;
    Outcome<void> attach() override;
    std::unique_ptr<InterruptSource> make_interrupt(std::uint32_t queue) override;

  private:
    PciPort(std::shared_ptr<RegisterWindow> registers, Bar memory, const ring::Layout& layout,
            Roots roots, PciDevice device);

    std::shared_ptr<RegisterWindow> registers_;
    Bar memory_;
    ring::Layout layout_;
    Roots roots_;
    PciDevice device_;
    std::atomic<std::uint64_t> waiting_{0};  // bit q: this process can sleep for queue q
};

// INTx of a device with queues, for one queue. Borrows the last three; `waiting` has a bit for each
// queue that this process has made one for.
class QueueInterrupt : public InterruptSource {
  public:
    QueueInterrupt(std::unique_ptr<InterruptSource> line, RegisterWindow& registers,
                   const QueuePort& port, std::atomic<std::uint64_t>& waiting, std::uint32_t queue);
    ~QueueInterrupt() override;

    Outcome<void> arm() override { return line_->arm(); }
    Outcome<bool> wait(Nanoseconds limit) override;

  private:
    void clear_half(std::uint32_t first_queue, std::uint32_t offset);

    std::unique_ptr<InterruptSource> line_;
    RegisterWindow& registers_;
    const QueuePort& port_;
    std::atomic<std::uint64_t>& waiting_;
    std::uint32_t queue_;
};

}  // namespace vgpu::client
