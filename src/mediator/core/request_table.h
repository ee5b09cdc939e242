// SPDX-License-Identifier: MIT
//
// RequestTable: the accepted requests and commands that have not ended, by token. Plain data;
// control loop only.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "mediator/events/events.h"
#include "mediator/requests/decoding.h"
#include "mediator/requests/vm_order.h"
#include "mediator/session/session.h"
#include "mediator/shm/guest_queues.h"
#include "mediator/vms/vm_state.h"
#include "sched/scheduler.h"

namespace vgpu {

struct Request {
    std::shared_ptr<Session> session;  // null: the slot is free
    Session::Ticket ticket = 0;
    RequestInfo info;
    Operation operation;
    std::shared_ptr<VmState> vm;
    std::shared_ptr<GuestQueues> queues;  // null unless this is a queue's command
    GuestQueue* queue = nullptr;
    std::uint64_t index = 0;     // number of the command in its timeline
    VmOrder::Number number = 0;  // in VM order; unused for SYNCHRONIZE
    std::size_t device = 0;      // where it runs
    std::chrono::nanoseconds accepted_at{0};
    Scheduler::VmIndex scheduled_vm = 0;  // valid once it runs
    std::chrono::nanoseconds waited{0};
    std::chrono::nanoseconds started_at{0};
    std::optional<std::multimap<std::chrono::nanoseconds, std::uint64_t>::iterator> watched;
    bool overran = false;  // exceeded its time limit, which was reported
    bool running = false;
    bool answered = false;  // asynchronous, or given up
    bool dropped = false;   // given up
};

class RequestTable {
  public:
    // Returns the token of an unused slot.
    std::uint64_t take() {
        if (free_.empty()) {
            slots_.emplace_back();
            return slots_.size() - 1;
        }
        const std::uint64_t token = free_.back();
        free_.pop_back();
        return token;
    }
    void free(std::uint64_t token) {
        slots_[token] = Request{};
        free_.push_back(token);
    }
    // Invalidated by take(). Precondition: the token was taken and not freed.
    Request& operator[](std::uint64_t token) { return slots_[token]; }

    // Iterates over all slots, also free ones.
    [[nodiscard]] auto begin() { return slots_.begin(); }
    [[nodiscard]] auto end() { return slots_.end(); }
    [[nodiscard]] auto begin() const { return slots_.begin(); }
    [[nodiscard]] auto end() const { return slots_.end(); }

  private:
    std::vector<Request> slots_;
    std::vector<std::uint64_t> free_;
};

}  // namespace vgpu
