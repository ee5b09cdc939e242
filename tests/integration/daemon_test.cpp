// SPDX-License-Identifier: MIT
//
// The real daemon as its own process: options, configuration, sockets, signals, log.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "support/memory_peer.h"
#include "support/process.h"
#include "support/temp_dir.h"
#include "support/wire_peer.h"

namespace vgpu::test {
namespace {

using Args = std::vector<std::string>;

// Uses the program built with this test, or the one named by VGPU_MEDIATOR.
Args command(Args more) {
    const char* const chosen = std::getenv("VGPU_MEDIATOR");
    more.insert(more.begin(), chosen != nullptr ? chosen : VGPU_MEDIATOR_PATH);
    return more;
}

std::size_t occurrences(const std::string& text, const std::string& of) {
    std::size_t count = 0;
    for (std::size_t at = text.find(of); at != std::string::npos; at = text.find(of, at + 1)) {
        ++count;
    }
    return count;
}

std::uint32_t ask_sum(WirePeer& peer, std::uint32_t a, std::uint32_t b) {
    peer.send_request(1, make_add(a, b));
    const auto answer = peer.receive();
    return answer ? answer->word(0).value_or(0) : 0;
}

// Returns the first four numbers of the table row with this name.
std::vector<std::uint64_t> row_of(const std::string& text, const std::string& name) {
    std::vector<std::uint64_t> numbers;
    const auto at = text.find("\n  " + name + " ");
    if (at != std::string::npos) {
        std::istringstream rest(text.substr(at + 3 + name.size()));
        std::uint64_t number = 0;
        while (numbers.size() < 4 && rest >> number) {
            numbers.push_back(number);
        }
    }
    return numbers;
}

struct Daemon : testing::Test {
    TempDir dir;
    std::string socket = dir.file("s");
    std::unique_ptr<Process> process;

    void start(Args more = {}) {
        more.insert(more.begin(), {"--backend", "cpu", "--socket", socket});
        process = std::make_unique<Process>(command(more));
        ASSERT_TRUE(process->wait_for_output("ready")) << process->output();
    }
    std::string write_config(const std::string& text) {
        std::ofstream(dir.file("config.toml")) << text;
        return dir.file("config.toml");
    }
    // Runs the program to completion.
    static std::pair<int, std::string> run(Args more) {
        return run_program(command(std::move(more)));
    }
};

TEST_F(Daemon, AnswersAndStopsOnSigterm) {
    start();
    struct stat info {};
    ASSERT_EQ(::stat(socket.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0660U);
    EXPECT_NE(process->output().find("backend cpu"), std::string::npos);
    WirePeer peer = WirePeer::connect(socket);
    EXPECT_EQ(ask_sum(peer, 100, 200), 300U);
    process->signal(SIGTERM);
    EXPECT_EQ(process->wait(), 0);
    EXPECT_TRUE(peer.wait_closed());
    EXPECT_FALSE(std::filesystem::exists(socket));
    ASSERT_TRUE(process->wait_for_output("stopped"));
    EXPECT_NE(process->output().find("pool A"), std::string::npos);
}

TEST_F(Daemon, ServesPoolsOnSeveralGpus) {
    start({"--config", write_config(R"(
        [[gpu]]
        index = 0
        [[gpu]]
        index = 3
        slots = 2
        [[pool]]
        id = "A"
        [[pool]]
        id = "B"
        gpus = [0, 3])")});
    EXPECT_NE(process->output().find("CPU 0 ("), std::string::npos) << process->output();
    EXPECT_NE(process->output().find("CPU 3 ("), std::string::npos) << process->output();
    std::set<std::string> devices;
    std::vector<WirePeer> peers;
    for (std::uint32_t vm = 1; vm <= 2; ++vm) {
        WirePeer& peer = peers.emplace_back(WirePeer::connect(socket));
        peer.vm_id = vm;
        peer.pool = 'B';
        peer.send_request(1, make_request(VGPU_OP_GET_DEVICE_INFO));
        const auto answer = peer.receive();
        ASSERT_TRUE(answer);
        devices.insert(answer->response_text().substr(0, 5));
    }
    EXPECT_EQ(devices, (std::set<std::string>{"CPU 0", "CPU 3"}));
}

// An unread stderr pipe blocks neither requests nor the shutdown.
TEST_F(Daemon, WaitsForNoReaderOfItsLog) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const Fd unread(ends[0]);
    Fd other_end(ends[1]);  // until the program has its own copy
    const std::string path =
        "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(ends[1]);
    process = std::make_unique<Process>(Args{
        "sh", "-c", "exec \"$0\" \"$@\" 2>" + path, command({})[0], "--backend", "cpu", "--socket",
        socket, "--config", write_config("[log]\nlines_per_second = 100000\nburst = 100000\n")});
    std::string said;
    while (said.find("ready") == std::string::npos) {
        std::array<char, 256> piece{};
        const ssize_t count = ::read(unread.get(), piece.data(), piece.size());
        ASSERT_GT(count, 0) << said;
        said.append(piece.data(), static_cast<std::size_t>(count));
    }
    other_end.reset();
    WirePeer peer = WirePeer::connect(socket);
    for (std::uint32_t i = 0; i < 2000; ++i) {
        peer.send_request(i, make_request(0x0999));
        ASSERT_TRUE(peer.receive()) << i;
    }
    EXPECT_EQ(ask_sum(peer, 100, 200), 300U);
    process->signal(SIGTERM);
    EXPECT_EQ(process->wait(), 0);
}

TEST_F(Daemon, StopsOnSigintToo) {
    start();
    process->signal(SIGINT);
    EXPECT_EQ(process->wait(), 0);
}

TEST_F(Daemon, AnswersEverythingSentBeforeSigterm) {
    start();
    WirePeer peer = WirePeer::connect(socket);
    ASSERT_EQ(ask_sum(peer, 1, 1), 2U);
    constexpr std::uint32_t kMany = 200;
    for (std::uint32_t i = 0; i < kMany; ++i) {
        peer.send_request(i, make_add(i, 1));
    }
    process->signal(SIGTERM);
    // Each gets its result or, if the signal came first, error 3.
    std::set<std::uint32_t> answered;
    for (std::uint32_t i = 0; i < kMany; ++i) {
        const auto answer = peer.receive();
        ASSERT_TRUE(answer) << i;
        const std::uint32_t id = answer->header.request_id;
        ASSERT_TRUE(answered.insert(id).second) << id;
        if (answer->response().status == VGPU_ERR_NONE) {
            ASSERT_EQ(answer->word(0), id + 1);
        } else {
            ASSERT_EQ(answer->response().status, VGPU_ERR_MEDIATOR_UNAVAILABLE);
        }
    }
    EXPECT_EQ(process->wait(), 0);
}

TEST_F(Daemon, ListensOnSeveralPaths) {
    start({"--socket", dir.file("t")});
    WirePeer first = WirePeer::connect(socket);
    WirePeer second = WirePeer::connect(dir.file("t"));
    second.vm_id = 2;
    EXPECT_EQ(ask_sum(first, 1, 2), 3U);
    EXPECT_EQ(ask_sum(second, 3, 4), 7U);
    process->signal(SIGTERM);
    EXPECT_EQ(process->wait(), 0);
    EXPECT_FALSE(std::filesystem::exists(socket));
    EXPECT_FALSE(std::filesystem::exists(dir.file("t")));
}

TEST_F(Daemon, PrintsItsCountersOnSigusr1) {
    start();
    WirePeer peer = WirePeer::connect(socket);
    peer.vm_id = 31;
    peer.priority = VGPU_PRIORITY_HIGH;
    for (std::uint32_t i = 0; i < 3; ++i) {
        ASSERT_EQ(ask_sum(peer, i, 1), i + 1);
    }
    peer.pool = 'Q';
    peer.send_request(9, make_add(1, 1));
    ASSERT_TRUE(peer.receive());
    process->signal(SIGUSR1);
    ASSERT_TRUE(process->wait_for_output("\n  total "));
    const std::string text = process->output();
    using Row = std::vector<std::uint64_t>;  // accepted, done, failed, refused
    EXPECT_EQ(row_of(text, "pool A"), (Row{3, 3, 0, 0})) << text;
    EXPECT_EQ(row_of(text, "pool Q"), (Row{0, 0, 0, 1})) << text;
    EXPECT_EQ(row_of(text, "vm 31"), (Row{3, 3, 0, 1})) << text;
    EXPECT_EQ(row_of(text, "prio high"), (Row{3, 3, 0, 1})) << text;
    EXPECT_EQ(row_of(text, "prio low"), (Row{0, 0, 0, 0})) << text;
    peer.pool = 'A';
    EXPECT_EQ(ask_sum(peer, 5, 6), 11U);  // still serving
}

TEST_F(Daemon, SaysOnceWhyItClosedAConnection) {
    start();
    WirePeer peer = WirePeer::connect(socket);
    peer.vm_id = 12;
    ASSERT_EQ(ask_sum(peer, 1, 1), 2U);
    peer.vm_id = 13;
    peer.send_request(2, make_add(1, 1));
    ASSERT_TRUE(peer.wait_closed());
    ASSERT_TRUE(process->wait_for_output("vm=12 closed: the VM id changed"));
    EXPECT_EQ(occurrences(process->output(), "closed:"), 1U);
}

TEST_F(Daemon, AGuestCannotFloodTheLog) {
    const std::string config = write_config("[log]\nlines_per_second = 1\nburst = 5\n");
    start({"--config", config});
    WirePeer peer = WirePeer::connect(socket);
    peer.pool = 'Z';
    for (std::uint32_t i = 0; i < 500; ++i) {
        peer.send_request(i, make_add(1, 1));
        ASSERT_TRUE(peer.receive());
    }
    process->signal(SIGTERM);
    EXPECT_EQ(process->wait(), 0);
    ASSERT_TRUE(process->wait_for_output("stopped"));
    ASSERT_TRUE(process->wait_for_output("vm=1: suppressed"));
    // The burst, plus what the rate allows in the elapsed time.
    EXPECT_LT(occurrences(process->output(), "refused with error"), 100U);
}

TEST_F(Daemon, ReplacesAStaleSocketAndRefusesALiveOne) {
    { const WireListener stale(socket); }
    start();
    const auto [status, output] = run({"--backend", "cpu", "--socket", socket});
    EXPECT_EQ(status, 1);
    EXPECT_NE(output.find("another process is listening on " + socket), std::string::npos);
    WirePeer peer = WirePeer::connect(socket);
    EXPECT_EQ(ask_sum(peer, 2, 2), 4U);
}

TEST_F(Daemon, AMissingFolderIsAnErrorThatSaysWhatToDo) {
    const auto [status, output] =
        run({"--backend", "cpu", "--socket", dir.file("no/such/folder/s")});
    EXPECT_EQ(status, 1);
    EXPECT_NE(output.find("does not exist: create it"), std::string::npos) << output;
    EXPECT_EQ(occurrences(output, "\n"), 1U) << output;
}

TEST_F(Daemon, HelpAndVersion) {
    const auto [help_status, help] = run({"--help"});
    EXPECT_EQ(help_status, 0);
    for (const char* const option :
         {"--socket", "--backend", "--device", "--config", "--pools", "--log-level", "--log-target",
          "--version", "--check-config"}) {
        EXPECT_NE(help.find(option), std::string::npos) << option;
    }
    const auto [version_status, version] = run({"--version"});
    EXPECT_EQ(version_status, 0);
    EXPECT_TRUE(version.starts_with("vgpu-mediator ")) << version;
}

TEST_F(Daemon, WrongUsageIsStatus2AndOneSentence) {
    for (const Args& args :
         {Args{"--no-such-option"}, Args{"--backend", "abacus"}, Args{"--pools", "A,1"},
          Args{"--pools", "AA"}, Args{"--pools", "A,"}, Args{"--log-level", "loud"},
          Args{"--log-target", "syslog"}, Args{"--device", "-1"}, Args{"--device", "x"},
          Args{"--socket"}, Args{"surplus"}}) {
        const auto [status, output] = run(args);
        EXPECT_EQ(status, 2) << args[0] << ": " << output;
        EXPECT_NE(output.find("--help"), std::string::npos) << output;
    }
}

TEST_F(Daemon, CudaWithoutAGpuIsAnError) {
    const auto [status, output] =
        run({"--backend", "cuda", "--device", "1023", "--socket", socket});
    EXPECT_EQ(status, 1);
    EXPECT_NE(output.find("--backend cpu"), std::string::npos) << output;
}

TEST_F(Daemon, AnswersFromTheGpuWhereThereIsOne) {
    process = std::make_unique<Process>(command({"--backend", "cuda", "--socket", socket}));
    if (!process->wait_for_output("ready")) {
        GTEST_SKIP() << process->output();
    }
    WirePeer peer = WirePeer::connect(socket);
    for (std::uint32_t i = 0; i < 200; ++i) {
        ASSERT_EQ(ask_sum(peer, i, 0xFFFFFFFF), i - 1);
    }
    peer.send_request(1, make_request(VGPU_OP_NOP));
    auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->response().status, VGPU_ERR_NONE);
    peer.send_request(2, make_request(VGPU_OP_GET_DEVICE_INFO));
    answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->word(VGPU_INFO_BACKEND), VGPU_BACKEND_CUDA);
    EXPECT_NE(process->output().find(answer->response_text()), std::string::npos);
    process->signal(SIGTERM);
    EXPECT_EQ(process->wait(), 0);
}

// Returns the free GPU memory reported by GET_DEVICE_INFO, in bytes.
std::uint64_t memory_free(WirePeer& peer) {
    peer.send_request(1, make_request(VGPU_OP_GET_DEVICE_INFO));
    const auto answer = peer.receive();
    return answer ? std::uint64_t{answer->word(VGPU_INFO_MEMORY_FREE_HI).value_or(0)} << 32U |
                        answer->word(VGPU_INFO_MEMORY_FREE_LO).value_or(0)
                  : 0;
}

TEST_F(Daemon, VmsThatVanishGiveTheirMemoryBackWhereThereIsAGpu) {
    process = std::make_unique<Process>(command({"--backend", "cuda", "--socket", socket}));
    if (!process->wait_for_output("ready")) {
        GTEST_SKIP() << process->output();
    }
    WirePeer observer = WirePeer::connect(socket);
    const std::uint64_t before = memory_free(observer);
    ASSERT_GT(before, 0U);
    constexpr std::array<std::uint32_t, 2> kSize{64 << 20, 0};
    for (std::uint32_t cycle = 0; cycle < 1000; ++cycle) {
        WirePeer peer = WirePeer::connect(socket);
        peer.vm_id = 1000 + cycle;
        peer.send_request(1, make_request(VGPU_OP_MEMORY_ALLOC, kSize));
        const auto answer = peer.receive();
        ASSERT_TRUE(answer);
        ASSERT_EQ(answer->response().status, VGPU_ERR_NONE) << answer->response_text();
    }
    // The mediator detects the last disconnects asynchronously.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (memory_free(observer) != before && std::chrono::steady_clock::now() < deadline) {
    }
    EXPECT_EQ(memory_free(observer), before);
}

// Two VMs at once, each on its own GPU with its own memory there.
TEST_F(Daemon, ServesTwoPoolsOnTwoGpusWhereThereAreTwo) {
    const std::string config = write_config(R"(
        [[gpu]]
        index = 0
        [[gpu]]
        index = 1
        [[pool]]
        id = "A"
        gpus = [0]
        [[pool]]
        id = "B"
        gpus = [1])");
    process = std::make_unique<Process>(
        command({"--backend", "cuda", "--socket", socket, "--config", config}));
    if (!process->wait_for_output("ready")) {
        GTEST_SKIP() << "two GPUs are needed: " << process->output();
    }
    WirePeer a = WirePeer::connect(socket);
    WirePeer b = WirePeer::connect(socket);
    a.vm_id = 1;
    b.vm_id = 2;
    b.pool = 'B';
    constexpr std::array<std::uint32_t, 2> kSize{64 << 20, 0};
    std::uint32_t handle = 0;
    for (WirePeer* const peer : {&a, &b}) {
        peer->send_request(1, make_request(VGPU_OP_MEMORY_ALLOC, kSize));
        const auto answer = peer->receive();
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->response().status, VGPU_ERR_NONE) << answer->response_text();
        handle = answer->word(0).value_or(0);
    }
    for (std::uint32_t i = 0; i < 200; ++i) {
        a.send_request(2, make_add(i, 1));
        b.send_request(2, make_add(i, 2));
        const auto from_a = a.receive();
        const auto from_b = b.receive();
        ASSERT_TRUE(from_a && from_b);
        ASSERT_EQ(from_a->word(0), i + 1);
        ASSERT_EQ(from_b->word(0), i + 2);
    }
    // A buffer belongs to its VM's GPU: its handle is invalid in the other pool.
    b.pool = 'A';
    b.send_request(3, make_request(VGPU_OP_MEMORY_FREE, std::array{handle}));
    const auto refused = b.receive();
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->response().status, VGPU_ERR_CUDA_INVALID_HANDLE);
    process->signal(SIGTERM);
    EXPECT_EQ(process->wait(), 0);
}

TEST_F(Daemon, TheConfigurationFileIsUsedAndTheCommandLineWins) {
    const std::string config = write_config(
        "[mediator]\nsockets = [\"/nonexistent/s\"]\nbackend = \"cpu\"\n[[pool]]\nid = \"C\"\n");
    start({"--config", config});
    EXPECT_NE(process->output().find("pools C,"), std::string::npos);
    WirePeer peer = WirePeer::connect(socket);
    peer.pool = 'C';
    EXPECT_EQ(ask_sum(peer, 4, 5), 9U);
    peer.pool = 'A';
    peer.send_request(1, make_add(1, 2));
    const auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->response().status, VGPU_ERR_INVALID_POOL);
}

TEST_F(Daemon, ReadsItsConfigurationAgainOnSighup) {
    const std::string config = write_config("[mediator]\nsockets = [\"/a\"]\n");
    start({"--config", config});
    WirePeer peer = WirePeer::connect(socket);
    ASSERT_EQ(ask_sum(peer, 1, 1), 2U);
    write_config("[limits]\nrequests_per_second = 1\n\nburst = 0\n");
    process->signal(SIGHUP);
    ASSERT_TRUE(process->wait_for_output("the previous configuration stays in effect"));
    EXPECT_NE(process->output().find(config + ":4: 'burst' must be"), std::string::npos);
    for (std::uint32_t i = 0; i < 60; ++i) {  // more than the default burst
        ASSERT_EQ(ask_sum(peer, i, 1), i + 1);
    }
    write_config("[executor]\nspin_us = 7\n[[vm]]\nid = 1\nquarantine_after_faults = 1\n");
    process->signal(SIGHUP);
    ASSERT_TRUE(process->wait_for_output("configuration reloaded"));
    EXPECT_NE(process->output().find("'executor.spin_us' differs"), std::string::npos);
    EXPECT_EQ(process->output().find("'mediator.sockets' differs"), std::string::npos);
    peer.send_request(1, std::vector<std::uint8_t>{1, 2, 3});
    ASSERT_TRUE(peer.receive());
    peer.send_request(2, make_add(1, 1));
    const auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->response().status, VGPU_ERR_QUARANTINED);
    EXPECT_TRUE(process->wait_for_output("vm=1 quarantined after 1 fault"));
}

// Resource exhaustion of the mediator itself is not a fault of the VM that triggers it.
TEST_F(Daemon, AShortageOfDescriptorsIsToldOnceAndBlamesNoVm) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "a sanitizer's checks need descriptors of their own";
#endif
    const std::string config = write_config("[limits]\nquarantine_after_faults = 1\n");
    Args argv = command({"--backend", "cpu", "--socket", socket, "--config", config});
    argv.insert(argv.begin(), {"/bin/sh", "-c", "ulimit -n 40; exec \"$0\" \"$@\""});
    process = std::make_unique<Process>(argv);
    ASSERT_TRUE(process->wait_for_output("ready")) << process->output();
    for (const std::uint32_t vm : {7U, 8U}) {
        MemoryPeer peer({.queues = 16, .vm_id = vm});
        const auto reply = peer.attach(socket);
        ASSERT_TRUE(reply) << process->output();
        EXPECT_EQ(reply->status, VGPU_HELLO_NO_RESOURCES);
        EXPECT_EQ(ask_sum(peer.wire(), 20, 1), 21U) << "it continues as version 1";
    }
    // More connections than available descriptors: they wait.
    std::vector<WirePeer> peers;
    for (std::uint32_t vm = 10; vm < 60; ++vm) {
        peers.push_back(WirePeer::connect(socket));
        peers.back().vm_id = vm;
    }
    ASSERT_TRUE(process->wait_for_output("connections wait"));
    EXPECT_EQ(ask_sum(peers.front(), 1, 1), 2U);
    peers.erase(peers.begin(), peers.end() - 1);
    EXPECT_EQ(ask_sum(peers.front(), 2, 1), 3U) << "it had only to wait";
    const std::string log = process->output();
    EXPECT_EQ(occurrences(log, "shared memory is not served: the limit of open files"), 1U) << log;
    EXPECT_EQ(occurrences(log, "LimitNOFILE"), 2U) << log;
    EXPECT_EQ(occurrences(log, "quarantined"), 0U) << log;
    process->signal(SIGTERM);
    EXPECT_EQ(process->wait(), 0);
}

TEST_F(Daemon, AShortageOfThreadsIsNamed) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "only root can become a user who may have one thread";
    }
#ifdef __SANITIZE_THREAD__
    GTEST_SKIP() << "ThreadSanitizer needs a thread of its own";
#endif
    Args argv = command({"--backend", "cpu", "--socket", socket, "--admin-socket", ""});
    argv.insert(argv.begin(), {"setpriv", "--reuid=65533", "--clear-groups", "--inh-caps=-all",
                               "prlimit", "--nproc=1:1"});
    std::filesystem::permissions(dir.path(), std::filesystem::perms::all);
    const auto [status, output] = run_program(argv);
    EXPECT_EQ(status, 1);
    EXPECT_NE(output.find("cannot start a thread"), std::string::npos) << output;
    EXPECT_NE(output.find("TasksMax="), std::string::npos) << output;
}

TEST_F(Daemon, NoConfigurationFileEndsARunningMediator) {
    const std::string config = write_config("[limits]\nrequests_per_second = 1\nburst = 1\n");
    start({"--config", config});
    const auto reload = [&](const std::string& said) {
        process->signal(SIGHUP);
        ASSERT_TRUE(process->wait_for_output(said)) << process->output();
    };
    ASSERT_TRUE(std::filesystem::remove(config));
    reload("No such file");
    ASSERT_TRUE(std::filesystem::create_directory(config));
    reload("it is a folder");
    ASSERT_TRUE(std::filesystem::remove(config));
    ASSERT_EQ(::mkfifo(config.c_str(), 0600), 0);
    reload("it is not a regular file");
    ASSERT_TRUE(std::filesystem::remove(config));
    write_config("");
    reload("no longer contains any settings");

    // The limit of the first file still applies.
    WirePeer peer = WirePeer::connect(socket);
    ASSERT_EQ(ask_sum(peer, 1, 1), 2U);
    peer.send_request(2, make_add(1, 1));
    const auto limited = peer.receive();
    ASSERT_TRUE(limited);
    EXPECT_EQ(limited->response().status, VGPU_ERR_RATE_LIMITED);

    write_config("[limits]\nburst = 7\n");
    reload("configuration reloaded");
    EXPECT_NE(process->output().find("limits.burst: 1 -> 7"), std::string::npos);
    EXPECT_NE(
        process->output().find("limits.requests_per_second: 1 -> (not in the file: the default)"),
        std::string::npos);
}

TEST_F(Daemon, CheckConfigAcceptsTheExampleAndStartsNothing) {
    const auto [status, output] = run({"--check-config", "--config", VGPU_EXAMPLE_CONFIG});
    EXPECT_EQ(status, 0) << output;
    EXPECT_EQ(output.find("ready"), std::string::npos);
}

TEST_F(Daemon, ABadConfigurationFileIsRefusedWithFileAndLine) {
    const std::vector<std::pair<std::string, std::string>> bad{
        {"[mediator]\nsokets = []\n", ":2: unknown key 'sokets' in [mediator]"},
        {"nonsense = 1\n", ":1: unknown key 'nonsense'"},
        {"[limits]\nqueue_per_vm = \"many\"\n", ":2: 'queue_per_vm' must be a whole number"},
        {"[limits]\nqueue_per_vm = 0\n", ":2: 'queue_per_vm' must be"},
        {"\n\n[mediator]\nallow_duplicate_vm_id = 1\n", ":4: 'allow_duplicate_vm_id' must be"},
        {"[mediator]\nsockets = \"/one\"\n", ":2: 'sockets' must be a list"},
        {"[mediator]\nbackend = \"gpu\"\n", ":2: backend 'gpu' is not one of"},
        {"[[pool]]\nid = \"AB\"\n", ":2: 'id' must be one letter"},
        {"[[pool]]\nid = \"A\"\n[[pool]]\nid = \"A\"\n", ":3: pool A is defined twice"},
        {"mediator = 3\n", ":1: 'mediator' must be a table"},
        {"[mediator\n", ":1: "},
        {"[[pool]]\nid = \"A\"\npolicy = \"mean\"\n", ":3: 'policy' must be \"strict\" or"},
        {"[[pool]]\nid = \"A\"\naging_ms = -1\n", ":3: 'aging_ms' must be a whole number"},
        {"[limits]\nburst = 0\n", ":2: 'burst' must be a whole number from 1"},
        {"[[vm]]\nweight = 2\n", ":1: this [[vm]] has no 'id'"},
        {"[[vm]]\nid = 1\n[[vm]]\nid = 1\n", ":3: VM 1 is defined twice"},
        {"[[vm]]\nid = 4294967296\n", ":2: 'id' must be a whole number"},
        {"[[vm]]\nid = 1\nweight = 0\n", ":3: 'weight' must be a number from 0.001"},
        {"[[vm]]\nid = 1\nspeed = 0\n", ":3: unknown key 'speed' in [[vm]]"},
        {"vm = 1\n", ":1: 'vm' must be a list of tables"},
        {"[log]\ntarget = \"syslog\"\n", ":2: log target 'syslog' is not one of auto, journal"},
        {"[executor]\nspin_us = 1.5\n", ":2: 'spin_us' must be a whole number"},
    };
    for (const auto& [text, expected] : bad) {
        const std::string path = write_config(text);
        const auto [status, output] = run({"--check-config", "--config", path});
        EXPECT_EQ(status, 1) << text << output;
        EXPECT_NE(output.find(path + expected), std::string::npos) << text << output;
    }
    const auto [status, output] = run({"--check-config", "--config", dir.file("missing.toml")});
    EXPECT_EQ(status, 1);
    EXPECT_NE(output.find("cannot read"), std::string::npos) << output;
}

}  // namespace
}  // namespace vgpu::test
