// SPDX-License-Identifier: MIT
//
// Tests that the baselines and the transports that vgpu is compared with carry data and detect
// errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>

#include "floors.h"
#include "guest/round_trips.h"
#include "own_mediator.h"
#include "peer/peers.h"
#include "support/process.h"
#include "support/temp_dir.h"

namespace vgpu::bench {
namespace {

using testing::HasSubstr;

TEST(Floors, EachGoesThereAndBack) {
    SpinPingPong spin;
    EventfdPingPong eventfd;
    for (int i = 0; i < 20; ++i) {
        spin.round_trip();
        eventfd.round_trip();
    }
}

TEST(Floors, TheRingCarriesMoreThanItHolds) {
    RawRing ring(4);
    EXPECT_GT(ring.carry(1), 0);
    EXPECT_GT(ring.carry(3000), 0);
}

TEST(Floors, ARingNeedsAWindow) {
    EXPECT_THROW(RawRing(0), std::invalid_argument);
    EXPECT_THROW(RawRing(1025), std::invalid_argument);
}

TEST(OldProtocol, AnswersAreSumsModulo32Bits) {
    EXPECT_EQ(answer_line("A:2:1:100:200"), "300\n");
    EXPECT_EQ(answer_line("A:2:1:4294967295:2"), "1\n");
    for (const char* bad : {"", "A:2:1:100", "A:2:1:100:200:3", "A:2:1:100:x",
                            "A:2:1::", "::::", "A:2:1:-1:4", "A:2:1:4294967296:0", "A:2:1:1 :2"}) {
        EXPECT_EQ(answer_line(bad), "") << bad;
    }
}

TEST(OldProtocol, ARequestIsTakenOnceAndAnswered) {
    const test::TempDir dir;
    std::filesystem::create_directory(dir.file("vm1"));
    std::filesystem::create_directory(dir.file("vm2"));
    std::filesystem::create_directory(dir.file("other"));
    std::ofstream(dir.file("vm1/request.txt")) << "A:2:1:100:200\n";
    std::ofstream(dir.file("vm2/request.txt")) << "A:2:1:100:20";  // incomplete line
    std::ofstream(dir.file("other/request.txt")) << "A:2:1:100:200\n";
    const FileServer server(dir.file(""));
    EXPECT_EQ(server.poll(), 1U);
    EXPECT_EQ(server.poll(), 0U);
    std::string line;
    std::getline(std::ifstream(dir.file("vm1/response.txt")), line);
    EXPECT_EQ(line, "300");
    EXPECT_EQ(std::filesystem::file_size(dir.file("vm1/request.txt")), 0U);
    EXPECT_FALSE(std::filesystem::exists(dir.file("vm2/response.txt")));
    EXPECT_FALSE(std::filesystem::exists(dir.file("other/response.txt")));
}

TEST(OldProtocol, ClientAndServerUnderstandEachOther) {
    const test::TempDir dir;
    std::filesystem::create_directory(dir.file("vm7"));
    const FileServer server(dir.file(""));
    FileClient client(dir.file("vm7"), 7, FileClient::Cache::kThrough);
    for (int i = 0; i < 3; ++i) {
        client.prepare();
        std::thread host([&] {
            while (server.poll() == 0) {
                std::this_thread::yield();
            }
        });
        client.round_trip();
        host.join();
    }
}

TEST(OldProtocol, AnAnswerThatWasThereBeforeIsWrong) {
    const test::TempDir dir;
    std::filesystem::create_directory(dir.file("vm7"));
    FileClient client(dir.file("vm7"), 7, FileClient::Cache::kThrough);
    client.prepare();
    std::ofstream(dir.file("vm7/response.txt")) << "5\n";
    EXPECT_THROW(client.round_trip(), std::runtime_error);
}

TEST(Programs, EchoByTcpInBothWaysOfWaiting) {
    test::Process peer({VGPU_PEER_PATH, "tcp"});
    ASSERT_TRUE(peer.wait_for_output("listening on", std::chrono::seconds(10)));
    const std::string said = peer.output();
    const std::string mark = "listening on ";
    std::string port = said.substr(said.find(mark) + mark.size());
    port.erase(port.find('\n'));
    for (const char* wait : {"sleep", "spin"}) {
        const auto [status, output] = test::run_program(
            {VGPU_BENCH_GUEST_PATH, "tcp", "127.0.0.1", port, "--count", "20", "--wait", wait});
        ASSERT_EQ(status, 0) << output;
        const auto line = nlohmann::json::parse(output).at("lines").at(0);
        EXPECT_EQ(line.at("path"), "tcp");
        EXPECT_EQ(line.at("wait"), wait);
        EXPECT_EQ(line.at("n"), 20);
        EXPECT_GT(line.at("min_us").get<double>(), 0);
        EXPECT_LE(line.at("min_us").get<double>(), line.at("p50_us").get<double>());
    }
    peer.signal(SIGTERM);
    peer.wait();
}

TEST(Programs, WhatCannotBeMeasuredIsAFailure) {
    const auto [status, output] = test::run_program({VGPU_BENCH_GUEST_PATH, "serial", "/none"});
    EXPECT_EQ(status, 1);
    EXPECT_THAT(output, HasSubstr("/none"));
    EXPECT_EQ(test::run_program({VGPU_BENCH_GUEST_PATH}).first, 2);
    EXPECT_EQ(test::run_program({VGPU_PEER_PATH, "file", "/nowhere"}).first, 2);
    EXPECT_EQ(test::run_program({VGPU_PEER_PATH, "--help"}).first, 0);
}

TEST(Metrics, SamplesOfOneNameAreAddedUp) {
    const std::string text =
        "# TYPE x_total counter\nx_total{vm=\"1\",why=\"a b\"} 2\nx_total{vm=\"2\"} 40\n"
        "x_total_more 7\ny 5\n";
    EXPECT_EQ(sum_of_metric(text, "x_total"), 42);
    EXPECT_EQ(sum_of_metric(text, "y"), 5);
    EXPECT_EQ(sum_of_metric(text, "x"), std::nullopt);
}

#ifdef VGPU_FASTPATH_PATH
TEST(Fastpath, MeasuresTheRealMediatorAndSaysSoInJson) {
    const test::TempDir dir;
    const std::string path = dir.file("figures.json");
    const auto [status, output] =
        test::run_program({VGPU_FASTPATH_PATH, "--quick", "--json", path});
    ASSERT_EQ(status, 0) << output;
    const auto report = nlohmann::json::parse(std::ifstream(path));
    EXPECT_EQ(report.at("backend"), "cpu");
    std::set<std::string> names;
    for (const auto& figure : report.at("figures")) {
        names.insert(figure.at("name"));
        EXPECT_GE(figure.at("value").get<double>(), 0) << figure;
    }
    // With one core the others cannot be measured.
    for (const char* name :
         {"NOP, both asleep, one-core, p50", "additions, 128 in flight", "heap to device, 4 MiB"}) {
        EXPECT_TRUE(names.contains(name)) << name;
    }
    // 4 KiB to 4 MiB, two directions, each with its baseline.
    EXPECT_EQ(report.at("bandwidth").size(), 24U);
    for (const auto& point : report.at("bandwidth")) {
        EXPECT_GT(point.at("gb_per_second").get<double>(), 0) << point;
    }
}

TEST(Fastpath, WhatCannotBeMeasuredIsAFailure) {
    const auto [status, output] =
        test::run_program({VGPU_FASTPATH_PATH, "--quick", "--mediator", "/bin/false"});
    EXPECT_EQ(status, 1);
    EXPECT_THAT(output, HasSubstr("did not become ready"));
    EXPECT_EQ(test::run_program({VGPU_FASTPATH_PATH, "--only", "moon"}).first, 2);
    EXPECT_EQ(test::run_program({VGPU_FASTPATH_PATH, "--help"}).first, 0);
}
#endif

}  // namespace
}  // namespace vgpu::bench
