// SPDX-License-Identifier: MIT
//
// Tests that vgpu-attack runs, measures and reports, and how results are compared with the bars.
// The mediator's resilience is measured by the program itself: it takes minutes on an idle machine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "measure.h"
#include "support/process.h"
#include "support/temp_dir.h"

namespace vgpu::attack {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::pair<int, std::string> run(const std::vector<std::string>& arguments) {
    std::vector<std::string> argv{VGPU_ATTACK_PATH};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return test::run_program(argv, std::chrono::seconds(50));
}

TEST(AttackProgram, ListsTheAttacks) {
    const auto [status, output] = run({"--list"});
    EXPECT_EQ(status, 0);
    for (const char* name : {"quiet ", "unknown ", "linger ", "vm-ids "}) {
        EXPECT_THAT(output, HasSubstr(name));
    }
}

TEST(AttackProgram, RefusesAWrongCommandLine) {
    EXPECT_EQ(run({"--attack", "no-such-attack"}).first, 2);
    EXPECT_EQ(run({"--seconds", "0"}).first, 2);
    EXPECT_EQ(run({"--seconds", "many"}).first, 2);
    EXPECT_EQ(run({"--mediator", "/no/such/program"}).first, 2);
    EXPECT_EQ(run({"--no-such-option"}).first, 2);
    EXPECT_EQ(run({"quiet"}).first, 2);
}

TEST(AttackProgram, MeasuresARunWithoutAnAttacker) {
    const test::TempDir dir;
    const std::string file = dir.file("report.json");
    const auto [status, output] = run({"--attack", "quiet", "--seconds", "1", "--json", file});
    // On a busy machine a bar may be missed.
    EXPECT_TRUE(status == 0 || status == 1) << output;
    const auto report = nlohmann::json::parse(std::ifstream(file), nullptr, false);
    ASSERT_TRUE(report.is_object()) << output;
    EXPECT_EQ(report.at("period_ms"), 1000);
    EXPECT_EQ(report.at("met"), status == 0);
    ASSERT_EQ(report.at("attacks").size(), 1U);
    const auto& quiet = report.at("attacks").at(0);
    EXPECT_EQ(quiet.at("name"), "quiet");
    EXPECT_EQ(quiet.at("attacker_steps"), 0);
    EXPECT_EQ(quiet.at("exit_status"), 0);
    EXPECT_EQ(quiet.at("missed").empty(), status == 0);
    for (const char* path : {"requests", "queues"}) {
        for (const char* period : {"off", "on"}) {
            const auto& figures = quiet.at("paths").at(path).at(period);
            EXPECT_GT(figures.at("served"), 10) << path << ' ' << period;
            EXPECT_EQ(figures.at("wrong"), 0);
            EXPECT_GT(figures.at("p50_ns"), 0);
            EXPECT_GE(figures.at("longest_ns"), figures.at("p99_ns"));
        }
    }
}

Result good() {
    const PathPeriod path{
        .served = 100, .p50 = 50e3, .p99 = 100e3, .longest = 200e3, .failure = {}};
    Result result;
    result.off = {.requests = path, .queues = path};
    result.on = result.off;
    result.exit_seconds = 0.1;
    return result;
}

TEST(AttackBars, AreMetByAGoodResult) {
    EXPECT_THAT(missed_bars(good()), IsEmpty());
}

TEST(AttackBars, AreMissedEachByItself) {
    Result result = good();
    result.on.requests.p99 = 301e3;
    EXPECT_THAT(missed_bars(result), ElementsAre(HasSubstr("requests: p99 is 3.0 times")));
    result = good();
    result.on.queues.longest = 51e6;
    result.on.queues.unanswered = 1;
    EXPECT_THAT(missed_bars(result), ElementsAre("queues: no answer for 51.0 ms"));
    result = good();
    result.on.queues.wrong = 1;
    EXPECT_THAT(missed_bars(result), ElementsAre("queues: 1 wrong sums"));
    result = good();
    result.on.requests.failure = "the mediator has closed the connection";
    EXPECT_THAT(missed_bars(result), ElementsAre(HasSubstr("closed the connection")));
    result = good();
    result.exit_seconds = 0.6;
    EXPECT_THAT(missed_bars(result), ElementsAre("0.60 s from SIGTERM to the exit"));
    result.killed = true;
    result.exit_seconds = 15;
    EXPECT_THAT(missed_bars(result), ElementsAre(HasSubstr("killed")));
    result = good();
    result.exit_status = 139;
    EXPECT_THAT(missed_bars(result), ElementsAre(HasSubstr("status 139")));
    result = good();
    result.attacker_failure = "why";
    EXPECT_THAT(missed_bars(result), ElementsAre("the attacker ended: why"));
    result = good();
    result.newcomer_failure = "";
    EXPECT_THAT(missed_bars(result), IsEmpty());
    result.newcomer_failure = "why";
    EXPECT_THAT(missed_bars(result), ElementsAre("why"));
}

TEST(LoopLatency, IsTheLargestOverAllSources) {
    const auto largest = largest_loop_latency(
        "# HELP vgpu_loop_latency_seconds x\n# TYPE vgpu_loop_latency_seconds gauge\n"
        "vgpu_loop_latency_seconds{source=\"sockets\"} 0.002\n"
        "vgpu_loop_latency_seconds{source=\"queues\"} 0.0105\n"
        "vgpu_loop_latency_seconds_total{source=\"other\"} 9\n"
        "vgpu_other{source=\"queues\"} 7\n");
    ASSERT_TRUE(largest);
    EXPECT_DOUBLE_EQ(largest->seconds, 0.0105);
    EXPECT_EQ(largest->source, "queues");
    EXPECT_FALSE(largest_loop_latency("vgpu_connections 3\n"));
    EXPECT_FALSE(largest_loop_latency(""));
}

}  // namespace
}  // namespace vgpu::attack
