// SPDX-License-Identifier: MIT
//
// Context: what all parts of the dispatcher use. Control loop only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>

#include "mediator/config/settings.h"
#include "mediator/events/events.h"
#include "mediator/events/shortages.h"
#include "mediator/vms/vm_state.h"
#include "mediator/vms/vm_table.h"
#include "sched/clock.h"
#include "sched/scheduler.h"

namespace vgpu {

struct Context {
    // Borrows all arguments. `pool_count`: queues of the scheduler.
    Context(const Settings& its_settings, EventSink& its_events, const Clock& its_clock,
            std::size_t pool_count)
        : settings(its_settings),
          events(its_events),
          clock(its_clock),
          shortages(its_events),
          scheduler(pool_count, its_settings.queue, clock),
          limits(its_settings, its_events, clock) {}
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    // Counts a rejected request, or the reset of a queue, against this VM.
    void count_refusal(VmState& vm) {
        if (!stopping) {
            vm.count(&HoldBack::count_refusal, clock.now());
        }
    }
    // The same for the reset of its device.
    void count_reset(VmState& vm, std::size_t queues) {
        if (!stopping) {
            vm.count(&HoldBack::count_reset, clock.now(), queues);
        }
    }
    [[nodiscard]] VmShare share_of(std::uint32_t vm_id) const {
        const VmSettings& vm = settings.vm(vm_id);
        return {.weight = vm.weight, .queue_depth = vm.queue_depth.value_or(settings.queue.per_vm)};
    }

    const Settings& settings;
    EventSink& events;
    WorkClock clock;
    Shortages shortages;
    Scheduler scheduler;
    VmTable limits;
    std::unordered_map<std::uint32_t, std::shared_ptr<VmState>> vms;  // with a connection
    bool stopping = false;  // every new request is rejected
};

}  // namespace vgpu
