// SPDX-License-Identifier: MIT
#include "base/number.h"

#include <gtest/gtest.h>

namespace vgpu {
namespace {

TEST(ParseNumber, TakesDecimalAndHexadecimal) {
    EXPECT_EQ(parse_number("0"), 0U);
    EXPECT_EQ(parse_number("10"), 10U);
    EXPECT_EQ(parse_number("0x10"), 16U);
    EXPECT_EQ(parse_number("0X0fF"), 255U);
    EXPECT_EQ(parse_number("18446744073709551615"), ~std::uint64_t{0});
    EXPECT_EQ(parse_number("0xffffffffffffffff"), ~std::uint64_t{0});
}

TEST(ParseNumber, RefusesEverythingElse) {
    for (const char* text : {"",
                             "010",
                             "00",
                             "0b1",
                             "0o7",
                             "0x",
                             "x10",
                             "0x0x1",
                             "-1",
                             "+1",
                             " 1",
                             "1 ",
                             "1x",
                             "1.0",
                             "1e3",
                             "1_000",
                             "1'000",
                             "0x1g",
                             "\u0661",
                             "18446744073709551616",
                             "0x10000000000000000"}) {
        EXPECT_EQ(parse_number(text), std::nullopt) << text;
    }
}

TEST(ParseSignedNumber, TakesASign) {
    EXPECT_EQ(parse_signed_number("-1"), -1);
    EXPECT_EQ(parse_signed_number("+0x10"), 16);
    EXPECT_EQ(parse_signed_number("-0x80000000"), -2147483648LL);
    for (const char* text : {"", "-", "+", "--1", "+-1", "- 1", "-010", "9223372036854775808"}) {
        EXPECT_EQ(parse_signed_number(text), std::nullopt) << text;
    }
}

TEST(ParseFraction, TakesAPoint) {
    EXPECT_EQ(parse_fraction("0.25"), 0.25);
    EXPECT_EQ(parse_fraction("10.5"), 10.5);
    EXPECT_EQ(parse_fraction("3"), 3.0);
    EXPECT_EQ(parse_fraction("0x10"), 16.0);
    for (const char* text : {"", ".", ".5", "5.", "010", "01.5", "1.5.5", "1e3", "1.5e3", "-1.5",
                             "+1.5", "inf", "nan", "0x1.8", "0x1p3", "1,5", "1.5 "}) {
        EXPECT_EQ(parse_fraction(text), std::nullopt) << text;
    }
}

TEST(ParseSize, TakesPowersOf1024) {
    EXPECT_EQ(parse_size("100"), 100U);
    EXPECT_EQ(parse_size("64M"), 64U << 20);
    EXPECT_EQ(parse_size("0x40K"), 64U << 10);
    for (const char* text : {"", "K", "064M", "1T", "1KB", "1 K", "-1", "1.5M", "17179869184G"}) {
        EXPECT_EQ(parse_size(text), std::nullopt) << text;
    }
}

}  // namespace
}  // namespace vgpu
