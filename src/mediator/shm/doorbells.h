// SPDX-License-Identifier: MIT
//
// Doorbells: ids of guest queues, and one epoll instance with the doorbells of all of them.
//
// Edge-triggered: each ring is reported once, and the counter need never be read, which could block
// at the peer's will. Control loop only.
#pragma once

#include <cstdint>
#include <vector>

#include "base/fd.h"
#include "mediator/shm/guest_memory.h"
#include "mediator/shm/guest_queues.h"

namespace vgpu {

class Doorbells {
  public:
    // Throws std::system_error if no descriptor is available.
    Doorbells();

    // Readable when a doorbell has rung; then call rung(). Owned by this object.
    [[nodiscard]] int descriptor() const { return epoll_.get(); }

    // Assigns an id to each queue of this memory and watches its doorbell. Returns 0 with `ids`
    // filled, or errno with nothing changed.
    int add(const GuestMemory& memory, std::vector<std::uint64_t>& ids);
    // Makes a queue findable by its id.
    void bind(GuestQueue& queue) { queues_[queue.id] = &queue; }
    // Undoes add(), and unbinds.
    void remove(const GuestMemory& memory, const std::vector<std::uint64_t>& ids);
    // Returns null if no queue is bound to this id.
    [[nodiscard]] GuestQueue* queue(std::uint64_t id) const {
        return id < queues_.size() ? queues_[id] : nullptr;
    }
    // Returns up to 64 queues whose doorbells have rung; the descriptor stays readable if there are
    // more. Valid until the next call.
    const std::vector<GuestQueue*>& rung();

  private:
    void unwatch(const GuestMemory& memory, std::uint32_t count);

    Fd epoll_;
    std::vector<GuestQueue*> queues_;  // by id; null: none
    std::vector<std::uint64_t> free_ids_;
    std::vector<GuestQueue*> rung_;
};

}  // namespace vgpu
