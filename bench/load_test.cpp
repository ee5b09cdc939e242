// SPDX-License-Identifier: MIT
//
// Tests the load benchmark's calculations, that a wrong response ends it, and that it runs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "load.h"
#include "load_device.h"
#include "support/process.h"
#include "support/temp_dir.h"
#include "support/wire_peer.h"

namespace vgpu::bench {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(Fairness, JainIndexIsOneForEqualsAndOneNthForAMonopoly) {
    EXPECT_DOUBLE_EQ(jain_index(std::array{3.0, 3.0, 3.0, 3.0}), 1);
    EXPECT_DOUBLE_EQ(jain_index(std::array{5.0, 0.0, 0.0, 0.0}), 0.25);
    EXPECT_DOUBLE_EQ(jain_index(std::array{0.0, 0.0}), 0);
}

TEST(Fairness, TheWorstShareIsRelativeToWhatItsWeightAsksFor) {
    const std::array weights{1.0, 2.0, 4.0};
    EXPECT_NEAR(worst_share_error(std::array{10.0, 20.0, 40.0}, weights), 0, 1e-12);
    // 2/7 instead of 1/7.
    EXPECT_NEAR(worst_share_error(std::array{20.0, 20.0, 30.0}, weights), 1, 1e-12);
    EXPECT_NEAR(worst_share_error(std::array{0.0, 0.0, 0.0}, weights), 1, 1e-12);
}

TEST(Figures, SayWhetherTheTargetWasReached) {
    Figure figure{
        .name = "x", .value = 5, .unit = "s", .bound = Figure::Bound::kAtMost, .target = 5};
    EXPECT_EQ(to_json(figure).at("reached"), true);
    figure.value = 5.1;
    EXPECT_EQ(to_json(figure).at("reached"), false);
    figure.bound = Figure::Bound::kAtLeast;
    EXPECT_EQ(to_json(figure).at("reached"), true);
    figure.bound = Figure::Bound::kNone;
    EXPECT_FALSE(to_json(figure).contains("target"));
}

TEST(Proc, PssIsFoundAmongItsRelatives) {
    EXPECT_EQ(parse_pss_kib("55-66 ---p 0 00:00 0 [rollup]\nRss:      7000 kB\nPss:      "
                            "5120 kB\nPss_Anon:  900 kB\n"),
              5120);
    EXPECT_EQ(parse_pss_kib("Rss: 7 kB\nPss_Anon: 9 kB\n"), std::nullopt);
    EXPECT_EQ(parse_pss_kib("\nPss:   many kB\n"), std::nullopt);
    EXPECT_EQ(parse_pss_kib(""), std::nullopt);
}

TEST(Proc, TimesStandBehindANameOfAnyKind) {
    EXPECT_EQ(parse_cpu_ticks("7 (a) b (c) S 1 2 3 0 -1 4 5 6 7 8 40 2 0 0 20 0\n"), 42U);
    EXPECT_EQ(parse_cpu_ticks("7 (x) S 1 2 3"), std::nullopt);
    EXPECT_EQ(parse_cpu_ticks("no name"), std::nullopt);
}

// Both ends of a connection in one thread: the peer plays the mediator.
struct LoadDeviceTest : testing::Test {
    test::TempDir dir;
    test::WireListener listener{dir.file("m.sock")};
    LoadDevice device{dir.file("m.sock"), 9, VGPU_PRIORITY_HIGH};
    std::optional<test::WirePeer> mediator = listener.accept();

    // Returns the bytes of a response to this request.
    static std::vector<std::uint8_t> answer_to(const test::WireMessage& request,
                                               std::uint32_t exec_time_us,
                                               std::uint32_t status = 0) {
        const std::array<std::uint32_t, 1> results{77};
        const auto payload = status == 0 ? test::make_response(0, results, exec_time_us)
                                         : test::make_response(status);
        vgpu_msg_header header = request.header;
        header.msg_type = VGPU_MSG_RESPONSE;
        header.payload_len = static_cast<std::uint16_t>(payload.size());
        const auto* const begin = reinterpret_cast<const std::uint8_t*>(&header);
        std::vector<std::uint8_t> bytes(begin, begin + sizeof header);
        bytes.insert(bytes.end(), payload.begin(), payload.end());
        return bytes;
    }
    test::WireMessage next_request() {
        auto message = mediator->receive();
        EXPECT_TRUE(message);
        return message.value_or(test::WireMessage{});
    }
};

TEST_F(LoadDeviceTest, SortsAnswersThatComeInPiecesAndTogether) {
    device.send(VGPU_OP_NOP, {}, 100);
    device.send(VGPU_OP_NOP, {}, 200);
    const auto first = next_request();
    const auto second = next_request();
    EXPECT_EQ(first.header.priority, VGPU_PRIORITY_HIGH);
    auto bytes = answer_to(first, 5);
    const auto rest = answer_to(second, 6);
    bytes.insert(bytes.end(), rest.begin(), rest.end());
    const std::span<const std::uint8_t> all(bytes);
    ASSERT_TRUE(mediator->send_raw(all.first(30)));
    EXPECT_TRUE(device.receive().empty());
    ASSERT_TRUE(mediator->send_raw(all.subspan(30)));
    const auto answers = device.receive();
    ASSERT_EQ(answers.size(), 2U);
    EXPECT_EQ(answers[0].tag, 100U);
    EXPECT_EQ(answers[0].exec_time_us, 5U);
    EXPECT_EQ(answers[0].first_result, 77U);
    EXPECT_EQ(answers[1].tag, 200U);
    EXPECT_EQ(device.under_way(), 0U);
}

TEST_F(LoadDeviceTest, AnErrorIsNoAnswer) {
    device.send(VGPU_OP_NOP);
    ASSERT_TRUE(mediator->send_raw(answer_to(next_request(), 0, VGPU_ERR_QUEUE_FULL)));
    EXPECT_THAT([&] { device.receive(); },
                ThrowsMessage<std::runtime_error>(HasSubstr("error 0x07")));
}

TEST_F(LoadDeviceTest, NeitherIsOneOutOfTurn) {
    device.send(VGPU_OP_NOP);
    device.send(VGPU_OP_NOP);
    (void)next_request();
    ASSERT_TRUE(mediator->send_raw(answer_to(next_request(), 0)));
    EXPECT_THROW(device.receive(), std::runtime_error);
}

TEST_F(LoadDeviceTest, NorTheEndOfTheConnection) {
    device.send(VGPU_OP_NOP);
    (void)next_request();
    mediator->close();
    EXPECT_THROW(device.receive(), std::runtime_error);
}

#ifdef VGPU_LOAD_PATH
TEST(Load, MeasuresTheRealMediatorAndSaysSoInJson) {
    const test::TempDir dir;
    const std::string path = dir.file("figures.json");
    const auto [status, output] = test::run_program({VGPU_LOAD_PATH,
                                                     "--rounds",
                                                     "1",
                                                     "--connections",
                                                     "4",
                                                     "--requests",
                                                     "200",
                                                     "--rate",
                                                     "1000",
                                                     "--paced-requests",
                                                     "100",
                                                     "--samples",
                                                     "5",
                                                     "--work-us",
                                                     "200",
                                                     "--idle-vms",
                                                     "20",
                                                     "--idle-window-ms",
                                                     "50",
                                                     "--fair-window-ms",
                                                     "100",
                                                     "--json",
                                                     path});
    ASSERT_EQ(status, 0) << output;
    const auto report = nlohmann::json::parse(std::ifstream(path));
    EXPECT_FALSE(report.at("machine").at("kernel").empty());
    std::map<std::string, nlohmann::json> figures;
    for (const auto& figure : report.at("figures")) {
        figures[figure.at("name")] = figure;
    }
    EXPECT_GT(figures.at("closed_loop_rate").at("value").get<double>(), 0);
    EXPECT_GT(figures.at("paced_rate").at("value").get<double>(), 0);
    EXPECT_EQ(figures.at("paced_rate").at("bound"), "at_least");
    EXPECT_GT(figures.at("flood_execution_p50").at("value").get<double>(), 0);
    EXPECT_GT(figures.at("flood_wait_p99").at("value").get<double>(), 0);
    EXPECT_GT(figures.at("memory_with_1_vm").at("value").get<double>(), 0);
    EXPECT_GE(figures.at("memory_with_21_vms").at("value").get<double>(), 0);
    EXPECT_EQ(figures.at("memory_per_idle_vm").at("target"), 64);
    EXPECT_EQ(figures.at("processor_idle").at("unit"), "% of a core");
    EXPECT_EQ(figures.at("processor_idle_with_queues").at("target"), 0.5);
    EXPECT_GT(figures.at("fair_jain_index").at("value").get<double>(), 0.25);
    EXPECT_GE(figures.at("fair_weights_worst_error").at("value").get<double>(), 0);
}

TEST(Load, MeasuresOnePartAlone) {
    const auto [status, output] =
        test::run_program({VGPU_LOAD_PATH, "--rounds", "1", "--only", "memory", "--idle-vms", "3"});
    EXPECT_EQ(status, 0) << output;
    EXPECT_THAT(output, HasSubstr("memory_per_idle_vm"));
    EXPECT_THAT(output, testing::Not(HasSubstr("flood")));
}

TEST(Load, WrongUsageAndAMediatorThatDoesNotStart) {
    EXPECT_EQ(test::run_program({VGPU_LOAD_PATH, "--rounds", "0"}).first, 2);
    EXPECT_EQ(test::run_program({VGPU_LOAD_PATH, "--only", "nothing"}).first, 2);
    const auto [status, output] = test::run_program({VGPU_LOAD_PATH, "--mediator", "/bin/false"});
    EXPECT_EQ(status, 1);
    EXPECT_THAT(output, HasSubstr("did not become ready"));
}
#endif

}  // namespace
}  // namespace vgpu::bench
