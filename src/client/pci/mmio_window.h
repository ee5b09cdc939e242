// SPDX-License-Identifier: MIT
//
// MmioWindow: BAR0, mapped from sysfs. Each call is exactly one volatile access of the given width,
// never merged, split or omitted; memcpy on device memory guarantees none of this.
#pragma once

#include "base/fd.h"
#include "base/mapping.h"
#include "client/core/transport.h"
#include "client/pci/pci_sysfs.h"

namespace vgpu::client {

class MmioWindow : public RegisterWindow {
  public:
    // Precondition: `bar` has at least VGPU_BAR0_SIZE bytes.
    explicit MmioWindow(Bar bar) : bar_(std::move(bar.mapping)), file_(std::move(bar.file)) {}

    std::uint64_t read(std::uint32_t offset, std::uint32_t width) override;
    void write(std::uint32_t offset, std::uint32_t width, std::uint64_t value) override;
    // Atomic among processes: holds a lock on a byte of the BAR's file.
    void update32(std::uint32_t offset, std::uint32_t clear, std::uint32_t set) override;

  private:
    Mapping bar_;
    Fd file_;  // declared last: its lock is released before the BAR is unmapped
};

}  // namespace vgpu::client
