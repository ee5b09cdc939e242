// SPDX-License-Identifier: MIT
#include "mediator/events/events.h"

#include "vgpu_protocol.h"

namespace vgpu {

bool is_fault(CloseReason reason) {
    return reason != CloseReason::kPeerClosed && reason != CloseReason::kTransportError &&
           reason != CloseReason::kVmIdInUse && reason != CloseReason::kVmNotAllowed &&
           reason != CloseReason::kShutdown;
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

void expand(const RequestRun& run, EventSink& to) {
    for (std::uint64_t i = 0; i < run.count; ++i) {
        to.on_event(RequestAccepted{.request = run.request});
        to.on_event(RequestStarted{.request = run.request, .waited = run.waited});
        to.on_event(RequestFinished{.request = run.request,
                                    .status = VGPU_ERR_NONE,
                                    .message = {},
                                    .waited = run.waited,
                                    .ran = run.ran / run.count,
                                    .exec_time_us = i == 0 ? run.exec_time_us : 0,
                                    .delivered = true});
    }
}

}  // namespace vgpu
