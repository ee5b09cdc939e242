// SPDX-License-Identifier: MIT
#include "mediator/events/events.h"

#include "vgpu_protocol.h"

namespace vgpu {

bool is_fault(CloseReason reason) {
    return reason != CloseReason::kPeerClosed && reason != CloseReason::kTransportError &&
           reason != CloseReason::kVmIdInUse && reason != CloseReason::kShutdown;
}

bool is_limit(std::uint32_t status) {
    return status == VGPU_ERR_RATE_LIMITED || status == VGPU_ERR_QUARANTINED;
}

std::string quarantine_text(const VmQuarantined& event) {
    if (event.by_operator) {
        return "quarantined by the operator";
    }
    return "quarantined after " + std::to_string(event.faults) +
           (event.faults == 1 ? " fault" : " faults");
}

void EventSink::request_run(const RequestRun& event) {
    for (std::uint64_t i = 0; i < event.count; ++i) {
        request_accepted({.request = event.request});
        request_started({.request = event.request, .waited = event.waited});
        request_finished({.request = event.request,
                          .status = VGPU_ERR_NONE,
                          .sentence = {},
                          .waited = event.waited,
                          .ran = event.ran / event.count,
                          .exec_time_us = i == 0 ? event.exec_time_us : 0,
                          .delivered = true});
    }
}

void EventFanOut::session_opened(const SessionOpened& event) {
    for (EventSink* const sink : sinks_) {
        sink->session_opened(event);
    }
}
void EventFanOut::session_identified(const SessionIdentified& event) {
    for (EventSink* const sink : sinks_) {
        sink->session_identified(event);
    }
}
void EventFanOut::session_closed(const SessionClosed& event) {
    for (EventSink* const sink : sinks_) {
        sink->session_closed(event);
    }
}
void EventFanOut::request_accepted(const RequestAccepted& event) {
    for (EventSink* const sink : sinks_) {
        sink->request_accepted(event);
    }
}
void EventFanOut::request_started(const RequestStarted& event) {
    for (EventSink* const sink : sinks_) {
        sink->request_started(event);
    }
}
void EventFanOut::request_finished(const RequestFinished& event) {
    for (EventSink* const sink : sinks_) {
        sink->request_finished(event);
    }
}
void EventFanOut::request_refused(const RequestRefused& event) {
    for (EventSink* const sink : sinks_) {
        sink->request_refused(event);
    }
}
void EventFanOut::request_dropped(const RequestDropped& event) {
    for (EventSink* const sink : sinks_) {
        sink->request_dropped(event);
    }
}
void EventFanOut::request_overran(const RequestOverran& event) {
    for (EventSink* const sink : sinks_) {
        sink->request_overran(event);
    }
}
void EventFanOut::request_run(const RequestRun& event) {
    for (EventSink* const sink : sinks_) {
        sink->request_run(event);
    }
}
void EventFanOut::queue_stopped(const QueueStopped& event) {
    for (EventSink* const sink : sinks_) {
        sink->queue_stopped(event);
    }
}
void EventFanOut::memory_attached(const MemoryAttached& event) {
    for (EventSink* const sink : sinks_) {
        sink->memory_attached(event);
    }
}
void EventFanOut::memory_refused(const MemoryRefused& event) {
    for (EventSink* const sink : sinks_) {
        sink->memory_refused(event);
    }
}
void EventFanOut::vm_quarantined(const VmQuarantined& event) {
    for (EventSink* const sink : sinks_) {
        sink->vm_quarantined(event);
    }
}
void EventFanOut::vm_released(const VmReleased& event) {
    for (EventSink* const sink : sinks_) {
        sink->vm_released(event);
    }
}
void EventFanOut::notice(const Notice& event) {
    for (EventSink* const sink : sinks_) {
        sink->notice(event);
    }
}
void EventFanOut::gpu_state(const GpuState& event) {
    for (EventSink* const sink : sinks_) {
        sink->gpu_state(event);
    }
}

}  // namespace vgpu
