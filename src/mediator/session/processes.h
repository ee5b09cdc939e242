// SPDX-License-Identifier: MIT
//
// Processes: the state of each process on the mediator's sockets, by the process id that the kernel
// reported on connect. A process can name any number of VM ids; this bounds what it can take from
// others.
//
// A process without a connection is remembered for a while, so that reconnecting does not renew its
// budget. Control loop only.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <unordered_map>
#include <utility>

#include "base/disposer.h"
#include "sched/hold_back.h"

namespace vgpu {

class Processes {
  public:
    // Maximum number of processes remembered without a connection.
    static constexpr std::size_t kMostIdle = 256;

    struct Process {
        Process(std::size_t most_connections, std::chrono::nanoseconds now,
                Disposer::Source its_disposer)
            : hold(HoldBack::of_process(most_connections), now),
              disposer(std::move(its_disposer)) {}

        std::size_t connections = 0;
        HoldBack hold;
        Disposer::Source disposer;  // of what it passes

      private:
        friend class Processes;
        bool idle_listed_ = false;
    };

    // Borrows the disposer.
    explicit Processes(const Disposer& disposer) : disposer_(disposer) {}

    // Precondition: pid > 0.
    std::shared_ptr<Process> of(pid_t pid, std::size_t most_connections,
                                std::chrono::nanoseconds now);
    // Records that a connection of this process was closed. Precondition: it had one.
    void closed(pid_t pid);
    // Number of remembered processes, including connected ones.
    [[nodiscard]] std::size_t size() const { return processes_.size(); }

  private:
    // Remembers a process without a connection in place of the oldest one.
    void list_idle(pid_t pid, Process& process);

    const Disposer& disposer_;
    std::unordered_map<pid_t, std::shared_ptr<Process>> processes_;
    std::deque<pid_t> idle_;  // some may have reconnected
};

}  // namespace vgpu
