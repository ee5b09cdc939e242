// SPDX-License-Identifier: MIT
//
// Process: a child program under test. Captures its output, so that a test synchronises on the
// output instead of sleeping. The destructor kills a process that still runs; nothing a test starts
// outlives it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace vgpu::test {

class Process {
  public:
    using Environment = std::vector<std::pair<std::string, std::string>>;

    // Starts argv[0] (searched in PATH) with standard input from /dev/null, and captures standard
    // output and error in one text. `extra_env` is added to the environment. Throws
    // std::system_error on failure.
    explicit Process(const std::vector<std::string>& argv, const Environment& extra_env = {});
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;
    ~Process();

    [[nodiscard]] pid_t pid() const { return pid_; }
    // Sends a signal; no effect once the process has been waited for.
    void signal(int number);

    // Waits for exit. Returns the exit status or 128 + signal; nullopt on time-out.
    std::optional<int> wait(std::chrono::milliseconds limit = std::chrono::seconds(20));

    // Waits until `text` occurs in the output at or after position `from`. Returns false on
    // time-out or if the output ended without it.
    bool wait_for_output(const std::string& text,
                         std::chrono::milliseconds limit = std::chrono::seconds(20),
                         std::size_t from = 0);

    // Returns everything the process had written before this call.
    [[nodiscard]] std::string output();

  private:
    void read_output();
    // Reads the available data from the pipe. Precondition: mutex_ is held.
    void drain();

    pid_t pid_ = -1;
    std::optional<int> exit_status_;
    int output_fd_ = -1;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::string output_;
    bool output_ended_ = false;
    std::thread reader_;
};

// Runs a program to completion. Returns exit status (or 128 + signal; -1 on time-out) and output.
std::pair<int, std::string> run_program(const std::vector<std::string>& argv,
                                        std::chrono::milliseconds limit = std::chrono::seconds(20),
                                        const Process::Environment& extra_env = {});

}  // namespace vgpu::test
