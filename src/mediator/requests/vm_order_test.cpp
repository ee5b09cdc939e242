// SPDX-License-Identifier: MIT
#include "mediator/requests/vm_order.h"

#include <gtest/gtest.h>

namespace vgpu {
namespace {

const Outcome kFailure = Outcome::failure(VGPU_ERR_CUDA_OUT_OF_BOUNDS, "first");
const Outcome kLaterFailure = Outcome::failure(VGPU_ERR_CUDA, "later");

TEST(VmOrder, ASynchronizeWithNothingOpenIsDoneAtOnce) {
    VmOrder order;
    EXPECT_EQ(order.synchronize(1)->status, VGPU_ERR_NONE);
    EXPECT_TRUE(order.end(order.accept()).empty());
    EXPECT_EQ(order.synchronize(2)->status, VGPU_ERR_NONE);
}

TEST(VmOrder, ASynchronizeWaitsForWhatWasBeforeItAlone) {
    VmOrder order;
    const auto a = order.accept();
    const auto b = order.accept();
    EXPECT_FALSE(order.synchronize(100));
    const auto c = order.accept();
    EXPECT_FALSE(order.synchronize(101));
    EXPECT_EQ(order.waiting(), 2U);
    EXPECT_TRUE(order.end(c).empty());
    EXPECT_TRUE(order.end(b).empty());
    const auto done = order.end(a);
    ASSERT_EQ(done.size(), 2U);
    EXPECT_EQ(done[0].token, 100U);
    EXPECT_EQ(done[1].token, 101U);
    EXPECT_EQ(order.waiting(), 0U);
}

TEST(VmOrder, TheFirstFailureIsToldOnce) {
    VmOrder order;
    order.end(order.accept(), &kFailure);
    order.end(order.accept(), &kLaterFailure);
    const auto told = order.synchronize(1);
    EXPECT_EQ(told->status, VGPU_ERR_CUDA_OUT_OF_BOUNDS);
    EXPECT_EQ(told->data, "first");
    EXPECT_EQ(order.synchronize(2)->status, VGPU_ERR_NONE);
}

TEST(VmOrder, AFailureBelongsToTheFirstSynchronizeAfterItsRequest) {
    VmOrder order;
    const auto a = order.accept();
    EXPECT_FALSE(order.synchronize(100));
    const auto b = order.accept();
    EXPECT_FALSE(order.synchronize(101));
    const auto c = order.accept();
    order.end(c, &kLaterFailure);
    order.end(b, &kFailure);
    const auto done = order.end(a);
    ASSERT_EQ(done.size(), 2U);
    EXPECT_EQ(done[0].outcome.status, VGPU_ERR_NONE);
    EXPECT_EQ(done[1].outcome.status, VGPU_ERR_CUDA_OUT_OF_BOUNDS);
    EXPECT_EQ(order.synchronize(102)->status, VGPU_ERR_CUDA);
}

}  // namespace
}  // namespace vgpu
