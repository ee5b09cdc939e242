// SPDX-License-Identifier: MIT
#include "executor/job.h"

namespace vgpu {

Outcome device_info_outcome(const DeviceInfo& info) {
    const auto low = [](std::uint64_t value) { return static_cast<std::uint32_t>(value); };
    const auto high = [](std::uint64_t value) { return static_cast<std::uint32_t>(value >> 32U); };
    Outcome outcome;
    outcome.result_count = VGPU_INFO_RESULT_COUNT;
    outcome.results[VGPU_INFO_BACKEND] = info.backend;
    outcome.results[VGPU_INFO_COMPUTE_CAPABILITY] = info.compute_capability;
    outcome.results[VGPU_INFO_MULTIPROCESSORS] = info.multiprocessors;
    outcome.results[VGPU_INFO_DRIVER_VERSION] = info.driver_version;
    outcome.results[VGPU_INFO_MEMORY_TOTAL_LO] = low(info.memory_total);
    outcome.results[VGPU_INFO_MEMORY_TOTAL_HI] = high(info.memory_total);
    outcome.results[VGPU_INFO_MEMORY_FREE_LO] = low(info.memory_free);
    outcome.results[VGPU_INFO_MEMORY_FREE_HI] = high(info.memory_free);
    outcome.data = info.name;
    return outcome;
}

Outcome word_outcome(std::uint32_t word) {
    Outcome outcome;
    outcome.result_count = 1;
    outcome.results[0] = word;
    return outcome;
}

Outcome failed_device_outcome(std::string message) {
    Outcome outcome = Outcome::failure(VGPU_ERR_CUDA, std::move(message));
    outcome.device_failed = true;
    return outcome;
}

Outcome lost_buffer_outcome() {
    return Outcome::failure(VGPU_ERR_CUDA_INVALID_HANDLE,
                            "the buffer was lost when the GPU was reset: allocate another");
}

Outcome no_region_outcome() {
    return failed_device_outcome("the GPU could not be given the VM's shared memory");
}

Outcome no_memory_outcome(std::uint64_t wanted) {
    return Outcome::failure(
        VGPU_ERR_CUDA_OUT_OF_MEMORY,
        "the GPU has not " + std::to_string(wanted) + " bytes of memory free in one piece");
}

}  // namespace vgpu
