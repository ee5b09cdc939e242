// SPDX-License-Identifier: MIT
#include "executor/executor.h"

#include <algorithm>
#include <utility>

#include "executor/direct_executor.h"
#include "executor/thread_executor.h"

namespace vgpu {

std::size_t Executor::count_jobs(const std::vector<Completion>& ended) {
    return static_cast<std::size_t>(
        std::count_if(ended.begin(), ended.end(),
                      [](const Completion& one) { return one.change == DeviceChange::kNone; }));
}

std::unique_ptr<Executor> make_executor(std::unique_ptr<Backend> backend, Executor::Options options,
                                        std::function<void()> wake_control) {
    if (backend->wake_descriptor() >= 0) {
        return std::make_unique<DirectExecutor>(std::move(backend));
    }
    return std::make_unique<ThreadExecutor>(std::move(backend), options, std::move(wake_control));
}

}  // namespace vgpu
