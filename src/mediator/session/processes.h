// SPDX-License-Identifier: MIT
//
// Processes: what each process has on the mediator's sockets, by the process id that the kernel
// told when it connected. A process can name any VM id, and as many as it likes; what it can take
// from others is bounded by this.
//
// A process that has no connection is remembered for a while, so that it gets no new budget by
// connecting again. Control loop only.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <unordered_map>

#include "sched/hold_back.h"

namespace vgpu {

class Processes {
  public:
    // Without a connection, so many are remembered.
    static constexpr std::size_t kMostIdle = 256;

    struct Process {
        explicit Process(std::chrono::nanoseconds now) : hold(HoldBack::kProcess, now) {}

        std::size_t connections = 0;
        HoldBack hold;

      private:
        friend class Processes;
        bool idle_listed_ = false;
    };

    // Precondition: pid > 0.
    std::shared_ptr<Process> of(pid_t pid, std::chrono::nanoseconds now);
    // One of its connections is closed. Precondition: it had one.
    void closed(pid_t pid);
    // How many are remembered.
    [[nodiscard]] std::size_t size() const { return processes_.size(); }

  private:
    std::unordered_map<pid_t, std::shared_ptr<Process>> processes_;
    std::deque<pid_t> idle_;  // some of which may have connections again
};

}  // namespace vgpu
