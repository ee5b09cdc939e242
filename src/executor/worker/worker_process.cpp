// SPDX-License-Identifier: MIT
#include "executor/worker/worker_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <new>
#include <thread>
#include <utility>

namespace vgpu::worker {
namespace {

constexpr std::chrono::milliseconds kPatience{2000};
constexpr std::chrono::milliseconds kNap{2};

// Moves a descriptor above the numbers that the child uses.
Fd above_the_childs(Fd fd) {
    return Fd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, kSocketDescriptor + 1));
}

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

int spawn(const Command& command, int memory, int socket, pid_t& pid) {
    SpawnSettings settings;
    sigset_t blocked;
    ::sigemptyset(&blocked);
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1}) {
        ::sigaddset(&blocked, number);
    }
    for (const int error :
         {::posix_spawn_file_actions_addopen(&settings.actions, STDIN_FILENO, "/dev/null", O_RDONLY,
                                             0),
          ::posix_spawn_file_actions_adddup2(&settings.actions, memory, kMemoryDescriptor),
          ::posix_spawn_file_actions_adddup2(&settings.actions, socket, kSocketDescriptor),
          ::posix_spawn_file_actions_addclosefrom_np(&settings.actions, kSocketDescriptor + 1),
          ::posix_spawnattr_setsigmask(&settings.attributes, &blocked),
          ::posix_spawnattr_setflags(&settings.attributes, POSIX_SPAWN_SETSIGMASK)}) {
        if (error != 0) {
            return error;
        }
    }
    std::string name = "vgpu-gpu-worker";
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

Result<std::unique_ptr<WorkerProcess>> WorkerProcess::start(const Command& command) {
    const auto failed = [](int error) {
        return Error::from_errno("cannot start the GPU's worker process", error);
    };
    const Fd memory =
        above_the_childs(Fd(::memfd_create("vgpu-worker", MFD_CLOEXEC | MFD_ALLOW_SEALING)));
    if (!memory || ::ftruncate(memory.get(), sizeof(WorkerMemory)) != 0 ||
        ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        return failed(errno);
    }
    auto mapping = Mapping::create(memory.get(), sizeof(WorkerMemory), PROT_READ | PROT_WRITE);
    if (!mapping) {
        return std::move(mapping).error();
    }
    new (mapping->data()) WorkerMemory;
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0) {
        return failed(errno);
    }
    Fd ours(ends[0]);
    const Fd theirs = above_the_childs(Fd(ends[1]));
    if (!theirs) {
        return failed(errno);
    }
    pid_t pid = -1;
    if (const int error = spawn(command, memory.get(), theirs.get(), pid); error != 0) {
        return failed(error);
    }
    return std::unique_ptr<WorkerProcess>(
        new WorkerProcess(pid, std::move(ours), std::move(mapping).value()));
}

WorkerProcess::~WorkerProcess() {
    socket_.reset();
    if (!wait(kPatience)) {
        kill();
        static_cast<void>(wait(kPatience));
    }
}

void WorkerProcess::kill() {
    socket_.reset();
    if (pid_ > 0) {
        ::kill(pid_, SIGKILL);
    }
}

bool WorkerProcess::reap() {
    if (pid_ > 0 && ::waitpid(pid_, &status_, WNOHANG) != 0) {
        pid_ = -1;
    }
    return pid_ < 0;
}

bool WorkerProcess::wait(std::chrono::milliseconds limit) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!reap()) {
        if (std::chrono::steady_clock::now() >= deadline) {
            return false;
        }
        std::this_thread::sleep_for(kNap);
    }
    return true;
}

std::string WorkerProcess::how_it_ended() const {
    return WIFSIGNALED(status_) ? "was killed by signal " + std::to_string(WTERMSIG(status_))
                                : "exited with status " + std::to_string(WEXITSTATUS(status_));
}

}  // namespace vgpu::worker
