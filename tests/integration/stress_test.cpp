// SPDX-License-Identifier: MIT
//
// `vgpu stress` on a real mediator, and on a simulated one that returns wrong results and errors: a
// check that cannot fail proves nothing.
#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "support/process.h"
#include "support/temp_dir.h"
#include "support/wire_peer.h"

namespace vgpu::test {
namespace {

using nlohmann::json;

// Parses its output: one line.
json report_of(Process& stress) {
    EXPECT_TRUE(stress.wait_for_output("\n")) << stress.output();
    return json::parse(stress.output());
}

TEST(Stress, ChecksEveryResultOfAMediator) {
    const TempDir dir;
    Process mediator({VGPU_MEDIATOR_PATH, "--backend", "cpu", "--socket", dir.file("s")});
    ASSERT_TRUE(mediator.wait_for_output("ready")) << mediator.output();
    const auto [status, output] =
        run_program({VGPU_PROGRAM, "--device", "unix:" + dir.file("s"), "--json", "stress",
                     "--seconds", "0.1", "-n", "500", "--in-flight", "4", "--matrix", "16"});
    EXPECT_EQ(status, 0) << output;
    const json report = json::parse(output);
    EXPECT_EQ(report["ok"], true);
    ASSERT_EQ(report["lines"].size(), 3U) << "additions by both paths, and products";
    for (const json& line : report["lines"]) {
        EXPECT_EQ(line["wrong"], 0) << line;
        EXPECT_TRUE(line["errors"].empty()) << line;
        EXPECT_GE(line["n"], line["operation"] == "add" ? 500 : 1) << line;
        EXPECT_LE(line["p50_us"], line["p99_us"]);
        EXPECT_LE(line["p99_us"], line["max_us"]);
    }
}

TEST(Stress, CountsAStallForAllThatWereDueInIt) {
    const TempDir dir;
    WireListener listener(dir.file("s"));
    Process stress({VGPU_PROGRAM, "--device", "unix:" + dir.file("s"), "--shm-size", "0", "--json",
                    "stress", "--seconds", "0.4", "--rate", "100"});
    auto peer = listener.accept();
    ASSERT_TRUE(peer);
    bool first = true;
    while (const auto message = peer->receive()) {
        if (first) {
            // Stall: no responses for half of the run.
            std::this_thread::sleep_for(std::chrono::milliseconds(200));
            first = false;
        }
        const std::array<std::uint32_t, 1> results{*message->word(0) + *message->word(1)};
        peer->vm_id = message->header.vm_id;
        peer->send(peer->header(VGPU_MSG_RESPONSE, message->header.request_id),
                   make_response(0, results));
    }
    EXPECT_EQ(stress.wait(), 0) << stress.output();
    const json line = report_of(stress)["lines"][0];
    EXPECT_EQ(line["n"], 40);
    EXPECT_GE(line["max_us"], 200'000);
    // One slow addition of 40 would hardly raise the mean; the 20 due during the stall do.
    EXPECT_GE(line["mean_us"], 30'000);
}

TEST(Stress, ARateEndsInTimeWhereThereIsNoQueue) {
    const TempDir dir;
    std::ofstream(dir.file("c")) << "[queues]\nenabled = false\n";
    Process mediator({VGPU_MEDIATOR_PATH, "--backend", "cpu", "--socket", dir.file("s"), "--config",
                      dir.file("c")});
    ASSERT_TRUE(mediator.wait_for_output("ready"));
    const auto [status, output] = run_program({VGPU_PROGRAM, "--device", "unix:" + dir.file("s"),
                                               "stress", "--seconds", "0.2", "--rate", "20"});
    EXPECT_EQ(status, 1);
    EXPECT_NE(output.find("no-queues"), std::string::npos) << output;
}

TEST(Stress, CountsWrongResultsAndErrors) {
    const TempDir dir;
    WireListener listener(dir.file("s"));
    Process stress({VGPU_PROGRAM, "--device", "unix:" + dir.file("s"), "--shm-size", "0", "--json",
                    "stress", "--seconds", "0.2"});
    auto peer = listener.accept();
    ASSERT_TRUE(peer);
    // The second result of four is wrong, and the third request is rejected.
    std::size_t served = 0;
    std::size_t wrong = 0;
    std::size_t refused = 0;
    while (const auto message = peer->receive()) {
        const std::uint32_t sum = *message->word(0) + *message->word(1);
        const std::size_t place = served++ % 4;
        wrong += place == 1 ? 1 : 0;
        refused += place == 2 ? 1 : 0;
        const std::array<std::uint32_t, 1> results{place == 1 ? sum + 1 : sum};
        peer->vm_id = message->header.vm_id;
        peer->send(peer->header(VGPU_MSG_RESPONSE, message->header.request_id),
                   place == 2 ? make_response(VGPU_ERR_QUEUE_FULL) : make_response(0, results));
    }
    EXPECT_EQ(stress.wait(), 1) << stress.output();
    const json report = report_of(stress);
    EXPECT_EQ(report["ok"], false);
    ASSERT_EQ(report["lines"].size(), 1U) << "without shared memory there is no queue";
    const json& line = report["lines"][0];
    EXPECT_EQ(line["n"], served - refused);
    EXPECT_EQ(line["wrong"], wrong);
    EXPECT_EQ(line["errors"], (json{{"queue-full", refused}}));
    EXPECT_GT(wrong, 0U);
    EXPECT_NE(line["first_wrong"].get<std::string>().find("came back as"), std::string::npos);
}

}  // namespace
}  // namespace vgpu::test
