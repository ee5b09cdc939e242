// SPDX-License-Identifier: MIT
//
// MmioWindow: BAR0 as mapped from sysfs. Every call is exactly one volatile access of that width,
// never merged, split or left out; memcpy on device memory promises none of that.
#pragma once

#include "base/mapping.h"
#include "client/transport.h"

namespace vgpu::client {

class MmioWindow : public RegisterWindow {
  public:
    // `bar` has at least VGPU_BAR0_SIZE bytes.
    explicit MmioWindow(Mapping bar) : bar_(std::move(bar)) {}

    std::uint64_t read(std::uint32_t offset, std::uint32_t width) override;
    void write(std::uint32_t offset, std::uint32_t width, std::uint64_t value) override;

  private:
    Mapping bar_;
};

}  // namespace vgpu::client
