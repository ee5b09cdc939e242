// SPDX-License-Identifier: MIT
//
// Tests the benchmarks' calculations, and that a wrong response ends a measurement.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "machine.h"
#include "placement.h"
#include "process_tree.h"
#include "raw_echo.h"
#include "socket_device.h"
#include "statistics.h"
#include "support/process.h"
#include "support/temp_dir.h"
#include "support/wire_peer.h"

namespace vgpu::bench {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(Statistics, SummaryOfOneToHundred) {
    std::vector<std::int64_t> values(100);
    std::iota(values.rbegin(), values.rend(), 1);
    const Summary summary = summarize(values);
    EXPECT_EQ(summary.min, 1);
    EXPECT_EQ(summary.mean, 50.5);
    EXPECT_EQ(summary.p50, 50);
    EXPECT_EQ(summary.p90, 90);
    EXPECT_EQ(summary.p99, 99);
}

TEST(Statistics, SummaryOfOneValueAndOfNone) {
    const Summary one = summarize({7});
    EXPECT_EQ(one.p50, 7);
    EXPECT_EQ(one.p99, 7);
    EXPECT_EQ(summarize({}).mean, 0);
}

TEST(Statistics, MedianOfRoundsIgnoresADisturbedRound) {
    const std::array<Summary, 3> rounds{{{.p50 = 10, .p99 = 20},
                                         {.p50 = 11, .p99 = 900},  //
                                         {.p50 = 12, .p99 = 22}}};
    EXPECT_EQ(median_of(rounds).p50, 11);
    EXPECT_EQ(median_of(rounds).p99, 22);
    EXPECT_EQ(median({4, 1, 3, 2}), 2.5);
}

TEST(Machine, IsDescribedWithoutItsName) {
    const auto machine = describe_machine();
    EXPECT_GE(machine.at("cores").get<int>(), 1);
    EXPECT_FALSE(machine.at("kernel").get<std::string>().empty());
    EXPECT_FALSE(machine.contains("host"));
}

TEST(RawEcho, AnswersOnEveryConnectionAndIsGoneAfterwards) {
    {
        RawEcho echo(52, 56, 3);
        for (std::size_t connection = 0; connection < 3; ++connection) {
            echo.round_trip(connection);
            echo.round_trip(connection);
        }
    }
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
}

// Returns the cores that a process may run on.
std::vector<int> cores_of(pid_t process) {
    cpu_set_t set;
    CPU_ZERO(&set);
    EXPECT_EQ(::sched_getaffinity(process, sizeof set, &set), 0);
    std::vector<int> cores;
    for (int core = 0; core < CPU_SETSIZE; ++core) {
        if (CPU_ISSET(core, &set)) {
            cores.push_back(core);
        }
    }
    return cores;
}

TEST(ProcessTree, HoldsWhatAProcessHasStarted) {
    test::Process shell({"/bin/sh", "-c", "sleep 60 & echo started; wait"});
    ASSERT_TRUE(shell.wait_for_output("started", std::chrono::seconds(20)));
    const std::vector<pid_t> tree = process_tree(shell.pid());
    if (!std::filesystem::exists("/proc/thread-self/children")) {
        shell.signal(SIGKILL);
        shell.wait();
        GTEST_SKIP() << "this kernel does not tell a process's children";
    }
    ASSERT_EQ(tree.size(), 2U);
    EXPECT_EQ(tree[0], shell.pid());
    EXPECT_EQ(threads_of(tree[1]), std::vector<pid_t>{tree[1]});
    ::kill(tree[1], SIGKILL);
    shell.wait();
    EXPECT_TRUE(threads_of(tree[1]).empty());
}

TEST(Placement, HoldsBothEndsAndLetsThemGo) {
    const RawEcho echo(8, 8);
    const auto before = cores_of(0);
    {
        const Placed placed(Placement::kOneCore, {echo.pid()});
        EXPECT_EQ(cores_of(0).size(), 1U);
        EXPECT_EQ(cores_of(echo.pid()), cores_of(0));
    }
    EXPECT_EQ(cores_of(0), before);
    EXPECT_EQ(cores_of(echo.pid()), before);
    if (!Placed::possible(Placement::kTwoCores)) {
        GTEST_SKIP() << "this process may use one core";
    }
    const Placed placed(Placement::kTwoCores, {echo.pid()});
    EXPECT_EQ(cores_of(0).size(), 1U);
    EXPECT_FALSE(cores_of(echo.pid()).empty());
    EXPECT_EQ(std::ranges::count(cores_of(echo.pid()), cores_of(0).front()), 0);
}

TEST(RawEcho, RefusesSizesItHasNoRoomFor) {
    EXPECT_THROW(RawEcho(0, 1), std::invalid_argument);
    EXPECT_THROW(RawEcho(1, 5000), std::invalid_argument);
}

// A mediator that sends one prepared response to the first request of the first connection.
class Answering {
  public:
    explicit Answering(std::vector<std::uint8_t> payload, std::uint32_t id_offset = 0)
        : thread_([this, payload = std::move(payload), id_offset] {
              auto peer = listener_.accept();
              const auto request = peer ? peer->receive() : std::nullopt;
              if (request) {
                  auto header = request->header;
                  header.msg_type = VGPU_MSG_RESPONSE;
                  header.request_id += id_offset;
                  peer->send(header, payload);
              }
          }) {}
    Answering(const Answering&) = delete;
    Answering& operator=(const Answering&) = delete;
    ~Answering() { thread_.join(); }

    [[nodiscard]] std::string path() const { return path_; }

  private:
    test::TempDir dir_;
    std::string path_ = dir_.file("m.sock");
    test::WireListener listener_{path_};
    std::thread thread_;
};

TEST(SocketDevice, ReadsTheSumAndTheExecutionTime) {
    const std::array<std::uint32_t, 1> results{300};
    const Answering mediator(test::make_response(0, results, 5));
    SocketDevice device(mediator.path(), 1);
    device.send_add(100, 200);
    EXPECT_EQ(device.receive_add(), 300U);
    EXPECT_EQ(device.last_exec_time_us(), 5U);
}

TEST(SocketDevice, AnErrorIsNoAnswer) {
    const Answering mediator(test::make_response(VGPU_ERR_QUEUE_FULL));
    SocketDevice device(mediator.path(), 1);
    device.send_nop();
    EXPECT_THAT([&] { device.receive_nop(); },
                ThrowsMessage<std::runtime_error>(HasSubstr("error 0x07")));
}

TEST(SocketDevice, NeitherIsTheAnswerToAnotherRequest) {
    const Answering mediator(test::make_response(0), 1);
    SocketDevice device(mediator.path(), 1);
    device.send_nop();
    EXPECT_THROW(device.receive_nop(), std::runtime_error);
}

TEST(SocketDevice, NorOneWithoutAResult) {
    const Answering mediator(test::make_response(0));
    SocketDevice device(mediator.path(), 1);
    device.send_add(1, 2);
    EXPECT_THROW(device.receive_add(), std::runtime_error);
}

TEST(SocketDevice, ADeviceInfoThatPointsOutsideIsRefused) {
    const std::array<std::uint32_t, VGPU_INFO_RESULT_COUNT> results{};
    auto payload = test::make_response(0, results);
    const std::uint32_t lie = 0xFFFFFFF0;
    std::copy_n(reinterpret_cast<const std::uint8_t*>(&lie), sizeof lie,
                payload.begin() + offsetof(vgpu_response, data_length));
    const Answering mediator(payload);
    SocketDevice device(mediator.path(), 1);
    EXPECT_THROW(device.device_info(), std::runtime_error);
}

TEST(SocketDevice, NobodyListening) {
    const test::TempDir dir;
    EXPECT_THROW(SocketDevice(dir.file("none"), 1), std::system_error);
}

#ifdef VGPU_ROUNDTRIP_PATH
TEST(Roundtrip, MeasuresTheRealMediatorAndSaysSoInJson) {
    const test::TempDir dir;
    const std::string path = dir.file("figures.json");
    const auto [status, output] = test::run_program(
        {VGPU_ROUNDTRIP_PATH, "--rounds", "2", "--iterations", "20", "--requests", "200",
         "--connections", "3", "--placement", "any,one-core", "--json", path});
    ASSERT_EQ(status, 0) << output;
    const auto report = nlohmann::json::parse(std::ifstream(path));
    EXPECT_EQ(report.at("backend").at("kind"), "cpu");
    EXPECT_GT(report.at("throughput").at("mediator_per_second").get<double>(), 0);
    // Mediator and baseline, of two operations, in two placements.
    ASSERT_EQ(report.at("results").size(), 8U);
    for (const auto& row : report.at("results")) {
        EXPECT_GT(row.at("min_ns").get<double>(), 0);
        EXPECT_LE(row.at("min_ns").get<double>(), row.at("p50_ns").get<double>());
        EXPECT_LE(row.at("p50_ns").get<double>(), row.at("p99_ns").get<double>());
    }
}

TEST(Roundtrip, AMediatorThatDoesNotStartIsAFailure) {
    const auto [status, output] =
        test::run_program({VGPU_ROUNDTRIP_PATH, "--mediator", "/bin/false"});
    EXPECT_EQ(status, 1);
    EXPECT_THAT(output, HasSubstr("did not become ready"));
}

TEST(Roundtrip, WrongUsage) {
    EXPECT_EQ(test::run_program({VGPU_ROUNDTRIP_PATH, "--rounds", "none"}).first, 2);
    EXPECT_EQ(test::run_program({VGPU_ROUNDTRIP_PATH, "--placement", "moon"}).first, 2);
    EXPECT_EQ(test::run_program({VGPU_ROUNDTRIP_PATH, "--help"}).first, 0);
}
#endif

}  // namespace
}  // namespace vgpu::bench
