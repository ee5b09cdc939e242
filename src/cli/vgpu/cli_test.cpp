// SPDX-License-Identifier: MIT
//
// Tests of `vgpu` that need no device: numbers, times, the command line, and the error texts
// without a device or a mediator. The rest is tested in a guest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/vgpu/common.h"
#include "support/process.h"
#include "support/temp_dir.h"

namespace vgpu::cli {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using vgpu::test::run_program;
using vgpu::test::TempDir;

std::pair<int, std::string> vgpu(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), VGPU_PROGRAM);
    return run_program(arguments);
}

TEST(ParseInt32, TakesSignedAndUnsigned) {
    EXPECT_EQ(parse_int32("0"), 0);
    EXPECT_EQ(parse_int32("+7"), 7);
    EXPECT_EQ(parse_int32("0x10"), 16);
    EXPECT_EQ(parse_int32("-0x10"), -16);
    EXPECT_EQ(parse_int32("-2147483648"), -2147483648LL);
    EXPECT_EQ(parse_int32("4294967295"), 4294967295LL);
}

TEST(ParseInt32, RefusesEverythingElse) {
    for (const char* text :
         {"", "+", "-", "+-1", "--1", " 1", "1 ", "1x", "x", "1.5", "1e3", "007", "0b1",
          "-2147483649", "4294967296", "99999999999999999999", "\u0661"}) {
        EXPECT_EQ(parse_int32(text), std::nullopt) << text;
    }
}

TEST(SizeText, PicksTheUnit) {
    EXPECT_EQ(size_text(64 << 20), "64 MiB");
    EXPECT_EQ(size_text(3 << 10), "3 KiB");
    EXPECT_EQ(size_text(1001), "1001 bytes");
    EXPECT_EQ(size_text(0), "0 bytes");
}

TEST(DurationText, PicksTheUnit) {
    EXPECT_EQ(duration_text(std::chrono::nanoseconds(12'340)), "12.3 \u00b5s");
    EXPECT_EQ(duration_text(std::chrono::nanoseconds(1'234'000)), "1.23 ms");
    EXPECT_EQ(duration_text(std::chrono::milliseconds(2'100)), "2.10 s");
}

TEST(CommandLine, WrongUsageIsStatus2WithASentence) {
    for (const auto& arguments :
         std::vector<std::vector<std::string>>{{},
                                               {"bogus"},
                                               {"add"},
                                               {"add", "1"},
                                               {"add", "1", "2", "3"},
                                               {"add", "one", "2"},
                                               {"add", "1", "4294967296"},
                                               {"add", "-2147483649", "1"},
                                               {"info", "--wait", "never"},
                                               {"info", "--timeout", "0"},
                                               {"bench", "--count", "0"},
                                               {"bench", "--op", "multiply"},
                                               {"bench", "--path", "network"},
                                               {"bench", "--in-flight", "0"},
                                               {"bench", "--size", "10"},
                                               {"bench", "--size", "0"},
                                               {"bench", "--spin", "never"},
                                               {"stress", "--seconds", "0"},
                                               {"stress", "--path", "network"},
                                               {"stress", "--in-flight", "33"},
                                               {"stress", "--matrix", "0"},
                                               {"stress", "--rate", "0"},
                                               {"info", "--pool", "AB"},
                                               {"info", "--priority", "urgent"},
                                               {"info", "--shm-size", "lots"},
                                               {"selftest", "--only", "nothing"}}) {
        const auto [status, output] = vgpu(arguments);
        EXPECT_EQ(status, kUsage) << testing::PrintToString(arguments);
        EXPECT_FALSE(output.empty());
    }
    EXPECT_THAT(vgpu({}).second, HasSubstr("list, info, add, selftest, bench or stress"));
    EXPECT_THAT(vgpu({"add", "1", "4294967296"}).second, HasSubstr("-2147483648 to 4294967295"));
}

TEST(CommandLine, HelpIsEverywhere) {
    EXPECT_EQ(vgpu({"--help"}).first, kSuccess);
    for (const char* command : {"list", "info", "add", "selftest", "bench", "stress"}) {
        const auto [status, output] = vgpu({command, "--help"});
        EXPECT_EQ(status, kSuccess);
        EXPECT_THAT(output, HasSubstr("Usage:")) << command;
    }
    EXPECT_EQ(vgpu({"--version"}).second, std::string("vgpu ") + vgpu_version() + "\n");
}

TEST(NoMediator, EveryCommandSaysWhereNobodyListens) {
    const TempDir dir;
    const std::string address = "unix:" + dir.file("nobody");
    for (const char* command : {"info", "selftest", "bench", "stress"}) {
        const auto [status, output] = vgpu({command, "--device", address});
        EXPECT_EQ(status, kFailure) << command;
        EXPECT_THAT(output, HasSubstr("no mediator is listening at " + dir.file("nobody")))
            << command;
    }
}

TEST(NoDevice, EveryCommandSaysWhatToDo) {
    const TempDir dir;
    std::filesystem::create_directories(dir.path() / "bus/pci/devices");
    const std::string root = dir.path();
    for (const auto& command : std::vector<std::vector<std::string>>{
             {"list"}, {"info"}, {"add", "1", "-2"}, {"selftest"}, {"bench"}, {"stress"}}) {
        auto arguments = command;
        arguments.insert(arguments.end(), {"--sysfs-root", root});
        const auto [status, output] = vgpu(arguments);
        EXPECT_EQ(status, kFailure) << command[0];
        EXPECT_THAT(output, HasSubstr("-device vgpu-stub")) << command[0];

        arguments.emplace_back("--json");
        const auto [json_status, text] = vgpu(arguments);
        EXPECT_EQ(json_status, kFailure);
        const json document = json::parse(text);
        EXPECT_EQ(document["ok"], false);
        EXPECT_EQ(document["error"]["code"], "no-device");
    }
}

TEST(List, ShowsAddressesAndUio) {
    const TempDir dir;
    const auto device = dir.path() / "bus/pci/devices/0000:00:04.0";
    std::filesystem::create_directories(device / "uio/uio1");
    for (const auto& [file, text] :
         std::vector<std::pair<std::string, std::string>>{{"vendor", "0x1af4"},
                                                          {"device", "0x1111"},
                                                          {"class", "0x120000"},
                                                          {"revision", "0x02"}}) {
        std::ofstream(device / file) << text << '\n';
    }
    const std::string root = dir.path();
    EXPECT_EQ(vgpu({"list", "--sysfs-root", root}).second, "0000:00:04.0  uio1\n");
    const json list = json::parse(vgpu({"list", "--json", "--sysfs-root", root}).second);
    EXPECT_EQ(list["ok"], true);
    EXPECT_EQ(list["devices"], json::parse(R"([{"address": "0000:00:04.0", "uio": "uio1"}])"));
}

}  // namespace
}  // namespace vgpu::cli
