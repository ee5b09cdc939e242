// SPDX-License-Identifier: MIT
#include "mediator/devices/handle_table.h"

#include <gtest/gtest.h>

#include <set>

namespace vgpu {
namespace {

TEST(HandleTable, FindsWhatWasPutIn) {
    HandleTable table;
    const auto first = table.insert({.id = 7, .size = 100, .device = 0});
    const auto second = table.insert({.id = 8, .size = 200, .device = 1});
    ASSERT_TRUE(first && second);
    EXPECT_NE(*first, 0U);
    EXPECT_NE(*first, *second);
    EXPECT_EQ(table.find(*first)->id, 7U);
    EXPECT_EQ(table.find(*second)->size, 200U);
    EXPECT_EQ(table.size(), 2U);
}

TEST(HandleTable, ZeroAndGuessesMeanNothing) {
    HandleTable table;
    const auto handle = table.insert({.id = 7, .size = 100, .device = 0});
    for (const std::uint32_t guess : {0U, 1U, *handle + 1, *handle + 0x10000, 0xFFFFFFFFU}) {
        EXPECT_EQ(table.find(guess), nullptr) << guess;
        EXPECT_FALSE(table.erase(guess)) << guess;
    }
    EXPECT_NE(table.find(*handle), nullptr);
}

TEST(HandleTable, AFreedHandleNeverComesBack) {
    constexpr std::uint32_t kGenerations = 50;
    HandleTable table(kGenerations);
    std::set<HandleTable::Handle> given;
    for (std::uint32_t i = 0; i < 2 * kGenerations; ++i) {
        const auto handle = table.insert({.id = i + 1, .size = 1, .device = 0});
        ASSERT_TRUE(handle);
        ASSERT_TRUE(given.insert(*handle).second) << "handle " << *handle << " given twice";
        for (const auto old : given) {
            ASSERT_EQ(table.find(old) != nullptr, old == *handle);
        }
        ASSERT_TRUE(table.erase(*handle));
        ASSERT_FALSE(table.erase(*handle));
    }
}

TEST(HandleTable, HoldsSoManyAndNoMore) {
    HandleTable table;
    std::optional<HandleTable::Handle> last;
    for (std::uint32_t i = 0; i < 65536; ++i) {
        last = table.insert({.id = i + 1, .size = 1, .device = 0});
        ASSERT_TRUE(last);
    }
    EXPECT_FALSE(table.insert({.id = 1, .size = 1, .device = 0}));
    ASSERT_TRUE(table.erase(*last));
    const auto next = table.insert({.id = 99, .size = 1, .device = 0});
    ASSERT_TRUE(next);
    EXPECT_NE(*next, *last);
    EXPECT_EQ(table.find(*last), nullptr);
}

TEST(HandleTable, GivesAllItHasAndIsEmpty) {
    HandleTable table;
    const auto gone = table.insert({.id = 1, .size = 1, .device = 0});
    const auto kept = table.insert({.id = 2, .size = 2, .device = 0});
    table.erase(*gone);
    const auto all = table.take_all();
    ASSERT_EQ(all.size(), 1U);
    EXPECT_EQ(all[0].id, 2U);
    EXPECT_EQ(table.find(*kept), nullptr);
    EXPECT_EQ(table.size(), 0U);
}

}  // namespace
}  // namespace vgpu
