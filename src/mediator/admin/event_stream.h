// SPDX-License-Identifier: MIT
//
// EventStream: the mediator's events as lines of JSON, for any number of readers. A slow reader
// loses events and receives the number lost; it never delays the source of the events.
//
// Without readers an event costs one comparison. Control loop only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mediator/events/event_kind.h"
#include "mediator/events/events.h"

namespace vgpu {

struct EventFilter {
    std::optional<std::uint32_t> vm;  // none: all VMs, and events without a VM
    std::uint32_t kinds = ~0U;        // bit mask of 1 << kind

    [[nodiscard]] bool takes(EventKind kind, std::optional<std::uint32_t> of) const {
        return (kinds & (1U << static_cast<unsigned>(kind))) != 0 && (!vm || vm == of);
    }
};

// Unsent lines of one reader.
class EventReader {
  public:
    EventReader(const EventFilter& filter, std::size_t bound, std::function<void()> more)
        : filter_(filter), bound_(bound), more_(std::move(more)) {}

    // Moves the lines since the last call into `to`, replacing its contents. False: there are none.
    bool take(std::string& to);
    [[nodiscard]] std::size_t waiting() const { return lines_.size(); }

  private:
    friend class EventStream;
    void add(std::string_view line);

    EventFilter filter_;
    std::size_t bound_;           // bytes
    std::function<void()> more_;  // called when lines_ becomes non-empty
    std::string lines_;
    std::uint64_t lost_ = 0;
};

class EventStream final : public EventSink {
  public:
    // Delivers lines to the returned reader until it is destroyed. `more` is called from within an
    // event when an empty reader gets its first line; it must not call back.
    std::shared_ptr<EventReader> subscribe(const EventFilter& filter, std::size_t bound,
                                           std::function<void()> more);
    [[nodiscard]] std::size_t readers() const { return readers_.size(); }

    void on_event(const Event& event) override { dispatch(*this, event); }
    void on(const SessionOpened& event);
    void on(const SessionIdentified& event);
    void on(const SessionClosed& event);
    void on(const RequestAccepted& event);
    void on(const RequestStarted& event);
    void on(const RequestFinished& event);
    void on(const RequestRefused& event);
    void on(const RequestDropped& event);
    void on(const RequestOverran& event);
    void on(const RequestRun& event);
    void on(const QueueStopped& event);
    void on(const MemoryAttached& event);
    void on(const MemoryRefused& event);
    void on(const VmQuarantined& event);
    void on(const VmReleased& event);
    void on(const Notice& event);
    void on(const GpuState& event);

  private:
    template <typename Members>
    void publish(EventKind kind, std::optional<std::uint32_t> vm, Members members);
    template <typename Members>
    void publish_request(EventKind kind, const RequestInfo& request, Members members);

    std::vector<std::weak_ptr<EventReader>> readers_;
    std::string line_;  // kept to reuse its capacity
};

}  // namespace vgpu
