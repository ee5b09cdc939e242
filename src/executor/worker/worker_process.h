// SPDX-License-Identifier: MIT
//
// WorkerProcess: a child process and the mediator's ends of what they share, a WorkerMemory and a
// socket. The child inherits these two (as kMemoryDescriptor and kSocketDescriptor); see
// ChildProcess for the rest.
//
// The child does not outlive this object. One thread at a time.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/child_process.h"
#include "base/fd.h"
#include "base/mapping.h"
#include "base/result.h"
#include "executor/worker/records.h"

namespace vgpu::worker {

inline constexpr int kMemoryDescriptor = ChildProcess::kFirstDescriptor;
inline constexpr int kSocketDescriptor = kMemoryDescriptor + 1;

struct Command {
    std::string program;                 // a path
    std::vector<std::string> arguments;  // without the program's name
};

class WorkerProcess {
  public:
    static Result<std::unique_ptr<WorkerProcess>> start(const Command& command);

    WorkerProcess(const WorkerProcess&) = delete;
    WorkerProcess& operator=(const WorkerProcess&) = delete;
    // Closes the socket, which asks the child to exit, and waits for it as ~ChildProcess() does.
    ~WorkerProcess() { socket_.reset(); }

    [[nodiscard]] pid_t pid() const { return child_.pid(); }
    [[nodiscard]] int socket() const { return socket_.get(); }
    [[nodiscard]] WorkerMemory& memory() {
        return *reinterpret_cast<WorkerMemory*>(memory_.data());
    }

    // Closes the socket and kills the child. Does not wait.
    void kill() {
        socket_.reset();
        child_.kill();
    }
    // As those of ChildProcess.
    [[nodiscard]] bool reap() { return child_.reap(); }
    [[nodiscard]] bool wait(std::chrono::milliseconds limit) { return child_.wait(limit); }
    [[nodiscard]] std::string how_it_ended() const { return child_.how_it_ended(); }

  private:
    WorkerProcess(ChildProcess child, Fd socket, Mapping memory)
        : memory_(std::move(memory)), child_(std::move(child)), socket_(std::move(socket)) {}

    Mapping memory_;
    ChildProcess child_;
    Fd socket_;
};

}  // namespace vgpu::worker
