// SPDX-License-Identifier: MIT
//
// Counters: counts the event stream by pool, VM and priority. Produces no output of its own.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <string>

#include "mediator/events/events.h"
#include "vgpu_protocol.h"

namespace vgpu {

class Counters final : public EventSink {
  public:
    struct Counts {
        std::uint64_t accepted = 0;
        std::uint64_t started = 0;
        std::uint64_t done = 0;     // finished with status 0
        std::uint64_t failed = 0;   // finished with another status
        std::uint64_t refused = 0;  // never queued
        std::uint64_t limited = 0;  // rejected because of a limit or quarantine of its VM
        std::uint64_t overran = 0;  // ran longer than its VM's limit
        std::uint64_t dropped = 0;  // queued, but not run or not answered with its result
        std::uint64_t gpu_us = 0;   // sum of exec_time_us
        std::chrono::nanoseconds waited{0};
        std::chrono::nanoseconds longest_wait{0};

        // Returns the requests in flight, at least 0: once the counts of a VM have been evicted,
        // requests may end that are not among those accepted.
        [[nodiscard]] std::uint64_t open() const {
            const std::uint64_t ended = done + failed + dropped;
            return accepted > ended ? accepted - ended : 0;
        }
        Counts& operator+=(const Counts& other);
    };
    // VMs tracked individually. A peer can claim any id, so their number is bounded: a new VM
    // evicts the one whose last connection closed longest ago, whose counts are added to those of
    // the other VMs.
    static constexpr std::size_t kMostVms = 4096;

    // Returns zeros for what has never been seen.
    [[nodiscard]] Counts pool(char id) const;
    [[nodiscard]] Counts vm(std::uint32_t vm_id) const;
    // A tracked VM, and the pool and level of its last accepted request.
    struct Vm {
        Counts counts;
        std::optional<char> pool;
        std::optional<std::uint8_t> priority;
        std::size_t connections = 0;
        // Its position in idle_ while it has no connection.
        std::optional<std::list<std::uint32_t>::iterator> idle;
    };
    [[nodiscard]] const std::map<std::uint32_t, Vm>& vms() const { return by_vm_; }
    [[nodiscard]] Counts priority(std::size_t level) const { return by_priority_.at(level); }
    [[nodiscard]] Counts total() const { return total_; }
    // Returns how often a VM was put into quarantine.
    [[nodiscard]] std::uint64_t quarantines() const { return quarantines_; }
    [[nodiscard]] std::uint64_t connections() const { return connections_; }
    // Returns the number of connections closed because of a fault of the peer.
    [[nodiscard]] std::uint64_t faults() const { return faults_; }

    // Returns all counts as a human-readable table; every line ends in a newline.
    [[nodiscard]] std::string table() const;

    void on_event(const Event& event) override { dispatch(*this, event); }
    void on(const SessionIdentified& event);
    void on(const SessionOpened& event);
    void on(const SessionClosed& event);
    void on(const RequestAccepted& event);
    void on(const RequestStarted& event);
    void on(const RequestFinished& event);
    void on(const RequestRefused& event);
    void on(const RequestDropped& event);
    void on(const RequestOverran& event);
    void on(const RequestRun& event);
    void on(const VmQuarantined& event);

  private:
    template <typename Change>
    void count(const RequestInfo& request, Change change);
    // Returns null if kMostVms VMs are tracked and all of them have connections.
    Vm* find_or_add(std::uint32_t vm_id);

    std::map<char, Counts> by_pool_;  // letters only; others under '?'
    std::map<std::uint32_t, Vm> by_vm_;
    Counts other_vms_;               // VMs that are not tracked individually
    std::list<std::uint32_t> idle_;  // VMs without a connection, the most recently closed last
    std::array<Counts, VGPU_PRIORITY_COUNT> by_priority_{};
    Counts total_;
    std::uint64_t connections_ = 0;
    std::uint64_t connections_ever_ = 0;
    std::uint64_t quarantines_ = 0;
    std::uint64_t faults_ = 0;  // connections closed because of a fault of the peer
};

}  // namespace vgpu
