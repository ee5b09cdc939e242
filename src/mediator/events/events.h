// SPDX-License-Identifier: MIT
//
// The event stream: everything observable that the mediator does, emitted once. The log, the
// counters and the ordering checks of the tests are sinks; the code that does the work never logs
// or counts itself.
//
// Life cycle of a request; each arrow is one event:
//
//   --> accepted --> started --> finished          the normal case
//   --> refused                                    answered with an error, never queued
//       accepted --> dropped                       its connection closed, its VM reached a limit,
//                                                  or the mediator stops
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace vgpu {

using SessionId = std::uint64_t;  // unique within a run

enum class CloseReason : std::uint8_t {
    kPeerClosed,
    kTransportError,
    kProtocolViolation,
    kVmIdChanged,
    kVmIdInUse,
    kVmNotAllowed,
    kMessageTimeout,
    kNotReading,
    kTooManyConnections,
    kMemoryBlocks,
    kShutdown,
};

// Returns whether the peer is at fault, as opposed to a normal close.
bool is_fault(CloseReason reason);
// Returns whether this status reports that the VM reached a limit or is in quarantine.
bool is_limit(std::uint32_t status);

struct SessionOpened {
    SessionId session = 0;
    std::string_view socket;
    pid_t pid = 0;
    uid_t uid = 0;
};
// The first message identified the VM.
struct SessionIdentified {
    SessionId session = 0;
    std::uint32_t vm_id = 0;
};
struct SessionClosed {
    SessionId session = 0;
    std::optional<std::uint32_t> vm_id;  // as claimed; none if never sent
    bool identified = false;             // SessionIdentified was emitted for it
    CloseReason reason = CloseReason::kPeerClosed;
    std::string_view detail;  // a clause for messages
};

// Identifies a request in every event about it.
struct RequestInfo {
    SessionId session = 0;
    std::uint32_t vm_id = 0;
    std::uint32_t request_id = 0;
    std::uint8_t pool = 0;      // as sent: any byte
    std::uint8_t priority = 0;  // as sent: any byte
    std::uint32_t opcode = 0;   // as sent; 0 if the request is too short to have one
};
struct RequestAccepted {
    const RequestInfo& request;
};
struct RequestStarted {
    const RequestInfo& request;
    std::chrono::nanoseconds waited;
};
struct RequestFinished {
    const RequestInfo& request;
    std::uint32_t status;      // enum vgpu_error
    std::string_view message;  // explains a status other than 0
    std::chrono::nanoseconds waited;
    std::chrono::nanoseconds ran;  // from start to completion, measured by the mediator
    std::uint32_t exec_time_us;    // measured by the backend
    bool delivered;                // false: its connection was closed
    bool fault = false;            // counts as a fault of its VM
};
struct RequestRefused {
    const RequestInfo& request;
    std::uint32_t status;
    std::string_view message;
};
struct RequestDropped {
    const RequestInfo& request;
    std::string_view why;
    bool answered;  // with VGPU_ERR_MEDIATOR_UNAVAILABLE, or the error of its VM's limit
};

// Commands of one queue, identical except for their numbers, were accepted, started and finished in
// one turn of the control loop, all with status 0. Replaces three events for each command.
struct RequestRun {
    const RequestInfo& request;  // of the first command
    std::uint64_t count;
    std::chrono::nanoseconds waited;  // of the first command
    std::chrono::nanoseconds ran;     // total
    std::uint32_t exec_time_us;       // total
};

// A queue stopped because of invalid data from the guest.
struct QueueStopped {
    SessionId session = 0;
    std::uint32_t vm_id = 0;
    std::uint32_t queue = 0;
    std::uint32_t error = 0;  // enum vgpu_queue_error
};

// The mediator starts to serve the shared memory of a device.
struct MemoryAttached {
    SessionId session = 0;
    std::uint32_t vm_id = 0;
    std::uint64_t size = 0;  // bytes
    std::uint32_t queues = 0;
};
// A hello was rejected; the connection continues with protocol version 1.
struct MemoryRefused {
    SessionId session = 0;
    std::uint32_t vm_id = 0;
    std::uint32_t status = 0;  // enum vgpu_hello_status
};

// A request exceeds its VM's execution time limit. Emitted once, when the limit expires (for a
// request that runs on the control loop: when it has ended).
struct RequestOverran {
    const RequestInfo& request;
    std::chrono::nanoseconds ran;
    std::chrono::nanoseconds limit;
};
// All requests of this VM are rejected from now on, until it is released.
struct VmQuarantined {
    std::uint32_t vm_id;
    std::uint32_t faults;
    bool by_operator = false;  // not because of its faults
};
// Returns what happened, without the VM.
std::string quarantine_text(const VmQuarantined& event);
struct VmReleased {
    std::uint32_t vm_id;
};

// A GPU failed or recovered. Its requests were answered with VGPU_ERR_CUDA, and its buffers are
// lost.
struct GpuState {
    enum class Change : std::uint8_t { kFailed, kRecovered };
    std::size_t gpu;  // index into the mediator's backends
    Change change;
    std::string_view why;               // of kFailed
    std::chrono::nanoseconds down_for;  // of kRecovered
};

// A message about the mediator itself for its operator.
struct Notice {
    std::string_view text;
    bool warning = true;  // false: for information
};

using Event = std::variant<SessionOpened, SessionIdentified, SessionClosed, RequestAccepted,
                           RequestStarted, RequestFinished, RequestRefused, RequestDropped,
                           RequestOverran, RequestRun, QueueStopped, MemoryAttached, MemoryRefused,
                           VmQuarantined, VmReleased, Notice, GpuState>;

// Receives events on the control loop, in the order in which they occur. References and views in an
// event are valid only during the call. This class itself ignores them.
class EventSink {
  public:
    EventSink() = default;
    EventSink(const EventSink&) = delete;
    EventSink& operator=(const EventSink&) = delete;
    virtual ~EventSink() = default;

    virtual void on_event(const Event& /*event*/) {}
};

// Emits the events that an inline batch replaces, three for each command.
void expand(const RequestRun& run, EventSink& to);

// Calls `sink.on(event)` if Sink has a public overload for that kind of event. Expands an inline
// batch for a sink without one.
template <typename Sink>
void dispatch(Sink& sink, const Event& event) {
    std::visit(
        [&sink](const auto& one) {
            if constexpr (requires { sink.on(one); }) {
                sink.on(one);
            } else if constexpr (std::is_same_v<decltype(one), const RequestRun&>) {
                expand(one, sink);
            }
        },
        event);
}

// Forwards every event to several sinks, in the order in which they were given.
class EventFanOut final : public EventSink {
  public:
    // Borrows the sinks.
    explicit EventFanOut(std::vector<EventSink*> sinks) : sinks_(std::move(sinks)) {}

    void on_event(const Event& event) override {
        for (EventSink* const sink : sinks_) {
            sink->on_event(event);
        }
    }

  private:
    std::vector<EventSink*> sinks_;
};

}  // namespace vgpu
