// SPDX-License-Identifier: MIT
#include "ipc/file_line.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace vgpu {
namespace {

TEST(FileLine, ParsesTheExampleOfTheOldProtocol) {
    const auto request = parse_file_request("A:2:1:100:200\n");
    ASSERT_TRUE(request);
    EXPECT_EQ(request->pool, 'A');
    EXPECT_EQ(request->priority, 2);
    EXPECT_EQ(request->vm_id, 1U);
    EXPECT_EQ(request->a, 100U);
    EXPECT_EQ(request->b, 200U);
    EXPECT_EQ(file_request_line(*request), "A:2:1:100:200\n");
}

TEST(FileLine, AcceptsWhatScanfAccepts) {
    for (const char* const line :
         {"A:2:1:100:200", "A:2:1:100:200\r\n", " A : 2 : 1 : 100 : 200 \n", "A:2:1:+100:0200\n",
          "A:2:1:100:200\n\n", "A:02:001:100:200\t\n"}) {
        const auto request = parse_file_request(line);
        ASSERT_TRUE(request) << line;
        EXPECT_EQ(request->a + request->b, 300U) << line;
    }
}

TEST(FileLine, NumbersWrapAt32Bits) {
    const std::vector<std::pair<std::string, std::string>> sums{
        {"-5:3", "-2\n"},
        {"2147483647:1", "-2147483648\n"},
        {"-2147483648:-1", "2147483647\n"},
        {"4294967295:1", "0\n"},
        {"4294967297:1", "2\n"},
        {"-0:0", "0\n"},
        {"99999999999999999999:0", "-1\n"},  // 2^63 - 1 is all ones in its low 32 bits
        {"-99999999999999999999:7", "7\n"},
    };
    for (const auto& [numbers, sum] : sums) {
        const auto request = parse_file_request("A:1:1:" + numbers + "\n");
        ASSERT_TRUE(request) << numbers;
        EXPECT_EQ(file_result_line(request->a + request->b), sum) << numbers;
    }
}

TEST(FileLine, RejectsEverythingElse) {
    for (const char* const line : {"",
                                   "\n",
                                   "hello\n",
                                   "A:2:1:100\n",
                                   "A:2:1:100:200:300\n",
                                   "AB:2:1:100:200\n",
                                   ":2:1:100:200\n",
                                   "1:2:1:100:200\n",
                                   "A:3:1:100:200\n",
                                   "A:-1:1:100:200\n",
                                   "A:2:-1:100:200\n",
                                   "A:2:4294967296:100:200\n",
                                   "A:2:1::200\n",
                                   "A:2:1:1.5:200\n",
                                   "A:2:1:0x10:200\n",
                                   "A:2:1:100:200x\n",
                                   "A:2:1:+-5:200\n",
                                   "A:2:1:- 5:200\n",
                                   "A:2:1:100:200\nA:2:1:1:1\n",
                                   "::::\n"}) {
        EXPECT_FALSE(parse_file_request(line)) << line;
    }
    EXPECT_FALSE(parse_file_request(std::string("A:2:1:100:200\0\n", 15)));
}

TEST(FileLine, ErrorsQuoteTheLineSafely) {
    const auto request = parse_file_request(std::string(500, '\x1b') + ":x\n");
    ASSERT_FALSE(request);
    EXPECT_EQ(request.error().message.find('\x1b'), std::string::npos);
    EXPECT_LT(request.error().message.size(), 250U);
}

TEST(FileLine, ResponsesHaveASumOrAnError) {
    const auto sum = parse_file_response("-2\r\n");
    ASSERT_TRUE(sum);
    EXPECT_EQ(sum->sum, 0xFFFFFFFEU);
    EXPECT_EQ(sum->code, 0U);
    const auto error = parse_file_response(file_error_line(0xF0, "no pool\nZ"));
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code, 0xF0U);
    EXPECT_EQ(error->error, "no pool Z");
    for (const char* const line : {"Segmentation fault\n", "ERROR\n", "ERROR 0x\n", "ERROR 0x0\n",
                                   "ERROR 0x00: none\n", "ERROR 0x001: x\n", "\n", ""}) {
        EXPECT_FALSE(parse_file_response(line)) << line;
    }
    EXPECT_LE(file_error_line(1, std::string(5000, 'x')).size(), kMostFileLine);
}

TEST(FileLine, FolderNames) {
    std::uint32_t id = 0;
    EXPECT_TRUE(parse_vm_folder("vm0", id));
    EXPECT_TRUE(parse_vm_folder("vm42", id));
    EXPECT_EQ(id, 42U);
    EXPECT_TRUE(parse_vm_folder(vm_folder_name(4294967295U), id));
    EXPECT_EQ(id, 4294967295U);
    for (const char* const name :
         {"", "vm", "vm01", "vm-1", "vm4294967296", "vm1 ", "vm1x", "VM1", "xvm1", "vm+1"}) {
        EXPECT_FALSE(parse_vm_folder(name, id)) << name;
    }
}

}  // namespace
}  // namespace vgpu
