// SPDX-License-Identifier: MIT
//
// MemoryRegistry: the shared memory of devices, from a hello until nothing accesses it any more.
//
//   attach ── memory is not in use ────▶ served ── disconnect ───────▶ closed ── nothing in flight,
//      │                                 ▲    │                                   all detached
//      └── an earlier connection's work  │    └─ SHM_RESET ─▶ stopped ─┐                │
//          is in flight: waits ──────────┘◀─── nothing in flight ──────┘                ▼
//                                                                                   released
//
// A generation begins only in memory to which no device can still write for the previous one.
// Control loop only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "executor/job.h"
#include "mediator/core/context.h"
#include "mediator/core/execution.h"
#include "mediator/core/queue_pump.h"
#include "mediator/devices/device_set.h"
#include "mediator/session/session.h"
#include "mediator/shm/doorbells.h"
#include "mediator/shm/guest_memory.h"
#include "mediator/shm/guest_queues.h"
#include "mediator/shm/interrupter.h"
#include "mediator/shm/memory_guard.h"

namespace vgpu {

class MemoryRegistry {
  public:
    // Borrows all arguments.
    MemoryRegistry(Context& context, DeviceSet& devices, Execution& execution, QueuePump& pump,
                   Doorbells& doorbells, Interrupter& interrupter, MemoryGuard& guard)
        : context_(context),
          devices_(devices),
          execution_(execution),
          pump_(pump),
          doorbells_(doorbells),
          interrupter_(interrupter),
          guard_(guard) {}

    // Serves this memory for an identified session, then calls its answer_hello(): at once, or when
    // the work of an earlier connection in the same memory has ended.
    void attach(Session& session, std::shared_ptr<GuestMemory> memory,
                const vgpu_msg_header& header);
    // Handles a device reset: stops its queues, begins a generation, then calls answer_reset().
    // No effect if the session has no memory.
    void reset(Session& session);
    // Stops serving the memory of a session that is closed, if it has any.
    void detach(Session& session);

    // Completes the reset or release of a memory of which nothing is in flight any more. Bounded;
    // QueuePump::any_drained() returns true if there are more.
    void settle();
    // Handles the failure of a device to attach a region.
    void attach_failed(RegionId region, std::size_t device, std::string_view why);
    // A device has detached a region.
    void region_detached(RegionId region);

    // Served memory: number of devices that share any, and total bytes.
    struct Shared {
        std::size_t devices = 0;
        std::uint64_t bytes = 0;
    };
    [[nodiscard]] Shared shared() const;
    // Calls visit(const GuestQueue&) for each queue of served memory.
    template <class Visit>
    void for_each_queue(const Visit& visit) const {
        for (const auto& [session, queues] : served_) {
            for (const GuestQueue& queue : queues->queues) {
                visit(queue);
            }
        }
    }

  private:
    // A hello that waits until the work of an earlier connection in the same memory has ended.
    struct Attaching {
        std::shared_ptr<Session> session;
        std::shared_ptr<GuestMemory> memory;
        vgpu_msg_header header{};
    };

    void serve(Session& session, std::shared_ptr<GuestMemory> memory,
               const vgpu_msg_header& header);
    void refuse(Session& session, std::uint32_t vm_id, vgpu_hello_status status);
    // Starts serving queues whose layout has just been initialized.
    void begin(GuestQueues& queues);
    // Completes a reset or begins a release.
    void drained(GuestQueues& queues);
    void release(RegionId region);

    Context& context_;
    DeviceSet& devices_;
    Execution& execution_;
    QueuePump& pump_;
    Doorbells& doorbells_;
    Interrupter& interrupter_;
    MemoryGuard& guard_;
    std::unordered_map<SessionId, std::shared_ptr<GuestQueues>> served_;
    std::vector<std::shared_ptr<GuestQueues>> ending_;  // closed; draining or detaching
    std::vector<Attaching> attaching_;
    RegionId next_region_ = 1;
};

}  // namespace vgpu
