// SPDX-License-Identifier: MIT
//
// Cost of work in shared memory on a GPU: with the driver's functions alone (the lower bound), with
// the CUDA backend, and with a backend in another process. All on one thread that polls without
// pause, in the same run, on the same memory.
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
    double value = 0;  // the median if there are several samples
    std::string unit;  // "us" or "GB/s", 10^9 bytes per second
    double worst = 0;  // 99th percentile; 0: not measured
};

// Measures the driver's functions in a separate context, on a region like a VM's.
Result<std::vector<Figure>> measure_native(const Api& api, int ordinal,
                                           const HeapBenchOptions& options);
// Measures a backend; the figures are named after `who`. Attaches the calling thread.
Result<std::vector<Figure>> measure_backend(Backend& backend, const std::string& who,
                                            const HeapBenchOptions& options);

// Format the figures as a table and as a JSON object.
std::string as_table(const std::vector<Figure>& figures);
std::string as_json(const std::string& device, const std::vector<Figure>& figures);

}  // namespace vgpu::cuda
