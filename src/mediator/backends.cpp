// SPDX-License-Identifier: MIT
#include "mediator/backends.h"

#include <fmt/format.h>

#include <utility>

#include "executor/cpu/cpu_backend.h"
#include "executor/cuda/cuda_api.h"
#include "executor/cuda/cuda_backend.h"

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

// As many as answer; `why` is set to what is wrong with the first that does not.
Result<Backends> make_cuda_backends(const std::vector<int>& indices, std::string& why) {
    const auto api = cuda::Api::load();
    if (!api) {
        return api.error();
    }
    Backends backends;
    for (const int index : indices) {
        auto made = cuda::CudaBackend::create(*api, index);
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
        auto made = make_cuda_backends(indices, why);
        if (made && made->size() == indices.size()) {
            log.info("backend cuda: device {} answers", fmt::join(indices, ", "));
            return made;
        }
        if (made) {
            return Error{why + ". Take its [[gpu]] out of the configuration, or repair it"};
        }
        if (config.backend == BackendChoice::kCuda) {
            return Error{made.error().message + ". Repair the driver, or use --backend cpu"};
        }
        log.info("backend cpu, because no GPU answers: {}", made.error().message);
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
