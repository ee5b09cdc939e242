// SPDX-License-Identifier: MIT
//
// Shared by the measurements of vgpu-bench-load: their mediator, many devices in one thread, and
// figures with a target.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "load.h"
#include "load_device.h"
#include "own_mediator.h"

namespace vgpu::bench {

// A mediator configured from a plan, to which this process connects as any number of VMs.
class Mediator : public OwnMediator {
  public:
    explicit Mediator(const LoadPlan& plan, const std::string& config = {})
        : OwnMediator(plan.mediator, plan.backend,
                      "[limits]\nconnections = 100000\nconnections_per_process = 0\n" + config) {}
};

// Waits for any of several devices.
class Poller {
  public:
    using Clock = std::chrono::steady_clock;

    // These throw std::system_error.
    Poller();
    void add(const LoadDevice& device, std::size_t index);
    // Returns the indices of the readable devices; none at `deadline`. Throws std::runtime_error
    // after 10 s without any.
    std::span<const std::size_t> wait(std::optional<Clock::time_point> deadline = std::nullopt);

  private:
    Fd epoll_;
    std::vector<std::size_t> ready_;
};

// Devices with consecutive VM ids, and the poller that waits for them.
struct Fleet {
    std::deque<LoadDevice> devices;
    Poller poller;

    Fleet(const std::string& socket, std::size_t count, std::uint32_t first_vm,
          std::uint8_t priority) {
        for (std::size_t i = 0; i < count; ++i) {
            devices.emplace_back(socket, first_vm + static_cast<std::uint32_t>(i), priority);
            poller.add(devices.back(), i);
        }
    }
};

double seconds_since(std::chrono::steady_clock::time_point begin);

Figure at_most(std::string name, double value, std::string unit, double target);

}  // namespace vgpu::bench
