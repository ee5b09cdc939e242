// SPDX-License-Identifier: MIT
//
// DeviceSet: the devices of this mediator: their executors, which of them work, and how busy they
// are. Control loop only.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "executor/executor.h"
#include "mediator/config/settings.h"
#include "mediator/devices/busy_time.h"
#include "mediator/events/events.h"
#include "sched/clock.h"

namespace vgpu {

struct Device {
    std::unique_ptr<Executor> executor;
    std::size_t running = 0;  // requests and chains
    std::optional<std::chrono::nanoseconds> failed_at;
    std::uint64_t recoveries = 0;  // since start-up
    BusyTime busy;
};

class DeviceSet {
  public:
    // Borrows settings, events and clock. Throws std::system_error as Executor does.
    DeviceSet(const Settings& settings, std::vector<std::unique_ptr<Backend>> backends,
              EventSink& events, const Clock& clock);

    [[nodiscard]] std::size_t size() const { return devices_.size(); }
    // Precondition: index < size().
    [[nodiscard]] Device& operator[](std::size_t index) { return devices_[index]; }
    [[nodiscard]] const Device& operator[](std::size_t index) const { return devices_[index]; }

    // Returns true if a device may start another request. One that has failed starts none until it
    // recovers or Settings::recovery_wait is over; after that, requests are started, to fail.
    [[nodiscard]] bool has_free_slot(std::size_t index) const;
    // Submits a job that is not immediate.
    void submit(std::size_t index, const Job& job) {
        devices_[index].executor->submit(job);
        last_activity_ = clock_.now();
    }
    // Appends the pending completions of a device.
    void take_completions(std::size_t index, std::vector<Completion>& ended);
    // Records a failure or a recovery. Precondition: completion.change is not kNone.
    void change(std::size_t index, const Completion& completion);

    [[nodiscard]] bool has_completions() const;
    // See Executor::set_control_waiting().
    void set_control_waiting(bool waiting) const;
    // Time of the last submission or completion.
    [[nodiscard]] std::chrono::nanoseconds last_activity() const { return last_activity_; }
    // Time of the next poll, or of the end of recovery_wait if `waiting`, that is, requests are
    // queued; none: never.
    [[nodiscard]] std::optional<std::chrono::nanoseconds> next_due(bool waiting) const;
    // Bytes of shared memory copied by a CPU instead of a device.
    [[nodiscard]] std::uint64_t bytes_copied_by_processor() const;

  private:
    const Settings& settings_;
    EventSink& events_;
    const Clock& clock_;
    std::chrono::nanoseconds last_activity_{0};
    std::vector<Device> devices_;
};

}  // namespace vgpu
