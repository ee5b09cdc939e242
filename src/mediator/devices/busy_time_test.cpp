// SPDX-License-Identifier: MIT
#include "mediator/devices/busy_time.h"

#include <gtest/gtest.h>

namespace vgpu {
namespace {

TEST(BusyTime, IsSpreadOverTheSecondsInWhichItRan) {
    using std::chrono::milliseconds;
    using std::chrono::seconds;
    BusyTime busy;
    const auto start = seconds(1000);
    EXPECT_EQ(busy.share(start), 0);
    busy.add(milliseconds(2500), start);
    EXPECT_DOUBLE_EQ(busy.share(start), 0.25);
    // Only the part of an execution that lies within the window counts.
    EXPECT_DOUBLE_EQ(busy.share(start + seconds(7)), 0.25);
    EXPECT_DOUBLE_EQ(busy.share(start + seconds(8)), 0.2);
    EXPECT_DOUBLE_EQ(busy.share(start + seconds(10)), 0);
    busy.add(seconds(60), start + seconds(60));
    EXPECT_DOUBLE_EQ(busy.share(start + seconds(60)), 1);
    EXPECT_EQ(busy.total(), milliseconds(62500));
}

}  // namespace
}  // namespace vgpu
