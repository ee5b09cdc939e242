// SPDX-License-Identifier: MIT
//
// What work in shared memory costs on a GPU: by the driver's functions alone, which is the floor,
// by the CUDA backend, and by a backend in another process. Everything on one thread that looks
// without pause, in the same run, on the same memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "executor/backend.h"
#include "executor/cuda/cuda_api.h"

namespace vgpu::cuda {

struct HeapBenchOptions {
    std::uint64_t largest = std::uint64_t{256} << 20U;  // bytes of the large copies
    int large_copies = 6;
    int small_copies = 1000;  // of 1 MiB
    int adds = 5000;
};

struct Figure {
    std::string name;  // "add, native zero-copy"
    double value = 0;  // of several: the median
    std::string unit;  // "us" or "GB/s", 10^9 bytes per second
    double worst = 0;  // in 99 of 100 cases no worse than this; 0: not measured
};

// The driver's functions in a context of their own, on a region like a VM's.
Result<std::vector<Figure>> measure_native(const Api& api, int ordinal,
                                           const HeapBenchOptions& options);
// A backend, its figures named after `who`. Attaches the thread that calls it.
Result<std::vector<Figure>> measure_backend(Backend& backend, const std::string& who,
                                            const HeapBenchOptions& options);

// A table, and an object of JSON with the same.
std::string as_table(const std::vector<Figure>& figures);
std::string as_json(const std::string& device, const std::vector<Figure>& figures);

}  // namespace vgpu::cuda
