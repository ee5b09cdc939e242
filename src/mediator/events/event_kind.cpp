// SPDX-License-Identifier: MIT
#include "mediator/events/event_kind.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace vgpu {
namespace {

constexpr std::array<const char*, kEventKinds> kNames{
    "request_accepted", "request_started", "request_finished", "request_refused",
    "request_dropped",  "request_overran", "session_opened",   "session_identified",
    "session_closed",   "vm_quarantined",  "vm_released",      "notice",
    "queue_stopped",    "memory_attached", "memory_refused"};

}  // namespace

const char* event_name(EventKind kind) {
    return kNames.at(static_cast<std::size_t>(kind));
}

std::optional<EventKind> event_named(std::string_view name) {
    const auto* const found = std::find(kNames.begin(), kNames.end(), name);
    if (found == kNames.end()) {
        return std::nullopt;
    }
    return static_cast<EventKind>(std::distance(kNames.begin(), found));
}

}  // namespace vgpu
