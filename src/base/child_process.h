// SPDX-License-Identifier: MIT
//
// ChildProcess: a child process of this program. It inherits the descriptors that are passed to it,
// standard output and error, and nothing else; standard input is /dev/null. SIGINT, SIGTERM, SIGHUP
// and SIGUSR1 are blocked at its start: they are often sent to a whole group and are the parent's
// to handle.
//
// The child does not outlive this object. One thread at a time.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace vgpu {

class [[nodiscard]] ChildProcess {
  public:
    // Number of the first descriptor that the child inherits; the others follow.
    static constexpr int kFirstDescriptor = 3;

    struct Command {
        std::string program;                 // a path
        std::string name;                    // argv[0]
        std::vector<std::string> arguments;  // without the name
    };

    // Borrows the descriptors. The child has them as kFirstDescriptor, kFirstDescriptor + 1, …
    static Result<ChildProcess> start(const Command& command, const std::vector<int>& descriptors);

    ChildProcess(ChildProcess&& other) noexcept
        : pid_(std::exchange(other.pid_, -1)), status_(other.status_) {}
    ChildProcess& operator=(ChildProcess&&) = delete;
    ChildProcess(const ChildProcess&) = delete;
    ChildProcess& operator=(const ChildProcess&) = delete;
    // Waits up to 2 s for the child, which the caller has asked to exit, then kills it and waits up
    // to 2 s again. A child that cannot be reaped even then is left to init.
    ~ChildProcess();

    // -1 once reaped.
    [[nodiscard]] pid_t pid() const { return pid_; }
    // Kills the child. Does not wait.
    void kill() const;
    // Reaps the child if it has ended; returns whether it has. Never blocks.
    [[nodiscard]] bool reap();
    // As reap(), but waits up to `limit`.
    [[nodiscard]] bool wait(std::chrono::milliseconds limit);
    // "exited with status N" or "was killed by signal N". Precondition: reap() returned true.
    [[nodiscard]] std::string how_it_ended() const;

  private:
    explicit ChildProcess(pid_t pid) : pid_(pid) {}

    pid_t pid_;
    int status_ = 0;
};

}  // namespace vgpu
