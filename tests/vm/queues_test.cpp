// SPDX-License-Identifier: MIT
//
// Guests with shared memory: work by queues, the fallback when one side has no shared memory, and
// the end of a mediator, a process or the whole guest during work.
#include <fstream>
#include <nlohmann/json.hpp>

#include "vm/fixture.h"

namespace vgpu::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class VmQueues : public VmTest {
  protected:
    // A benchmark that would run for minutes; its first line of output shows that it has started.
    static constexpr const char* kEndless =
        "vgpu bench --path queue --op add -n 100000000 --wait poll";
};

TEST_F(VmQueues, WorkInSharedMemory) {
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    const auto vm = boot({stub("vm_id=1")});
    ASSERT_NE(vm, nullptr);
    EXPECT_THAT(expect_status(*vm, 0, "vgpu info"), HasSubstr("64 MiB, served by the mediator"));
    EXPECT_THAT(expect_status(*vm, 0, "vgpu selftest --only queues"),
                AllOf(HasSubstr("0 failed"), HasSubstr("0 skipped")));
    for (const char* op : {"vector-add", "copy-to", "copy-from"}) {
        const json report = json::parse(expect_status(
            *vm, 0, std::string("vgpu bench --json --path queue -n 3 --size 8M --op ") + op));
        EXPECT_EQ(report["ok"], true) << op;
    }
}

TEST_F(VmQueues, ADeviceWithoutSharedMemoryIsAsVersion1) {
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    const auto vm = boot({stub("vm_id=1,shm-size=0")});
    ASSERT_NE(vm, nullptr);
    EXPECT_THAT(expect_status(*vm, 0, "vgpu info"),
                AllOf(HasSubstr("capabilities    basic-request, interrupt\n"),
                      HasSubstr("shared memory   none")));
    EXPECT_THAT(expect_status(*vm, 0, "vgpu add 100 200"), HasSubstr("100 + 200 = 300"));
    EXPECT_THAT(expect_status(*vm, 1, "vgpu bench --path queue --op nop -n 10"),
                HasSubstr("shared memory"));
    EXPECT_THAT(expect_status(*vm, 0, "vgpu bench --op nop -n 10 --wait poll"),
                AllOf(HasSubstr("registers"), HasSubstr("queue       skipped")));
}

TEST_F(VmQueues, AMediatorThatServesNoneIsAsVersion1) {
    const std::string config = socket_path() + ".toml";
    std::ofstream(config) << "[queues]\nenabled = false\n";
    ASSERT_NO_FATAL_FAILURE(start_mediator({"--config", config}));
    const auto vm = boot({stub("vm_id=1")});
    ASSERT_NE(vm, nullptr);
    EXPECT_THAT(expect_status(*vm, 0, "vgpu info"),
                AllOf(HasSubstr("multi-request"), Not(HasSubstr("served by the mediator"))));
    EXPECT_THAT(expect_status(*vm, 0, "vgpu add 100 200"), HasSubstr("100 + 200 = 300"));
    expect_status(*vm, 1, "vgpu bench --path queue --op nop -n 10");
    expect_status(*vm, 0, "vgpu bench --op nop -n 10 --wait poll");
}

TEST_F(VmQueues, AMediatorMayDieAndComeBackWhileAQueueWorks) {
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    const auto vm = boot({stub("vm_id=1")});
    ASSERT_NE(vm, nullptr);
    vm->start(kEndless);
    ASSERT_TRUE(vm->wait_for_output("waits by")) << vm->log();
    ASSERT_NO_FATAL_FAILURE(kill_mediator());
    const auto died = vm->finish();
    EXPECT_EQ(died.status, 1);
    EXPECT_THAT(died.output, HasSubstr("mediator")) << "the program says who is gone";
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    EXPECT_TRUE(succeeds_in_time(*vm, "vgpu bench --path queue --op add -n 100 --wait poll"))
        << vm->log();
}

TEST_F(VmQueues, TheMachineMayBeResetWhileAQueueWorks) {
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    Vm vm({stub("vm_id=1")}, Vm::OnReset::kBootsAgain);
    ASSERT_TRUE(vm.wait_ready()) << vm.log();
    // In the background, so that it is running when the machine is reset.
    expect_status(vm, 0,
                  std::string(kEndless) +
                      " > /tmp/0 2>&1 & until grep -q 'waits by' /tmp/0; do usleep 10000; done");
    ASSERT_TRUE(vm.reset()) << vm.log();
    expect_status(vm, 1, "test -e /tmp/0");  // so it has been reset
    EXPECT_THAT(expect_status(vm, 0, "vgpu info"), HasSubstr("8, 8 free"))
        << "no process holds a queue any more";
    EXPECT_THAT(expect_status(vm, 0, "vgpu selftest --only queues"),
                AllOf(HasSubstr("0 failed"), HasSubstr("0 skipped")));
    expect_status(vm, 0, "vgpu bench --path queue --op add -n 100 --wait poll");
}

TEST_F(VmQueues, SeveralProcessesAtOnceAndOneIsKilled) {
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    const auto vm = boot({stub("vm_id=1")});
    ASSERT_NE(vm, nullptr);
    // Two benchmarks run to completion beside one that is killed while running.
    const auto result = vm->run(
        std::string(kEndless) +
            " > /tmp/0 2>&1 & victim=$!; "
            "vgpu bench --path queue --op add -n 300 --wait poll > /tmp/1 2>&1 & one=$!; "
            "vgpu bench --path queue --op add -n 300 --wait interrupt > /tmp/2 2>&1 & two=$!; "
            "until grep -q 'waits by' /tmp/0; do usleep 10000; done; kill -9 $victim; "
            "wait $one; a=$?; wait $two; b=$?; cat /tmp/1 /tmp/2; [ $a = 0 ] && [ $b = 0 ]",
        std::chrono::seconds(60));
    EXPECT_EQ(result.status, 0) << result.output;
    EXPECT_THAT(expect_status(*vm, 0, "vgpu info"), HasSubstr("8, 8 free"))
        << "the dead process's queue is free again";
    expect_status(*vm, 0, "vgpu selftest --only queues");
}

TEST_F(VmQueues, TwoVmsGetTheirOwnAnswers) {
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    std::vector<std::unique_ptr<Vm>> vms;
    for (const char* const properties : {"vm_id=1,priority=high", "vm_id=2,priority=low"}) {
        vms.push_back(std::make_unique<Vm>(std::vector{stub(properties)}));
    }
    for (const auto& vm : vms) {
        ASSERT_TRUE(vm->wait_ready()) << vm->log();
    }
    // The program checks every sum against operands of its own VM.
    for (const auto& vm : vms) {
        vm->start("vgpu bench --json --path queue --op add -n 500 --wait poll");
    }
    for (const auto& vm : vms) {
        const auto result = vm->finish(std::chrono::seconds(90));
        EXPECT_EQ(result.status, 0) << result.output;
    }
}

}  // namespace
}  // namespace vgpu::test
