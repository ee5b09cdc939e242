// SPDX-License-Identifier: MIT
#include "support/process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <system_error>

extern char** environ;  // NOLINT: POSIX has no header for it

namespace vgpu::test {

Process::Process(const std::vector<std::string>& argv, const Environment& extra_env) {
    std::array<int, 2> pipe_fds{};
    if (::pipe2(pipe_fds.data(), O_CLOEXEC) != 0) {
        throw std::system_error(errno, std::generic_category(), "pipe2");
    }
    std::vector<char*> args;
    // A test killed at its time limit runs no destructors: the kernel kills its children instead.
    std::vector<std::string> words{"setpriv", "--pdeathsig", "KILL", "--"};
    words.insert(words.end(), argv.begin(), argv.end());
    args.reserve(words.size() + 1);
    for (const auto& arg : words) {
        args.push_back(const_cast<char*>(arg.c_str()));
    }
    args.push_back(nullptr);

    std::vector<std::string> env_text;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        env_text.emplace_back(*entry);
    }
    for (const auto& variable : extra_env) {
        std::string entry = variable.first;
        entry += '=';
        std::erase_if(env_text, [&](const auto& e) { return e.starts_with(entry); });
        entry += variable.second;
        env_text.push_back(std::move(entry));
    }
    std::vector<char*> env;
    env.reserve(env_text.size() + 1);
    for (auto& entry : env_text) {
        env.push_back(entry.data());
    }
    env.push_back(nullptr);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDERR_FILENO);
    // The test program ignores SIGPIPE; its children start with the default action.
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    const int error =
        ::posix_spawnp(&pid_, args[0], &actions, &attributes, args.data(), env.data());
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    ::close(pipe_fds[1]);
    if (error != 0) {
        ::close(pipe_fds[0]);
        throw std::system_error(error, std::generic_category(), argv[0]);
    }
    output_fd_ = pipe_fds[0];
    ::fcntl(output_fd_, F_SETFL, O_NONBLOCK);
    reader_ = std::thread([this] { read_output(); });
}

Process::~Process() {
    if (!exit_status_) {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    reader_.join();
    ::close(output_fd_);
}

void Process::read_output() {
    for (bool ended = false; !ended;) {
        pollfd entry{.fd = output_fd_, .events = POLLIN, .revents = 0};
        ::poll(&entry, 1, -1);
        const std::lock_guard lock(mutex_);
        drain();
        ended = output_ended_;
        changed_.notify_all();
    }
}

void Process::drain() {
    // Bounded, so that a child that prints continuously does not block the waiting test. A pipe
    // holds 64 KiB.
    constexpr int kMostReads = 16;
    std::array<char, 65536> buffer{};
    for (int reads = 0; reads < kMostReads && !output_ended_; ++reads) {
        const ssize_t n = ::read(output_fd_, buffer.data(), buffer.size());
        if (n > 0) {
            output_.append(buffer.data(), static_cast<std::size_t>(n));
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            output_ended_ = true;
        } else if (errno == EAGAIN) {
            return;
        }
    }
}

void Process::signal(int number) {
    if (!exit_status_) {
        ::kill(pid_, number);
    }
}

std::optional<int> Process::wait(std::chrono::milliseconds limit) {
    if (exit_status_) {
        return exit_status_;
    }
    const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
    if (pidfd < 0) {
        throw std::system_error(errno, std::generic_category(), "pidfd_open");
    }
    pollfd ended{.fd = pidfd, .events = POLLIN, .revents = 0};
    const auto deadline = std::chrono::steady_clock::now() + limit;
    int ready = 0;
    do {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        ready = ::poll(&ended, 1, static_cast<int>(std::max<long>(left.count(), 0)));
    } while (ready < 0 && errno == EINTR);
    ::close(pidfd);
    if (ready == 0) {
        return std::nullopt;
    }
    int status = 0;
    ::waitpid(pid_, &status, 0);
    exit_status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return exit_status_;
}

bool Process::wait_for_output(const std::string& text, std::chrono::milliseconds limit,
                              std::size_t from) {
    std::unique_lock lock(mutex_);
    const auto found = [&] { return output_.find(text, from) != std::string::npos; };
    changed_.wait_for(lock, limit, [&] { return found() || output_ended_; });
    return found();
}

std::string Process::output() {
    const std::lock_guard lock(mutex_);
    drain();
    return output_;
}

std::pair<int, std::string> run_program(const std::vector<std::string>& argv,
                                        std::chrono::milliseconds limit,
                                        const Process::Environment& extra_env) {
    Process process(argv, extra_env);
    const auto status = process.wait(limit);
    if (!status) {
        process.signal(SIGKILL);
        process.wait();
    }
    // wait_for_output() returns once the pipe has closed, so all output has been read.
    process.wait_for_output(std::string(1, '\0'), std::chrono::seconds(5));
    return {status.value_or(-1), process.output()};
}

}  // namespace vgpu::test
