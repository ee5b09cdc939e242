// SPDX-License-Identifier: MIT
//
// Behaviour common to all programs: lost output is a failure, numbers have one meaning, unknown
// words are reported by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/process.h"
#include "support/temp_dir.h"

namespace vgpu::test {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using Words = std::vector<std::string>;
using std::chrono::seconds;

// Runs the program with standard output redirected; only standard error is captured.
std::pair<int, std::string> run_to(const std::string& redirection, Words words) {
    words.insert(words.begin(), {"sh", "-c", "exec \"$0\" \"$@\" " + redirection});
    return run_program(words, seconds(40));
}

std::vector<std::string> all_programs() {
    return {
        VGPU,
        VGPUCTL,
        VGPU_MEDIATOR,
        VGPU_ATTACK,
        VGPU_BENCH_FASTPATH,
        VGPU_BENCH_GUEST,
        VGPU_BENCH_LOAD,
        VGPU_BENCH_PEER,
        VGPU_BENCH_ROUNDTRIP,
#ifdef VGPU_STATIC
        VGPU_STATIC,
#endif
#ifdef VGPU_SOAK
        VGPU_SOAK,
#endif
    };
}

// Provides a running mediator.
class WithMediator : public testing::Test {
  protected:
    void SetUp() override {
        mediator = std::make_unique<Process>(Words{VGPU_MEDIATOR, "--backend", "cpu", "--socket",
                                                   dir.file("m"), "--admin-socket", dir.file("a")});
        ASSERT_TRUE(mediator->wait_for_output("ready"));
    }

    TempDir dir;
    std::unique_ptr<Process> mediator;
    const std::string device = "unix:" + dir.file("m");
};

using LostOutput = WithMediator;
using Complaints = WithMediator;
using Memory = WithMediator;

TEST(NoOutput, HelpIsAFailureForEveryProgram) {
    for (const std::string& program : all_programs()) {
        const auto [status, error] = run_to(">/dev/full", {program, "--help"});
        EXPECT_EQ(status, 1) << program;
        EXPECT_THAT(error,
                    HasSubstr(": cannot write to standard output: No space left on device\n"))
            << program;
        EXPECT_EQ(run_to(">/dev/null", {program, "--help"}), std::pair(0, std::string()))
            << program;
    }
}

TEST_F(LostOutput, IsAFailureForEveryCommand) {
    const std::string admin = dir.file("a");
    for (const Words& words : std::vector<Words>{
             {VGPU, "--version"},
             {VGPU, "--device", device, "info"},
             {VGPU, "--device", device, "info", "--json"},
             {VGPU, "--device", device, "add", "1", "2"},
             {VGPU, "--device", device, "add", "1", "2", "--json"},
             {VGPU, "--device", device, "selftest"},
             {VGPU, "--device", device, "selftest", "--json"},
             {VGPU, "--device", device, "bench", "-n", "1"},
             {VGPU, "--device", device, "bench", "-n", "1", "--json"},
             {VGPU, "--device", device, "stress", "--seconds", "0.1"},
             {VGPU, "--device", device, "stress", "--seconds", "0.1", "--json"},
             {VGPUCTL, "--version"},
             {VGPUCTL, "--socket", admin, "status"},
             {VGPUCTL, "--socket", admin, "status", "--json"},
             {VGPUCTL, "--socket", admin, "gpus"},
             {VGPUCTL, "--socket", admin, "pools"},
             {VGPUCTL, "--socket", admin, "pool", "show", "A"},
             {VGPUCTL, "--socket", admin, "vms", "--json"},
             {VGPUCTL, "--socket", admin, "metrics"},
             {VGPUCTL, "--socket", admin, "metrics", "--json"},
             {VGPUCTL, "--socket", admin, "top", "--interval", "0.1"},
             {VGPUCTL, "--socket", admin, "top", "--interval", "0.1", "--json"},
             {VGPUCTL, "--socket", admin, "reload"},
             {VGPUCTL, "completion", "bash"},
             {VGPUCTL, "completion", "zsh", "--json"},
             {VGPU_MEDIATOR, "--version"},
             {VGPU_MEDIATOR, "--check-config"},
             {VGPU_ATTACK, "--list"},
             {VGPU_EXAMPLE_QUEUE_C, device},
             {VGPU_EXAMPLE_QUEUE_CPP, device},
             {VGPUCTL, "--socket", admin, "drain"},
         }) {
        const auto [status, error] = run_to(">/dev/full", words);
        EXPECT_EQ(status, 1) << testing::PrintToString(words) << error;
        EXPECT_THAT(error, HasSubstr("No space left on device")) << testing::PrintToString(words);
    }
}

// The event stream does not end by itself; the first event that cannot be printed ends it.
TEST_F(LostOutput, EndsTheStreamOfEvents) {
    Process events({"sh", "-c", "exec \"$0\" \"$@\" >/dev/full", VGPUCTL, "--socket", dir.file("a"),
                    "events"});
    // vgpuctl may not have subscribed yet: send requests until it has ended.
    for (int i = 0; i < 1000 && !events.wait(std::chrono::milliseconds(1)); ++i) {
        EXPECT_EQ(run_program({VGPU, "--device", device, "add", "1", "2"}).first, 0);
    }
    EXPECT_EQ(events.wait(), 1);
    EXPECT_THAT(events.output(), HasSubstr("No space left on device"));
}

TEST(NoOutput, AClosedDescriptorIsNotGivenToADevice) {
    const auto [status, error] = run_to(">&-", {VGPU, "--version"});
    EXPECT_EQ(status, 1);
    EXPECT_THAT(error, HasSubstr("cannot write to standard output: Bad file descriptor"));
}

TEST(NoOutput, AReaderThatIsGoneIsNoNoise) {
    const auto run_without_reader = [](bool ignore_signal) {
        const std::string script =
            "import os, signal, subprocess, sys\n"
            "r, w = os.pipe(); os.close(r)\n"
            "signal.signal(signal.SIGPIPE, signal.SIG_IGN)\n"
            "print(subprocess.run(sys.argv[2:], stdout=w, restore_signals=sys.argv[1] == 'no')"
            ".returncode)";
        return run_program({"python3", "-c", script, ignore_signal ? "yes" : "no", VGPUCTL,
                            "completion", "bash"})
            .second;
    };
    // Terminated by SIGPIPE, as every filter is; where SIGPIPE is ignored, by the failed write.
    EXPECT_EQ(run_without_reader(false), "-13\n");
    EXPECT_EQ(run_without_reader(true), "1\n");
}

TEST(Reports, AFileThatCannotBeWrittenIsAFailureWithTheCause) {
    const auto [status, output] =
        run_program({VGPU_BENCH_FASTPATH, "--quick", "--rounds", "1", "--iterations", "1",
                     "--backend", "cpu", "--only", "latency", "--json", "/dev/full"},
                    seconds(40));
    EXPECT_EQ(status, 1);
    EXPECT_THAT(output, HasSubstr("cannot write /dev/full: No space left on device"));
}

TEST(Numbers, AreDecimalOrHexadecimalInEveryProgram) {
    struct Option {
        Words words;  // the number is appended
        std::string name;
    };
    const std::vector<Option> options{
        {{VGPU, "bench", "--count"}, "--count"},
        {{VGPU, "bench", "--in-flight"}, "--in-flight"},
        {{VGPU, "bench", "--size"}, "--size"},
        {{VGPU, "bench", "--spin"}, "--spin"},
        {{VGPU, "stress", "--count"}, "--count"},
        {{VGPU, "stress", "--rate"}, "--rate"},
        {{VGPU, "stress", "--matrix"}, "--matrix"},
        {{VGPU, "stress", "--seconds"}, "--seconds"},
        {{VGPU, "info", "--timeout"}, "--timeout"},
        {{VGPU, "info", "--vm-id"}, "--vm-id"},
        {{VGPU, "info", "--shm-size"}, "--shm-size"},
        {{VGPU, "add", "1"}, ""},
        {{VGPUCTL, "status", "--timeout"}, "--timeout"},
        {{VGPUCTL, "vm", "quarantine"}, "ID"},
        {{VGPUCTL, "vm", "release"}, "ID"},
        {{VGPUCTL, "vm", "show"}, "ID"},
        {{VGPUCTL, "vm"}, ""},
        {{VGPUCTL, "vm", "set", "7", "--weight"}, "--weight"},
        {{VGPUCTL, "vm", "set", "7", "--queue-depth"}, "--queue-depth"},
        {{VGPUCTL, "vm", "set", "7", "--requests-per-second"}, "--requests-per-second"},
        {{VGPUCTL, "vm", "set", "7", "--burst"}, "--burst"},
        {{VGPUCTL, "vm", "set", "7", "--memory-bytes"}, "--memory-bytes"},
        {{VGPUCTL, "pool", "set", "A", "--aging-ms"}, "--aging-ms"},
        {{VGPUCTL, "events", "--vm"}, "--vm"},
        {{VGPUCTL, "top", "--interval"}, "--interval"},
        {{VGPU_MEDIATOR, "--check-config", "--device"}, "--device"},
        {{VGPU_ATTACK, "--list", "--seconds"}, "--seconds"},
        {{VGPU_BENCH_FASTPATH, "--rounds"}, "--rounds"},
        {{VGPU_BENCH_LOAD, "--connections"}, "--connections"},
        {{VGPU_BENCH_ROUNDTRIP, "--iterations"}, "--iterations"},
        {{VGPU_BENCH_PEER, "tcp", "--port"}, "--port"},
        {{VGPU_BENCH_GUEST, "tcp", "127.0.0.1"}, "port"},
        {{VGPU_BENCH_GUEST, "file", "/nowhere", "--vm"}, "--vm"},
#ifdef VGPU_SOAK
        {{VGPU_SOAK, "--round"}, "--round"},
        {{VGPU_SOAK, "--seed"}, "--seed"},
        {{VGPU_SOAK, "--minutes"}, "--minutes"},
#endif
    };
    for (const Option& option : options) {
        // Includes values that CLI11 itself accepts as 8, 3, 10, 5 and the largest number.
        for (const char* number : {"010", "0b11", "0o12", "00", "5x", "5 ", " 5", "", "0x", "1e1",
                                   "18446744073709551616", "+-5", "5,5"}) {
            Words words = option.words;
            words.emplace_back(number);
            const auto [status, output] = run_program(words);
            EXPECT_EQ(status, 2) << testing::PrintToString(words) << output;
            EXPECT_THAT(output,
                        AllOf(HasSubstr(option.name), HasSubstr("'" + std::string(number) + "'")))
                << testing::PrintToString(words);
        }
    }
}

TEST(Numbers, HexadecimalOnesHaveTheirValue) {
    EXPECT_THAT(run_program({VGPU, "bench", "--count", "0x5f5e101"}).second,
                HasSubstr("'0x5f5e101' is out of range: give 1 to 100000000"));
    EXPECT_THAT(run_program({VGPUCTL, "--socket", "/nowhere", "vm", "0x7"}),
                testing::Pair(1, HasSubstr("/nowhere")));
    EXPECT_EQ(run_program({VGPU_MEDIATOR, "--check-config", "--device", "0x10"}).first, 0);
    EXPECT_EQ(run_program({VGPU_MEDIATOR, "--check-config", "--device", "0x400"}).first, 2);
}

TEST(UnknownWords, AreNamedWithTheNearestOne) {
    const std::vector<std::pair<Words, std::string>> table{
        {{VGPU, "inf"}, "vgpu: unknown command 'inf': did you mean info?"},
        {{VGPU, "--json", "bnech", "-n", "5"},
         "vgpu: unknown command 'bnech': did you mean bench?"},
        {{VGPU, "xyzzy"}, "vgpu: unknown command 'xyzzy': give list, info, add,"},
        {{VGPU, "info", "--jsn"}, "vgpu info: unknown option '--jsn': did you mean --json?"},
        {{VGPU, "bench", "--cuont=5"}, "vgpu bench: unknown option '--cuont': did you mean --coun"},
        {{VGPU, "bench", "--zzzzzz"}, "vgpu bench: unknown option '--zzzzzz'\n"},
        {{VGPU, "info", "now"}, "vgpu info: 'now' is an unexpected argument"},
        {{VGPU, "add", "1", "2", "3"}, "vgpu add: '3' is an unexpected argument"},
        {{VGPU}, "vgpu: give a command: list, info, add, selftest, bench or stress"},
        {{VGPUCTL, "statsu"}, "vgpuctl: unknown command 'statsu': did you mean status?"},
        {{VGPUCTL, "vm", "shw", "7"}, "vgpuctl vm: unknown command 'shw': did you mean show?"},
        {{VGPUCTL, "vm", "set", "7", "--wieght", "2"},
         "vgpuctl vm set: unknown option '--wieght': did you mean --weight?"},
        {{VGPUCTL, "pool"}, "vgpuctl pool: give a command: show or set"},
        {{VGPU_MEDIATOR, "--socet", "/x"},
         "vgpu-mediator: unknown option '--socet': did you mean --socket?"},
        {{VGPU_MEDIATOR, "surplus"}, "vgpu-mediator: 'surplus' is an unexpected argument"},
        {{VGPU_BENCH_PEER, "fil"}, "vgpu-bench-peer: unknown command 'fil': did you mean file?"},
        {{VGPU_BENCH_GUEST, "tpc"}, "vgpu-bench-guest: unknown command 'tpc': did you mean tcp?"},
        {{VGPU_BENCH_LOAD, "--round"},
         "vgpu-bench-load: unknown option '--round': did you mean --rounds?"},
        {{VGPU_BENCH_FASTPATH, "--quik"},
         "vgpu-bench-fastpath: unknown option '--quik': did you mean --quick?"},
        {{VGPU_ATTACK, "--lits"}, "vgpu-attack: unknown option '--lits': did you mean --list?"},
    };
    for (const auto& [words, expected] : table) {
        const auto [status, output] = run_program(words);
        EXPECT_EQ(status, 2) << output;
        EXPECT_THAT(output,
                    AllOf(HasSubstr(expected), HasSubstr("Try '"), EndsWith(" --help'.\n")));
    }
}

TEST_F(Complaints, AVmIdThatIsInUseIsNamed) {
    Process other({VGPU, "--device", device, "stress", "--seconds", "60"});
    ASSERT_TRUE(mediator->wait_for_output("vm=0"));
    for (const Words& words :
         std::vector<Words>{{"info"}, {"add", "1", "2"}, {"bench", "--path", "queue", "-n", "1"}}) {
        Words all{VGPU, "--device", device};
        all.insert(all.end(), words.begin(), words.end());
        const auto [status, output] = run_program(all);
        EXPECT_EQ(status, 1);
        EXPECT_THAT(output, AllOf(HasSubstr("another connection"), HasSubstr("VM id"),
                                  HasSubstr("--vm-id"), Not(HasSubstr("start vgpu-mediator"))));
    }
    const auto [status, output] =
        run_program({VGPU, "--device", device, "stress", "--seconds", "0.1"});
    EXPECT_EQ(status, 1);
    EXPECT_THAT(output, HasSubstr("another connection to the mediator has VM id 0"));
    EXPECT_EQ(run_program({VGPU, "--device", device, "--vm-id", "1", "add", "1", "2"}).first, 0);
    other.signal(SIGTERM);
}

TEST_F(Complaints, TheTwoSocketsAreToldApart) {
    EXPECT_THAT(run_program({VGPU, "--device", "unix:" + dir.file("a"), "add", "1", "2"}),
                testing::Pair(1, HasSubstr("does not speak the device protocol")));
    EXPECT_THAT(run_program({VGPUCTL, "--socket", dir.file("m"), "status"}),
                testing::Pair(1, HasSubstr("this is not a mediator's admin socket")));
}

// Eight bytes per round trip would exceed the address-space limit.
TEST_F(Memory, BenchTakesTheSameForAnyCount) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "a sanitizer needs more address space";
#endif
    Process bench({"prlimit", "--as=300000000", VGPU, "--device", device, "--shm-size", "1M",
                   "bench", "-n", "100000000", "--op", "nop", "--wait", "poll"});
    ASSERT_TRUE(mediator->wait_for_output("vm=0")) << bench.output();
    // It works until the mediator is killed, which the next request or connection detects.
    mediator->signal(SIGKILL);
    EXPECT_EQ(bench.wait(), 1);
    EXPECT_TRUE(bench.wait_for_output("mediator-unavailable")) << bench.output();
}

TEST_F(Memory, WhatIsNotThereIsASentence) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "a sanitizer needs more address space";
#endif
    const auto [status, output] = run_program({"prlimit", "--as=300000000", VGPU, "--device",
                                               device, "--shm-size", "1G", "bench", "-n", "1"});
    EXPECT_EQ(status, 1);
    EXPECT_THAT(output, HasSubstr("Cannot allocate memory"));
}

}  // namespace
}  // namespace vgpu::test
