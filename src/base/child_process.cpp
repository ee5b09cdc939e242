// SPDX-License-Identifier: MIT
#include "base/child_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <thread>

#include "base/fd.h"

namespace vgpu {
namespace {

constexpr std::chrono::milliseconds kPatience{2000};
constexpr std::chrono::milliseconds kNap{2};

// posix_spawn's file actions and attributes, destroyed together.
struct SpawnSettings {
    SpawnSettings() {
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawnattr_init(&attributes);
    }
    SpawnSettings(const SpawnSettings&) = delete;
    SpawnSettings& operator=(const SpawnSettings&) = delete;
    ~SpawnSettings() {
        ::posix_spawn_file_actions_destroy(&actions);
        ::posix_spawnattr_destroy(&attributes);
    }

    posix_spawn_file_actions_t actions{};
    posix_spawnattr_t attributes{};
};

int spawn(const ChildProcess::Command& command, const std::vector<Fd>& descriptors, pid_t& pid) {
    SpawnSettings settings;
    sigset_t blocked;
    ::sigemptyset(&blocked);
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1}) {
        ::sigaddset(&blocked, number);
    }
    int error = ::posix_spawn_file_actions_addopen(&settings.actions, STDIN_FILENO, "/dev/null",
                                                   O_RDONLY, 0);
    int next = ChildProcess::kFirstDescriptor;
    for (const Fd& fd : descriptors) {
        error = error != 0 ? error
                           : ::posix_spawn_file_actions_adddup2(&settings.actions, fd.get(), next);
        ++next;
    }
    for (const int later :
         {::posix_spawn_file_actions_addclosefrom_np(&settings.actions, next),
          ::posix_spawnattr_setsigmask(&settings.attributes, &blocked),
          ::posix_spawnattr_setflags(&settings.attributes, POSIX_SPAWN_SETSIGMASK)}) {
        error = error != 0 ? error : later;
    }
    if (error != 0) {
        return error;
    }
    std::string name = command.name;
    std::vector<std::string> arguments = command.arguments;
    std::vector<char*> argv{name.data()};
    for (std::string& argument : arguments) {
        argv.push_back(argument.data());
    }
    argv.push_back(nullptr);
    return ::posix_spawn(&pid, command.program.c_str(), &settings.actions, &settings.attributes,
                         argv.data(), environ);
}

}  // namespace

Result<ChildProcess> ChildProcess::start(const Command& command,
                                         const std::vector<int>& descriptors) {
    // Duplicates above the numbers that the child uses, so that no dup2() overwrites another one.
    std::vector<Fd> above;
    for (const int fd : descriptors) {
        above.emplace_back(
            ::fcntl(fd, F_DUPFD_CLOEXEC, kFirstDescriptor + static_cast<int>(descriptors.size())));
        if (!above.back()) {
            return Error::from_errno("cannot start " + command.name, errno);
        }
    }
    pid_t pid = -1;
    if (const int error = spawn(command, above, pid); error != 0) {
        return Error::from_errno("cannot start " + command.name, error);
    }
    return ChildProcess(pid);
}

ChildProcess::~ChildProcess() {
    if (!wait(kPatience)) {
        kill();
        static_cast<void>(wait(kPatience));
    }
}

void ChildProcess::kill() const {
    if (pid_ > 0) {
        ::kill(pid_, SIGKILL);
    }
}

bool ChildProcess::reap() {
    if (pid_ > 0 && ::waitpid(pid_, &status_, WNOHANG) != 0) {
        pid_ = -1;
    }
    return pid_ < 0;
}

bool ChildProcess::wait(std::chrono::milliseconds limit) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!reap()) {
        if (std::chrono::steady_clock::now() >= deadline) {
            return false;
        }
        std::this_thread::sleep_for(kNap);
    }
    return true;
}

std::string ChildProcess::how_it_ended() const {
    return WIFSIGNALED(status_) ? "was killed by signal " + std::to_string(WTERMSIG(status_))
                                : "exited with status " + std::to_string(WEXITSTATUS(status_));
}

}  // namespace vgpu
