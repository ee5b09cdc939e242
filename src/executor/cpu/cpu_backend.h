// SPDX-License-Identifier: MIT
//
// CpuBackend: the same results as a GPU, from the host's processor, so that everything above it
// works and can be tried on any machine. NOP, CUDA_KERNEL and GET_DEVICE_INFO take well under a
// microsecond and are immediate; what works on buffers runs on the executor's thread, in submit().
//
// Its device memory is half of the host's, or its share of that where there are several.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "executor/backend.h"
#include "executor/cpu/cpu_memory.h"

namespace vgpu {

class CpuBackend final : public Backend {
  public:
    CpuBackend();
    // One of `count` that stand for several GPUs.
    CpuBackend(int index, std::size_t count);

    [[nodiscard]] const DeviceInfo& info() const override { return info_; }
    [[nodiscard]] bool immediate(std::uint32_t opcode) const override;
    // Also does the operations that are not immediate, on the executor's thread.
    Outcome run(const Job& job) override;
    void attach_thread() override {}
    void submit(const Job& job) override;
    void poll(std::vector<Completion>& ended) override;
    void detach_thread() override {}

  private:
    CpuBackend(const std::string& kind, std::uint64_t memory);

    DeviceInfo info_;
    CpuMemory memory_;
    std::vector<Completion> ended_;
};

}  // namespace vgpu
