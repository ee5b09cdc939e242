// SPDX-License-Identifier: MIT
//
// Shortages: reports resource exhaustion of this host or process to the operator. The log has it
// once, not once for each affected VM, and no VM is blamed.
#pragma once

#include <sys/resource.h>

#include <cerrno>
#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <system_error>

#include "mediator/events/events.h"

namespace vgpu {

class Shortages {
  public:
    // A persistent shortage is reported again after this interval.
    static constexpr std::chrono::minutes kAgain{10};

    // Borrows events.
    explicit Shortages(EventSink& events) : events_(events) {}

    // Reports `what`, an error text with its remedy, unless it was reported recently. Precondition:
    // one of a few texts, without ids in them.
    void report(const std::string& what, std::chrono::nanoseconds now) { report(what, what, now); }
    // The same for a text that varies: `kind` is one of a few.
    void report(const std::string& kind, const std::string& what, std::chrono::nanoseconds now) {
        const auto [entry, first] = reported_.try_emplace(kind, now);
        if (!first && now - entry->second < kAgain) {
            return;
        }
        entry->second = now;
        events_.on_event(Notice{.text = what});
    }

  private:
    EventSink& events_;
    std::map<std::string, std::chrono::nanoseconds> reported_;
};

// Returns the message for exhausted file descriptors.
inline std::string descriptor_shortage() {
    rlimit limit{};
    const bool known = ::getrlimit(RLIMIT_NOFILE, &limit) == 0;
    return "the limit of open files is reached" +
           (known ? " (" + std::to_string(limit.rlim_cur) + ")" : std::string()) +
           ": raise LimitNOFILE= of the service, or ulimit -n";
}

// Returns the message for an accept() that failed because of resource exhaustion, which may be
// temporary; nothing for any other errno.
inline std::optional<std::string> accept_shortage(int error) {
    if (error == EMFILE) {
        return descriptor_shortage();
    }
    if (error == ENFILE || error == ENOMEM || error == ENOBUFS) {
        return std::generic_category().message(error);
    }
    return std::nullopt;
}

}  // namespace vgpu
