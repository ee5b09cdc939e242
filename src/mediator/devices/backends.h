// SPDX-License-Identifier: MIT
//
// Creates the backends that the configuration requests. Start-up only.
#pragma once

#include <spdlog/logger.h>

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "executor/backend.h"
#include "mediator/config/config.h"

namespace vgpu {

// Creates one backend per [[gpu]], in their order, or one for Config::device if there are none. All
// are of one kind: with "auto", CUDA if any GPU answers (then all have to), else the CPU. The error
// text states the remedy. When started as a worker, the program must call
// worker::cuda_worker_main().
Result<std::vector<std::unique_ptr<Backend>>> make_backends(const Config& config,
                                                            spdlog::logger& log);

// Returns the names of the backends' devices, for the log.
std::string device_names(const std::vector<std::unique_ptr<Backend>>& backends);

}  // namespace vgpu
