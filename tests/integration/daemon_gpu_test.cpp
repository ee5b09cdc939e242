// SPDX-License-Identifier: MIT
//
// The real daemon and the process that drives the GPU for it: what remains of one when the other
// ends. Skipped, with the reason, without a usable GPU.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "support/process.h"
#include "support/temp_dir.h"
#include "support/wire_peer.h"

namespace vgpu::test {
namespace {

// Returns the child processes of `parent`.
std::vector<pid_t> children_of(pid_t parent) {
    std::vector<pid_t> found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        std::ifstream status(entry.path() / "status");
        for (std::string line; std::getline(status, line);) {
            if (line == "PPid:\t" + std::to_string(parent)) {
                found.push_back(std::stoi(entry.path().filename()));
            }
        }
    }
    return found;
}

struct GpuDaemon : testing::Test {
    TempDir dir;
    std::string socket = dir.file("s");
    std::unique_ptr<Process> process;

    // Starts the daemon with this configuration. Skips the test without a usable GPU.
    void start(const std::string& config) {
        std::ofstream(dir.file("config.toml")) << config;
        const char* const chosen = std::getenv("VGPU_MEDIATOR");
        process = std::make_unique<Process>(std::vector<std::string>{
            chosen != nullptr ? chosen : VGPU_MEDIATOR_PATH, "--backend", "cuda", "--socket",
            socket, "--config", dir.file("config.toml")});
        if (!process->wait_for_output("ready")) {
            GTEST_SKIP() << process->output();
        }
    }
    static WireMessage ask(WirePeer& peer, const std::vector<std::uint8_t>& request) {
        peer.send_request(1, request);
        auto answer = peer.receive();
        EXPECT_TRUE(answer);
        return answer.value_or(WireMessage{});
    }
    static std::uint32_t alloc(WirePeer& peer, std::uint32_t size) {
        const auto answer = ask(peer, make_request(VGPU_OP_MEMORY_ALLOC, std::array{size, 0U}));
        EXPECT_EQ(answer.response().status, VGPU_ERR_NONE) << answer.response_text();
        return answer.word(0).value_or(0);
    }
    static std::uint32_t read_status(WirePeer& peer, std::uint32_t handle) {
        constexpr std::uint32_t kDirection = VGPU_COPY_FROM_DEVICE;
        return ask(peer,
                   make_request(VGPU_OP_MEMORY_COPY, std::array{kDirection, handle, 0U, 0U, 4U}))
            .response()
            .status;
    }
};

// The mediator survives its worker, any number of times.
TEST_F(GpuDaemon, AWorkerThatIsKilledIsReplacedWhereThereIsAGpu) {
    start("");
    if (IsSkipped()) {
        return;
    }
    std::ifstream maps("/proc/" + std::to_string(process->pid()) + "/maps");
    const std::string mapped(std::istreambuf_iterator<char>(maps), {});
    EXPECT_NE(mapped.find("vgpu-mediator"), std::string::npos);
    EXPECT_EQ(mapped.find("libcuda"), std::string::npos) << "it is the worker's to load";
    WirePeer peer = WirePeer::connect(socket);
    for (std::uint32_t round = 0; round < 3; ++round) {
        ASSERT_EQ(ask(peer, make_add(round, 40)).word(0), round + 40);
        const std::uint32_t handle = alloc(peer, 4096);
        ASSERT_EQ(read_status(peer, handle), VGPU_ERR_NONE);
        const auto workers = children_of(process->pid());
        ASSERT_EQ(workers.size(), 1U);
        const std::size_t said = process->output().size();
        ASSERT_EQ(::kill(workers[0], SIGKILL), 0);
        ASSERT_TRUE(process->wait_for_output("recovered after", std::chrono::seconds(20), said))
            << process->output();
        EXPECT_EQ(read_status(peer, handle), VGPU_ERR_CUDA_INVALID_HANDLE);
    }
    process->signal(SIGTERM);
    EXPECT_EQ(process->wait(), 0);
}

// With these kernels, this multiplication takes a current GPU well over a millisecond.
TEST_F(GpuDaemon, StopsWhatRunsTooLongWhereThereIsAGpuAndTheOperatorSaysSo) {
    start(R"(
        [limits]
        longest_execution_ms = 20
        [executor]
        kill_overrun = true)");
    if (IsSkipped()) {
        return;
    }
    WirePeer peer = WirePeer::connect(socket);
    constexpr std::uint32_t kSide = 8192;
    constexpr std::uint32_t kBytes = kSide * kSide * 4;
    std::array<std::uint32_t, 3> handles{};
    for (std::uint32_t& handle : handles) {
        handle = alloc(peer, kBytes);
    }
    const auto stopped =
        ask(peer, make_request(VGPU_OP_MATMUL,
                               std::array<std::uint32_t, 7>{VGPU_TYPE_F32, handles[0], handles[1],
                                                            handles[2], kSide, kSide, kSide}));
    EXPECT_EQ(stopped.response().status, VGPU_ERR_CUDA_TIME_LIMIT) << stopped.response_text();
    ASSERT_TRUE(process->wait_for_output("recovered after")) << process->output();
    EXPECT_EQ(read_status(peer, handles[0]), VGPU_ERR_CUDA_INVALID_HANDLE);
}

}  // namespace
}  // namespace vgpu::test
