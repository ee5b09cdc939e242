// SPDX-License-Identifier: MIT
#include "mediator/devices/vm_memory.h"

#include <gtest/gtest.h>

namespace vgpu {
namespace {

Operation alloc_of(std::uint64_t size) {
    Operation operation;
    operation.job.opcode = VGPU_OP_MEMORY_ALLOC;
    operation.job.length = size;
    return operation;
}

// Returns the outcome of an allocation whose backend returns buffer `id`, or fails if that is 0.
Outcome allocate(VmMemory& memory, std::uint64_t size, BufferId id, std::size_t device = 0) {
    Operation operation = alloc_of(size);
    if (auto refused = memory.prepare(operation, device)) {
        return *refused;
    }
    Outcome outcome;
    outcome.buffer = id;
    if (id == 0) {
        outcome = no_memory_outcome(size);
    }
    memory.complete(operation, device, outcome);
    return outcome;
}

// Returns the status of an operation with this buffer use.
std::uint32_t status_of(VmMemory& memory, const BufferUse& use, std::size_t device = 0) {
    Operation operation;
    operation.job.opcode = VGPU_OP_MEMORY_COPY;
    operation.uses[0] = use;
    operation.use_count = 1;
    const auto refused = memory.prepare(operation, device);
    return refused ? refused->status : std::uint32_t{VGPU_ERR_NONE};
}

TEST(VmMemory, TurnsHandlesIntoBuffers) {
    VmMemory memory(0);
    const Outcome made = allocate(memory, 10, 77);
    ASSERT_EQ(made.result_count, 1U);
    Operation operation;
    operation.job.opcode = VGPU_OP_MEMORY_COPY;
    operation.uses[0] = {.handle = made.results[0], .offset = 0, .count = 10};
    operation.use_count = 1;
    EXPECT_FALSE(memory.prepare(operation, 0));
    EXPECT_EQ(operation.job.buffers[0], 77U);
}

// Rejected before execution: a buffer without a handle could not be freed.
TEST(VmMemory, AllocationsBeyondTheHandlesAreRefusedBeforeTheDeviceHasThem) {
    VmMemory memory(0);
    constexpr std::size_t kHandles = 65536;
    constexpr std::size_t kUnderWay = 10;
    for (BufferId id = 1; id <= kHandles - kUnderWay; ++id) {
        ASSERT_EQ(allocate(memory, 1, id).status, VGPU_ERR_NONE) << id;
    }
    Operation operation = alloc_of(1);
    for (std::size_t i = 0; i < kUnderWay; ++i) {
        ASSERT_FALSE(memory.prepare(operation, 0));
    }
    const auto refused = memory.prepare(operation, 0);
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->status, VGPU_ERR_CUDA_MEMORY_QUOTA);
    // An allocation that fails on the device releases its handle.
    Outcome failed = no_memory_outcome(1);
    memory.complete(operation, 0, failed);
    EXPECT_FALSE(memory.prepare(operation, 0));
}

TEST(VmMemory, HoldsAnOperationToTheBuffersEnd) {
    VmMemory memory(0);
    const std::uint32_t handle = allocate(memory, 100, 1).results[0];
    const auto bytes = [&](std::uint64_t offset, std::uint64_t count) {
        return status_of(memory, {.handle = handle, .offset = offset, .count = count});
    };
    const auto words = [&](std::uint64_t count) {
        return status_of(memory, {.handle = handle, .offset = 0, .count = count, .unit = 4});
    };
    EXPECT_EQ(bytes(0, 100), VGPU_ERR_NONE);
    EXPECT_EQ(bytes(100, 0), VGPU_ERR_NONE);
    EXPECT_EQ(bytes(1, 100), VGPU_ERR_CUDA_OUT_OF_BOUNDS);
    EXPECT_EQ(bytes(101, 0), VGPU_ERR_CUDA_OUT_OF_BOUNDS);
    EXPECT_EQ(bytes(UINT64_MAX, 1), VGPU_ERR_CUDA_OUT_OF_BOUNDS);
    EXPECT_EQ(bytes(UINT64_MAX - 49, 100), VGPU_ERR_CUDA_OUT_OF_BOUNDS);
    EXPECT_EQ(bytes(50, UINT64_MAX - 20), VGPU_ERR_CUDA_OUT_OF_BOUNDS);
    EXPECT_EQ(words(25), VGPU_ERR_NONE);
    EXPECT_EQ(words(26), VGPU_ERR_CUDA_OUT_OF_BOUNDS);
    EXPECT_EQ(words((std::uint64_t{1} << 62U) + 1), VGPU_ERR_CUDA_OUT_OF_BOUNDS);
}

TEST(VmMemory, AHandleOfAnotherDeviceIsNone) {
    VmMemory memory(0);
    const std::uint32_t handle = allocate(memory, 100, 1, 1).results[0];
    EXPECT_EQ(status_of(memory, {.handle = handle}, 0), VGPU_ERR_CUDA_INVALID_HANDLE);
    EXPECT_EQ(status_of(memory, {.handle = handle}, 1), VGPU_ERR_NONE);
    EXPECT_EQ(status_of(memory, {.handle = handle + 1}, 1), VGPU_ERR_CUDA_INVALID_HANDLE);
}

TEST(VmMemory, TheQuotaCountsWhatIsAllocatedAndWhatIsOnItsWay) {
    VmMemory memory(100);
    EXPECT_EQ(allocate(memory, 101, 1).status, VGPU_ERR_CUDA_MEMORY_QUOTA);
    EXPECT_EQ(allocate(memory, UINT64_MAX, 1).status, VGPU_ERR_CUDA_MEMORY_QUOTA);
    EXPECT_EQ(allocate(memory, 60, 1).status, VGPU_ERR_NONE);
    Operation under_way = alloc_of(30);
    EXPECT_FALSE(memory.prepare(under_way, 0));
    EXPECT_EQ(allocate(memory, 11, 2).status, VGPU_ERR_CUDA_MEMORY_QUOTA);
    EXPECT_EQ(allocate(memory, 10, 2).status, VGPU_ERR_NONE);
    Outcome failed = no_memory_outcome(30);
    memory.complete(under_way, 0, failed);
    EXPECT_EQ(memory.used(), 70U);
    EXPECT_EQ(allocate(memory, 30, 3).status, VGPU_ERR_NONE);
}

TEST(VmMemory, FreeingGivesBack) {
    VmMemory memory(100);
    const std::uint32_t handle = allocate(memory, 100, 1).results[0];
    Operation operation;
    operation.job.opcode = VGPU_OP_MEMORY_FREE;
    operation.uses[0] = {.handle = handle};
    operation.use_count = 1;
    ASSERT_FALSE(memory.prepare(operation, 0));
    Outcome freed;
    memory.complete(operation, 0, freed);
    EXPECT_EQ(memory.used(), 0U);
    EXPECT_EQ(memory.prepare(operation, 0)->status, VGPU_ERR_CUDA_INVALID_HANDLE);
    EXPECT_TRUE(memory.take_all().empty());
}

TEST(VmMemory, WhatIsFreeIsTheLessOfDeviceAndQuota) {
    VmMemory memory(std::uint64_t{5} << 32U);
    allocate(memory, 1, 1);
    Operation operation;
    operation.job.opcode = VGPU_OP_GET_DEVICE_INFO;
    DeviceInfo info;
    info.memory_free = std::uint64_t{7} << 32U;
    Outcome outcome = device_info_outcome(info);
    memory.complete(operation, 0, outcome);
    EXPECT_EQ(outcome.results[VGPU_INFO_MEMORY_FREE_HI], 4U);
    EXPECT_EQ(outcome.results[VGPU_INFO_MEMORY_FREE_LO], 0xFFFFFFFFU);
    info.memory_free = 9;
    outcome = device_info_outcome(info);
    memory.complete(operation, 0, outcome);
    EXPECT_EQ(outcome.results[VGPU_INFO_MEMORY_FREE_HI], 0U);
    EXPECT_EQ(outcome.results[VGPU_INFO_MEMORY_FREE_LO], 9U);
}

}  // namespace
}  // namespace vgpu
