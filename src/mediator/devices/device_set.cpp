// SPDX-License-Identifier: MIT
#include "mediator/devices/device_set.h"

#include <algorithm>
#include <utility>

namespace vgpu {
namespace {

// Poll interval of a device that has failed.
constexpr std::chrono::milliseconds kRecoveryPoll{10};

}  // namespace

DeviceSet::DeviceSet(const Settings& settings, std::vector<std::unique_ptr<Backend>> backends,
                     EventSink& events, const Clock& clock)
    : settings_(settings), events_(events), clock_(clock) {
    for (auto& backend : backends) {
        devices_.emplace_back().executor =
            std::make_unique<Executor>(std::move(backend), settings.spin);
    }
}

bool DeviceSet::has_free_slot(std::size_t index) const {
    const Device& device = devices_[index];
    return device.running < settings_.slots_of(index) &&
           !(device.failed_at && clock_.now() < *device.failed_at + settings_.recovery_wait);
}

void DeviceSet::take_completions(std::size_t index, std::vector<Completion>& ended) {
    const std::size_t before = ended.size();
    devices_[index].executor->take_completions(ended);
    if (ended.size() > before) {
        last_activity_ = clock_.now();
    }
}

void DeviceSet::change(std::size_t index, const Completion& completion) {
    Device& device = devices_[index];
    const auto now = clock_.now();
    if (completion.change == DeviceChange::kFailed) {
        if (!device.failed_at) {
            device.failed_at = now;
        }
        events_.on_event(GpuState{.gpu = index,
                                  .change = GpuState::Change::kFailed,
                                  .why = completion.outcome.data,
                                  .down_for = {}});
    } else if (device.failed_at) {
        const auto down_for = now - *device.failed_at;
        device.failed_at.reset();
        ++device.recoveries;
        events_.on_event(GpuState{
            .gpu = index, .change = GpuState::Change::kRecovered, .why = {}, .down_for = down_for});
    }
}

bool DeviceSet::has_completions() const {
    return std::any_of(devices_.begin(), devices_.end(),
                       [](const Device& device) { return device.executor->has_completions(); });
}

void DeviceSet::set_control_waiting(bool waiting) const {
    for (const Device& device : devices_) {
        device.executor->set_control_waiting(waiting);
    }
}

std::optional<std::chrono::nanoseconds> DeviceSet::next_due(bool waiting) const {
    std::optional<std::chrono::nanoseconds> due;
    const auto not_later_than = [&due](std::chrono::nanoseconds time) {
        due = std::min(due.value_or(time), time);
    };
    for (const Device& device : devices_) {
        if (device.failed_at && waiting) {
            // After recovery_wait, what is queued there waits for a request on another device.
            const auto patience_ends = *device.failed_at + settings_.recovery_wait;
            if (patience_ends > clock_.now()) {
                not_later_than(patience_ends);
            }
        }
        if (device.executor->needs_polling()) {
            not_later_than(clock_.now() + kRecoveryPoll);
        }
    }
    return due;
}

std::uint64_t DeviceSet::bytes_copied_by_processor() const {
    std::uint64_t bytes = 0;
    for (const Device& device : devices_) {
        bytes += device.executor->bytes_copied_by_processor();
    }
    return bytes;
}

}  // namespace vgpu
