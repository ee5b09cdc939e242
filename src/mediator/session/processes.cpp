// SPDX-License-Identifier: MIT
#include "mediator/session/processes.h"

namespace vgpu {

std::shared_ptr<Processes::Process> Processes::of(pid_t pid, std::size_t most_connections,
                                                  std::chrono::nanoseconds now) {
    const auto known = processes_.find(pid);
    if (known != processes_.end()) {
        return known->second;
    }
    auto process = std::make_shared<Process>(most_connections, now, disposer_.source());
    processes_.emplace(pid, process);
    list_idle(pid, *process);  // until it has a connection
    return process;
}

void Processes::list_idle(pid_t pid, Process& process) {
    process.idle_listed_ = true;
    idle_.push_back(pid);
    if (idle_.size() <= kMostIdle) {
        return;
    }
    const auto oldest = processes_.find(idle_.front());
    idle_.pop_front();
    oldest->second->idle_listed_ = false;
    if (oldest->second->connections == 0) {
        processes_.erase(oldest);
    }
}

void Processes::closed(pid_t pid) {
    Process& process = *processes_.at(pid);
    if (--process.connections == 0 && !process.idle_listed_) {
        list_idle(pid, process);
    }
}

}  // namespace vgpu
