// SPDX-License-Identifier: MIT
//
// UioInterrupt: the device's INTx through uio_pci_generic. On each interrupt the kernel masks the
// line (bit 10 of the command register in PCI configuration space); arm() clears that bit. Writes
// nothing else in configuration space.
#pragma once

#include <memory>

#include "base/fd.h"
#include "client/core/transport.h"
#include "client/pci/pci_sysfs.h"

namespace vgpu::client {

class UioInterrupt : public InterruptSource {
  public:
    // `at_end`: whether the destructor masks the line; with queues other processes may still need
    // it. Errors: VGPU_E_NO_INTERRUPT (no uio device), VGPU_E_NO_PERMISSION, VGPU_E_SYSTEM.
    enum class AtEnd : bool { kMask, kLeave };
    static Expected<std::unique_ptr<UioInterrupt>> create(const Roots& roots,
                                                          const PciDevice& device, AtEnd at_end);
    ~UioInterrupt() override;

    Expected<void> arm() override;
    Expected<bool> wait(Nanoseconds limit) override;

  private:
    UioInterrupt(Fd uio, Fd config, AtEnd at_end)
        : uio_(std::move(uio)), config_(std::move(config)), at_end_(at_end) {}
    [[nodiscard]] bool set_masked(bool masked) const;

    Fd uio_;
    Fd config_;
    AtEnd at_end_;
};

}  // namespace vgpu::client
