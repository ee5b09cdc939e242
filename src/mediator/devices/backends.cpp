// SPDX-License-Identifier: MIT
#include "mediator/devices/backends.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "executor/cpu/cpu_backend.h"
#include "executor/worker/worker.h"
#include "executor/worker/worker_backend.h"

namespace vgpu {
namespace {

using Backends = std::vector<std::unique_ptr<Backend>>;

std::vector<int> indices_of(const Config& config) {
    std::vector<int> indices;
    for (const GpuSettings& gpu : config.mediator.gpus) {
        indices.push_back(gpu.index);
    }
    if (indices.empty()) {
        indices.push_back(config.device);
    }
    return indices;
}

// Creates a backend for each device that answers, driven by a worker process that runs this
// program. Sets `why` to the error of the first device that does not answer.
Result<Backends> make_cuda_backends(const std::vector<int>& indices, std::chrono::microseconds spin,
                                    std::string& why) {
    Backends backends;
    for (const int index : indices) {
        auto made = worker::WorkerBackend::create(
            {.command = {.program = "/proc/self/exe",
                         .arguments = worker::cuda_worker_arguments(index, spin)}});
        if (made) {
            backends.push_back(std::move(made).value());
        } else if (why.empty()) {
            why = std::move(made).error().message;
        }
    }
    if (backends.empty()) {
        return Error{why};
    }
    return backends;
}

}  // namespace

Result<Backends> make_backends(const Config& config, spdlog::logger& log) {
    const std::vector<int> indices = indices_of(config);
    if (config.backend != BackendChoice::kCpu) {
        std::string why;
        auto made = make_cuda_backends(indices, config.mediator.spin, why);
        if (made && made->size() == indices.size()) {
            log.info("backend cuda, device {}", fmt::join(indices, ", "));
            return made;
        }
        if (made) {
            return Error{why + ". Remove its [[gpu]] from the configuration, or repair it"};
        }
        if (config.backend == BackendChoice::kCuda) {
            return Error{made.error().message + ". Repair the driver, or use --backend cpu"};
        }
        log.info("backend cpu, because no GPU is usable: {}", made.error().message);
    }
    Backends backends;
    if (config.mediator.gpus.empty()) {
        backends.push_back(std::make_unique<CpuBackend>());
        return backends;
    }
    for (const int index : indices) {
        backends.push_back(std::make_unique<CpuBackend>(index, indices.size()));
    }
    return backends;
}

std::string device_names(const Backends& backends) {
    std::vector<std::string> names;
    for (const auto& backend : backends) {
        names.push_back(backend->info().name);
    }
    return fmt::format("{}", fmt::join(names, "; "));
}

}  // namespace vgpu
