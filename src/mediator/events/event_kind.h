// SPDX-License-Identifier: MIT
//
// EventKind: the kinds of events by name, as used by the event stream, the journal and filters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace vgpu {

enum class EventKind : std::uint8_t {
    kRequestAccepted,
    kRequestStarted,
    kRequestFinished,
    kRequestRefused,
    kRequestDropped,
    kRequestOverran,
    kSessionOpened,
    kSessionIdentified,
    kSessionClosed,
    kVmQuarantined,
    kVmReleased,
    kNotice,
    kQueueStopped,
    kMemoryAttached,
    kMemoryRefused,
};
inline constexpr std::size_t kEventKinds = 15;
const char* event_name(EventKind kind);
std::optional<EventKind> event_named(std::string_view name);

}  // namespace vgpu
