// SPDX-License-Identifier: MIT
#include "cli/vgpuctl/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vgpu::ctl {
namespace {

using nlohmann::json;
using testing::ContainsRegex;
using testing::HasSubstr;

TEST(Units, AreThoseOfTheMagnitude) {
    EXPECT_EQ(bytes_text(0), "0 B");
    EXPECT_EQ(bytes_text(1023), "1023 B");
    EXPECT_EQ(bytes_text(12288), "12.0 KiB");
    EXPECT_EQ(bytes_text(1.5 * (1ULL << 40U)), "1.5 TiB");
    EXPECT_EQ(micros_text(850.4), "850 µs");
    EXPECT_EQ(micros_text(12'300), "12.3 ms");
    EXPECT_EQ(micros_text(4.1e6), "4.1 s");
    EXPECT_EQ(uptime_text(42.9), "42 s");
    EXPECT_EQ(uptime_text(180), "3 min");
    EXPECT_EQ(uptime_text(5 * 3600 + 12 * 60), "5 h 12 min");
    EXPECT_EQ(uptime_text(3 * 86400 + 4 * 3600), "3 d 4 h");
}

TEST(Printable, NothingMovesTheCursor) {
    EXPECT_EQ(printable("a\x1b[2Jb\r\n"), "a?[2Jb??");
    EXPECT_EQ(printable("\xC2\x9B"
                        "31m"),
              "?31m");  // CSI as one character
    EXPECT_EQ(printable("\x7F"), "?");
    EXPECT_EQ(printable("µ Größe \xC2"), "µ Größe \xC2");
}

TEST(Table, AlignsByColumnsNotBytes) {
    EXPECT_EQ(
        table({{"N", "TEXT", "X"}, {"10", "µs", ""}, {"7", "long", "y"}}, {true, false, false}),
        " N  TEXT  X\n"
        "10  µs\n"
        " 7  long  y\n");
}

TEST(Fields, AStrangeAnswerIsShownAndNotTrusted) {
    EXPECT_EQ(field(json::parse(R"({"a":null})"), "a"), "-");
    EXPECT_EQ(field(json::parse(R"([1])"), "a"), "-");
    EXPECT_EQ(field(json::parse(R"({"a":2.50})"), "a"), "2.5");
    EXPECT_EQ(number(json::parse(R"({"a":"12"})"), "a"), 0);
    for (const char* answer : {"{}", "[]", "7", "null", R"({"vms":7,"gpus":{},"pools":"x"})",
                               R"({"vms":[7],"gpus":[null],"pools":[[]]})"}) {
        const json strange = json::parse(answer);
        EXPECT_FALSE(status_text(strange).empty());
        EXPECT_FALSE(gpus_text(strange).empty());
        EXPECT_FALSE(pools_text(strange).empty());
        EXPECT_FALSE(vms_text(strange).empty());
        EXPECT_FALSE(vm_text(strange).empty());
        EXPECT_FALSE(event_text(strange).empty());
    }
}

TEST(Vm, NamesTheUserWhoMayUseItsId) {
    EXPECT_THAT(vm_text(json::parse(R"({"user":0})")), ContainsRegex("user +root \\(0\\)\n"));
    EXPECT_THAT(vm_text(json::parse(R"({"user":4000000000})")),
                ContainsRegex("user +4000000000\n"));
    for (const char* any : {R"({"user":null})", R"({"user":"root"})", R"({"user":-1})", "{}"}) {
        EXPECT_THAT(vm_text(json::parse(any)), ContainsRegex("user +any\n")) << any;
    }
}

TEST(Events, AreOneLineInTheOrderOfInterest) {
    EXPECT_EQ(event_text(json::parse(
                  R"({"time":"T","event":"request_refused","vm":7,"session":3,"request_id":9,)"
                  R"("pool":"A","error":"queue-full","message":"full\n","delivered":false})")),
              "T  request_refused    vm 7 connection 3 request 9 pool A error queue-full (not "
              "delivered): full?");
    EXPECT_THAT(event_text(json::parse(R"({"time":"T","event":"lost","count":5})")),
                HasSubstr("count 5"));
}

TEST(Errors, NameTheFieldOnce) {
    EXPECT_EQ(api_error_text(422, R"({"error":{"message":"Too small.","field":"weight"}})"),
              "weight: Too small.");
    EXPECT_EQ(api_error_text(422, R"({"error":{"message":"weight is bad","field":"weight"}})"),
              "weight is bad");
    EXPECT_EQ(api_error_text(422, R"({"error":{"message":"unknown key","line":12}})"),
              "unknown key (line 12)");
    EXPECT_THAT(api_error_text(502, "<html>"), HasSubstr("HTTP status 502"));
}

TEST(Metrics, AreReadWithLabelsAndSpecialValues) {
    const json samples = metrics_json(
        "# TYPE a counter\n"
        "a 1\n"
        "b{x=\"1\",y=\"q\\\"\\\\\\n}, \"} 2.5\n"
        "c_bucket{le=\"+Inf\"} +Inf 123\n"
        "d NaN\n"
        "broken{\n"
        "\n"
        "e{} 3");
    ASSERT_EQ(samples.size(), 5U) << samples;
    EXPECT_EQ(samples[0], json({{"name", "a"}, {"labels", json::object()}, {"value", 1.0}}));
    EXPECT_EQ(samples[1].at("labels").at("y"), "q\"\\\n}, ");
    EXPECT_EQ(samples[1].at("value"), 2.5);
    EXPECT_EQ(samples[2].at("value"), "+Inf");
    EXPECT_EQ(samples[3].at("value"), "NaN");
    EXPECT_EQ(samples[4].at("name"), "e");
}

}  // namespace
}  // namespace vgpu::ctl
