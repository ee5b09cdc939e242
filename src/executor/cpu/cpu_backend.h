// SPDX-License-Identifier: MIT
//
// CpuBackend: the same results as a GPU, from the host's processor, so that everything above it
// works and can be tried on any machine. Each of its operations takes well under a microsecond, so
// all are immediate.
#pragma once

#include "executor/backend.h"

namespace vgpu {

class CpuBackend final : public Backend {
  public:
    CpuBackend();

    [[nodiscard]] const DeviceInfo& info() const override { return info_; }
    [[nodiscard]] bool immediate(std::uint32_t opcode) const override;
    Outcome run(const Job& job) override;
    void attach_thread() override {}
    void submit(const Job& job) override;
    void poll(std::vector<Completion>& ended) override;
    void detach_thread() override {}

  private:
    DeviceInfo info_;
    std::vector<Completion> ended_;
};

}  // namespace vgpu
