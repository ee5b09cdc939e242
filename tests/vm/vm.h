// SPDX-License-Identifier: MIT
//
// Vm: a real guest in a real QEMU, for the tests. It boots the test guest (guest/build) and runs
// commands in it over the second serial port; guest/init describes the little protocol. Commands
// run one after the other. Not to be shared between threads.
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
        int status;  // the command's exit status; -1 if it did not end within the limit
        std::string output;
    };

    // Why VM tests cannot run here (no QEMU, no guest built), or empty.
    static std::string missing(const std::string& initramfs = "initramfs.cpio.gz");

    // What becomes of a machine that is reset: a guest that panics is to be noticed, so usually the
    // end of it.
    enum class OnReset : std::uint8_t { kEnds, kBootsAgain };

    struct Options {
        OnReset on_reset = OnReset::kEnds;
        unsigned memory_mib = 192;
        // A file in the guest's folder; kTestPrograms has the programs of tests/vm/guest besides.
        std::string initramfs = "initramfs.cpio.gz";
    };
    static constexpr const char* kTestPrograms = "test.cpio.gz";

    // Starts a guest with these -device arguments, and does not wait for it: several can boot at
    // once. Precondition: missing() is empty. Throws if QEMU cannot be started.
    Vm(const std::vector<std::string>& devices, const Options& options);
    explicit Vm(const std::vector<std::string>& devices, OnReset on_reset = OnReset::kEnds)
        : Vm(devices, Options{.on_reset = on_reset, .initramfs = "initramfs.cpio.gz"}) {}

    // Waits until the guest takes commands. False at the limit or if QEMU ended.
    bool wait_ready(std::chrono::milliseconds limit = std::chrono::seconds(60));

    // Has the guest's kernel reset the machine, whatever else runs in it, and waits until the guest
    // takes commands again. False at the limit. Precondition: kBootsAgain; no command is running.
    bool reset(std::chrono::milliseconds limit = std::chrono::seconds(60));

    // Runs a shell command and waits for its end.
    Result run(const std::string& command,
               std::chrono::milliseconds limit = std::chrono::seconds(60));

    // The same in two steps, with a look at the output in between.
    void start(const std::string& command);
    bool wait_for_output(const std::string& text,
                         std::chrono::milliseconds limit = std::chrono::seconds(60));
    Result finish(std::chrono::milliseconds limit = std::chrono::seconds(60));

    // For the message of a failed test: what the guest's kernel and QEMU said.
    std::string log();

  private:
    using Clock = std::chrono::steady_clock;

    // Reads until `text` has come, at or after `from`; its position, or nothing.
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
