// SPDX-License-Identifier: MIT
//
// WorkerProcess: a child process and the mediator's ends of what they share, a WorkerMemory and a
// socket. The child inherits these two (as kMemoryDescriptor and kSocketDescriptor), standard
// output and error, and nothing else; standard input is /dev/null. SIGINT, SIGTERM, SIGHUP and
// SIGUSR1 are blocked at its start: they are often sent to a whole group and are the mediator's to
// handle.
//
// The child does not outlive this object. One thread at a time.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/mapping.h"
#include "base/result.h"
#include "executor/worker/records.h"

namespace vgpu::worker {

inline constexpr int kMemoryDescriptor = 3;
inline constexpr int kSocketDescriptor = 4;

struct Command {
    std::string program;                 // a path
    std::vector<std::string> arguments;  // without the program's name
};

class WorkerProcess {
  public:
    static Result<std::unique_ptr<WorkerProcess>> start(const Command& command);

    WorkerProcess(const WorkerProcess&) = delete;
    WorkerProcess& operator=(const WorkerProcess&) = delete;
    // Closes the socket, which asks the child to exit, waits up to 2 s, then kills it and waits up
    // to 2 s again. A child that cannot be reaped even then is left to init.
    ~WorkerProcess();

    [[nodiscard]] pid_t pid() const { return pid_; }
    [[nodiscard]] int socket() const { return socket_.get(); }
    [[nodiscard]] WorkerMemory& memory() {
        return *reinterpret_cast<WorkerMemory*>(memory_.data());
    }

    // Closes the socket and kills the child. Does not wait.
    void kill();
    // Reaps the child if it has ended; returns whether it has. Never blocks.
    [[nodiscard]] bool reap();
    // As reap(), but waits up to `limit`.
    [[nodiscard]] bool wait(std::chrono::milliseconds limit);
    // "exited with status N" or "was killed by signal N". Precondition: reap() returned true.
    [[nodiscard]] std::string how_it_ended() const;

  private:
    WorkerProcess(pid_t pid, Fd socket, Mapping memory)
        : pid_(pid), socket_(std::move(socket)), memory_(std::move(memory)) {}

    pid_t pid_;  // -1 once reaped
    int status_ = 0;
    Fd socket_;
    Mapping memory_;
};

}  // namespace vgpu::worker
