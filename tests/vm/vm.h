// SPDX-License-Identifier: MIT
//
// Vm: a real guest in a real QEMU, for the tests. It boots the test guest (guest/build) and runs
// commands in it over the second serial port; guest/init describes the protocol. Commands run one
// after the other. Not thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "support/process.h"
#include "support/temp_dir.h"

namespace vgpu::test {

class Vm {
  public:
    struct Result {
        int status;  // exit status of the command; -1 on time-out
        std::string output;
    };

    // Returns why VM tests cannot run here (no QEMU, no guest built), or an empty string.
    static std::string missing(const std::string& initramfs = "initramfs.cpio.gz");

    // Behaviour on reset. The default ends QEMU, so that a panic of the guest is detected.
    enum class OnReset : std::uint8_t { kEnds, kBootsAgain };

    struct Options {
        OnReset on_reset = OnReset::kEnds;
        unsigned memory_mib = 192;
        // A file in the guest's folder; kTestPrograms also contains the programs of tests/vm/guest.
        std::string initramfs = "initramfs.cpio.gz";
    };
    static constexpr const char* kTestPrograms = "test.cpio.gz";

    // Starts a guest with these -device arguments without waiting for it: several can boot at once.
    // Precondition: missing() is empty. Throws if QEMU cannot be started.
    Vm(const std::vector<std::string>& devices, const Options& options);
    explicit Vm(const std::vector<std::string>& devices, OnReset on_reset = OnReset::kEnds)
        : Vm(devices, Options{.on_reset = on_reset, .initramfs = "initramfs.cpio.gz"}) {}

    // Waits until the guest accepts commands. Returns false on time-out or if QEMU ended.
    bool wait_ready(std::chrono::milliseconds limit = std::chrono::seconds(60));

    // Resets the machine from the guest's kernel and waits until the guest accepts commands again.
    // Returns false on time-out. Precondition: kBootsAgain; no command is running.
    bool reset(std::chrono::milliseconds limit = std::chrono::seconds(60));

    // Runs a shell command to completion.
    Result run(const std::string& command,
               std::chrono::milliseconds limit = std::chrono::seconds(60));

    // run() in steps, with access to the output in between.
    void start(const std::string& command);
    bool wait_for_output(const std::string& text,
                         std::chrono::milliseconds limit = std::chrono::seconds(60));
    Result finish(std::chrono::milliseconds limit = std::chrono::seconds(60));

    // Returns the output of the guest's kernel and of QEMU, for failure messages.
    std::string log();

  private:
    using Clock = std::chrono::steady_clock;

    // Reads until `text` occurs at or after `from`; returns its position, or nullopt on time-out.
    std::optional<std::size_t> read_until(const std::string& text, std::size_t from,
                                          Clock::time_point deadline);

    TempDir dir_;
    Fd listener_;
    std::unique_ptr<Process> qemu_;
    Fd serial_;
    std::string received_;
    std::string token_;
    std::size_t output_begin_ = 0;
};

}  // namespace vgpu::test
