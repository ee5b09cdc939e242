// SPDX-License-Identifier: MIT
//
// Fixture of the VM tests: a mediator that can be started, stopped and killed, guests connected to
// it, and one-line checks of a command's exit status and output.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "support/process.h"
#include "support/temp_dir.h"
#include "vm/vm.h"

namespace vgpu::test {

class VmTest : public testing::Test {
  protected:
    void SetUp() override {
        const std::string why = Vm::missing();
        if (!why.empty()) {
            GTEST_SKIP() << why;
        }
    }

    [[nodiscard]] std::string socket_path() const { return dir_.file("m.sock"); }

    // Starts the mediator and waits until it listens.
    void start_mediator(const std::vector<std::string>& more = {}) {
        std::vector<std::string> argv{VGPU_MEDIATOR, "--backend", "cpu", "--socket", socket_path()};
        argv.insert(argv.end(), more.begin(), more.end());
        mediator_ = std::make_unique<Process>(argv);
        ASSERT_TRUE(mediator_->wait_for_output("ready")) << mediator_->output();
    }

    void kill_mediator() {
        mediator_->signal(SIGKILL);
        ASSERT_EQ(mediator_->wait(), 128 + SIGKILL);
    }

    // Returns the -device argument of a vgpu-stub connected to the mediator's socket.
    [[nodiscard]] std::string stub(const std::string& properties) const {
        return "vgpu-stub,socket=" + socket_path() + (properties.empty() ? "" : ",") + properties;
    }

    // Boots a guest and waits for it. Fails the test and returns null if it does not come up.
    static std::unique_ptr<Vm> boot(const std::vector<std::string>& devices) {
        auto vm = std::make_unique<Vm>(devices);
        if (!vm->wait_ready()) {
            ADD_FAILURE() << "the guest does not come up; " << vm->log();
            return nullptr;
        }
        return vm;
    }

    // Runs a command that must exit with `status`; returns its output.
    static std::string expect_status(Vm& vm, int status, const std::string& command) {
        const auto result = vm.run(command);
        EXPECT_EQ(result.status, status) << command << "\n" << result.output;
        return result.output;
    }

    // Retries a command until it succeeds; returns false after 30 s.
    static bool succeeds_in_time(Vm& vm, const std::string& command) {
        const auto result =
            vm.run("until " + command + " > /tmp/last 2>&1; do usleep 50000; done; cat /tmp/last",
                   std::chrono::seconds(30));
        return result.status == 0;
    }

    // Returns shell text that polls STATUS of the first device until it is BUSY. Reading STATUS has
    // no side effects; the program that owns the request holds the device.
    static std::string until_busy() {
        return "bar=$(head -n 1 /sys/bus/pci/devices/$(sed -n 1p /tmp/address)/resource | "
               "cut -d ' ' -f 1); "
               "until [ \"$(devmem $((bar + 4)) 32)\" = 0x00000001 ]; do usleep 1000; done; ";
    }
    // Returns shell text that stores the first device's address for until_busy(). Run it once.
    static std::string store_address() { return "vgpu list | cut -d ' ' -f 1 > /tmp/address"; }

    Process& mediator() { return *mediator_; }

  private:
    TempDir dir_;
    std::unique_ptr<Process> mediator_;
};

}  // namespace vgpu::test
