// SPDX-License-Identifier: MIT
//
// Buffers as seen by a guest: data is preserved, errors are specific and have no side effects, and
// nothing outlives its VM.
#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "integration/test_mediator.h"

namespace vgpu::test {
namespace {

using Bytes = std::vector<std::uint8_t>;
using Words = std::vector<std::uint32_t>;
using Kind = RecordedEvent::Kind;

constexpr std::uint32_t low(std::uint64_t value) {
    return static_cast<std::uint32_t>(value);
}
constexpr std::uint32_t high(std::uint64_t value) {
    return static_cast<std::uint32_t>(value >> 32U);
}

// A VM's connection with helpers for the memory operations.
struct Vm {
    WirePeer peer;

    WireMessage call(std::uint32_t opcode, const Words& params, const Bytes& data = {}) {
        peer.send_request(1, make_request(opcode, params, data));
        auto answer = peer.receive();
        EXPECT_TRUE(answer);
        return answer.value_or(WireMessage{});
    }
    WireMessage alloc(std::uint64_t size) {
        return call(VGPU_OP_MEMORY_ALLOC, {low(size), high(size)});
    }
    std::uint32_t handle_of(std::uint64_t size) { return alloc(size).word(0).value_or(0); }
    std::uint32_t free(std::uint32_t handle) {
        return call(VGPU_OP_MEMORY_FREE, {handle}).response().status;
    }
    std::uint32_t put(std::uint32_t handle, std::uint64_t offset, const Bytes& data) {
        return call(VGPU_OP_MEMORY_COPY, {VGPU_COPY_TO_DEVICE, handle, low(offset), high(offset)},
                    data)
            .response()
            .status;
    }
    WireMessage get(std::uint32_t handle, std::uint64_t offset, std::uint32_t length) {
        return call(VGPU_OP_MEMORY_COPY,
                    {VGPU_COPY_FROM_DEVICE, handle, low(offset), high(offset), length});
    }
    Bytes bytes(std::uint32_t handle, std::uint64_t offset, std::uint32_t length) {
        const std::string text = get(handle, offset, length).response_text();
        return {text.begin(), text.end()};
    }
    std::uint32_t move(std::uint32_t to, std::uint64_t to_offset, std::uint32_t from,
                       std::uint64_t from_offset, std::uint64_t length) {
        return call(VGPU_OP_MEMORY_COPY,
                    {VGPU_COPY_WITHIN_DEVICE, to, low(to_offset), high(to_offset), from,
                     low(from_offset), high(from_offset), low(length), high(length)})
            .response()
            .status;
    }
    std::uint64_t memory_free() {
        const WireMessage info = call(VGPU_OP_GET_DEVICE_INFO, {});
        return std::uint64_t{info.word(VGPU_INFO_MEMORY_FREE_HI).value_or(0)} << 32U |
               info.word(VGPU_INFO_MEMORY_FREE_LO).value_or(0);
    }
};

struct Memory : testing::Test {
    TestMediator mediator{{}, true};
    Vm vm{mediator.connect(1)};
};

TEST_F(Memory, IsZeroAndKeepsWhatIsPutIn) {
    const std::uint32_t handle = vm.handle_of(5000);
    ASSERT_NE(handle, 0U);
    EXPECT_EQ(vm.bytes(handle, 4008, 992), Bytes(992));
    const Bytes data{1, 2, 3, 4, 5};
    EXPECT_EQ(vm.put(handle, 4995, data), VGPU_ERR_NONE);
    EXPECT_EQ(vm.bytes(handle, 4993, 7), (Bytes{0, 0, 1, 2, 3, 4, 5}));
    EXPECT_EQ(vm.free(handle), VGPU_ERR_NONE);
}

TEST_F(Memory, IsZeroAgainForTheNextVm) {
    constexpr std::uint64_t kSize = 4096;
    for (int round = 0; round < 20; ++round) {
        Vm other{mediator.connect(2)};
        const std::uint32_t handle = other.handle_of(kSize);
        for (std::uint64_t at = 0; at + 512 <= kSize; at += 512) {
            ASSERT_EQ(other.bytes(handle, at, 512), Bytes(512));
            ASSERT_EQ(other.put(handle, at, Bytes(512, 0xEE)), VGPU_ERR_NONE);
        }
    }
}

TEST_F(Memory, MovesWithinTheDeviceAlsoWhereItOverlaps) {
    const std::uint32_t a = vm.handle_of(8);
    const std::uint32_t b = vm.handle_of(8);
    ASSERT_EQ(vm.put(a, 0, {1, 2, 3, 4, 5, 6, 7, 8}), VGPU_ERR_NONE);
    EXPECT_EQ(vm.move(b, 2, a, 4, 4), VGPU_ERR_NONE);
    EXPECT_EQ(vm.bytes(b, 0, 8), (Bytes{0, 0, 5, 6, 7, 8, 0, 0}));
    EXPECT_EQ(vm.move(a, 2, a, 0, 6), VGPU_ERR_NONE);
    EXPECT_EQ(vm.bytes(a, 0, 8), (Bytes{1, 2, 1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(vm.move(a, 0, a, 2, 6), VGPU_ERR_NONE);
    EXPECT_EQ(vm.bytes(a, 0, 8), (Bytes{1, 2, 3, 4, 5, 6, 5, 6}));
    EXPECT_EQ(vm.move(a, 8, b, 8, 0), VGPU_ERR_NONE);
}

TEST_F(Memory, AllocatingNothingIsAnInvalidRequest) {
    EXPECT_EQ(vm.alloc(0).response().status, VGPU_ERR_INVALID_REQUEST);
}

TEST_F(Memory, AllocatingMoreThanThereIsFailsAndChangesNothing) {
    const std::uint64_t before = vm.memory_free();
    for (const std::uint64_t size : {before + 1, std::uint64_t{1} << 62U, UINT64_MAX}) {
        const WireMessage answer = vm.alloc(size);
        EXPECT_EQ(answer.response().status, VGPU_ERR_CUDA_OUT_OF_MEMORY) << size;
        EXPECT_FALSE(answer.response_text().empty());
    }
    EXPECT_EQ(vm.memory_free(), before);
}

TEST_F(Memory, AHandleThatWasNeverGivenOrIsFreedIsInvalid) {
    const std::uint32_t freed = vm.handle_of(16);
    const std::uint32_t good = vm.handle_of(16);
    ASSERT_EQ(vm.free(freed), VGPU_ERR_NONE);
    const std::uint32_t reused = vm.handle_of(16);
    EXPECT_NE(reused, freed);
    for (const std::uint32_t handle : {freed, 0U, 0xFFFFFFFFU, good + 0x10000}) {
        EXPECT_EQ(vm.free(handle), VGPU_ERR_CUDA_INVALID_HANDLE);
        EXPECT_EQ(vm.put(handle, 0, {1}), VGPU_ERR_CUDA_INVALID_HANDLE);
        EXPECT_EQ(vm.get(handle, 0, 1).response().status, VGPU_ERR_CUDA_INVALID_HANDLE);
        EXPECT_EQ(vm.move(good, 0, handle, 0, 1), VGPU_ERR_CUDA_INVALID_HANDLE);
        EXPECT_EQ(vm.move(handle, 0, good, 0, 1), VGPU_ERR_CUDA_INVALID_HANDLE);
    }
    EXPECT_EQ(vm.bytes(good, 0, 16), Bytes(16));
}

TEST_F(Memory, AnotherVmsHandleLooksLikeNone) {
    const std::uint32_t mine = vm.handle_of(16);
    ASSERT_EQ(vm.put(mine, 0, Bytes(16, 7)), VGPU_ERR_NONE);
    Vm other{mediator.connect(2)};
    const WireMessage stolen = other.get(mine, 0, 16);
    EXPECT_EQ(stolen.response().status, VGPU_ERR_CUDA_INVALID_HANDLE);
    EXPECT_EQ(stolen.response_text(), other.get(mine + 1, 0, 16)
                                          .response_text()
                                          .replace(0, std::string::npos, stolen.response_text()));
    EXPECT_EQ(other.put(mine, 0, Bytes(16)), VGPU_ERR_CUDA_INVALID_HANDLE);
    EXPECT_EQ(other.free(mine), VGPU_ERR_CUDA_INVALID_HANDLE);
    EXPECT_EQ(vm.bytes(mine, 0, 16), Bytes(16, 7));
}

TEST_F(Memory, NothingReachesBeyondABuffersEnd) {
    const std::uint32_t a = vm.handle_of(16);
    const std::uint32_t b = vm.handle_of(32);
    ASSERT_EQ(vm.put(a, 0, Bytes(16, 1)), VGPU_ERR_NONE);
    constexpr auto kOut = VGPU_ERR_CUDA_OUT_OF_BOUNDS;
    EXPECT_EQ(vm.put(a, 9, Bytes(8)), kOut);
    EXPECT_EQ(vm.put(a, 17, {}), kOut);
    EXPECT_EQ(vm.put(a, UINT64_MAX, {9}), kOut);
    EXPECT_EQ(vm.put(a, UINT64_MAX - 6, Bytes(8)), kOut);
    EXPECT_EQ(vm.get(a, 0, 17).response().status, kOut);
    EXPECT_EQ(vm.get(a, UINT64_MAX - 15, 16).response().status, kOut);
    EXPECT_EQ(vm.move(a, 0, b, 0, 17), kOut);
    EXPECT_EQ(vm.move(b, 0, a, 0, 17), kOut);
    EXPECT_EQ(vm.move(b, 8, a, 8, UINT64_MAX - 7), kOut);
    EXPECT_EQ(vm.move(b, UINT64_MAX - 3, a, 0, 4), kOut);
    EXPECT_EQ(vm.bytes(a, 0, 16), Bytes(16, 1));
    EXPECT_EQ(vm.bytes(b, 0, 32), Bytes(32));
}

TEST_F(Memory, WrongCopiesAreInvalidRequests) {
    const std::uint32_t handle = vm.handle_of(4096);
    const auto status = [&](const Words& params) {
        return vm.call(VGPU_OP_MEMORY_COPY, params).response().status;
    };
    EXPECT_EQ(status({}), VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(status({3, handle, 0, 0}), VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(status({VGPU_COPY_TO_DEVICE, handle, 0}), VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(status({VGPU_COPY_FROM_DEVICE, handle, 0, 0}), VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(status({VGPU_COPY_WITHIN_DEVICE, handle, 0, 0, handle, 0, 0, 1}),
              VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(status({VGPU_COPY_FROM_DEVICE, handle, 0, 0, 993}), VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(vm.bytes(handle, 0, 992), Bytes(992));
}

TEST(MemoryQuota, LimitsWhatAVmHasAtOnce) {
    Settings settings;
    settings.memory_per_vm = 1000;
    TestMediator mediator(settings, true);
    Vm vm{mediator.connect(1)};
    Vm other{mediator.connect(2)};
    EXPECT_EQ(vm.memory_free(), 1000U);
    const std::uint32_t first = vm.handle_of(600);
    ASSERT_NE(first, 0U);
    EXPECT_EQ(vm.memory_free(), 400U);
    EXPECT_EQ(other.memory_free(), 1000U);
    const WireMessage refused = vm.alloc(401);
    EXPECT_EQ(refused.response().status, VGPU_ERR_CUDA_MEMORY_QUOTA);
    EXPECT_FALSE(refused.response_text().empty());
    EXPECT_NE(vm.handle_of(400), 0U);
    EXPECT_EQ(vm.memory_free(), 0U);
    EXPECT_EQ(vm.free(first), VGPU_ERR_NONE);
    EXPECT_EQ(vm.memory_free(), 600U);
    EXPECT_NE(vm.handle_of(600), 0U);
}

// The backend performs frees asynchronously after a disconnect. The next request on the same
// executor thread runs after them, so a completed allocation shows that they are done.
std::uint64_t settled_free(Vm& vm) {
    const std::uint32_t probe = vm.handle_of(1);
    EXPECT_EQ(vm.free(probe), VGPU_ERR_NONE);
    return vm.memory_free();
}

TEST(MemoryCycles, AThousandVmsThatVanishLeaveNothing) {
    TestMediator mediator({}, true);
    Vm observer{mediator.connect(1)};
    const std::uint64_t before = settled_free(observer);
    for (std::uint32_t cycle = 0; cycle < 1000; ++cycle) {
        Vm vm{mediator.connect(1000 + cycle % 10)};
        for (std::uint64_t size = 1; size <= 100'000; size *= 10) {
            ASSERT_NE(vm.handle_of(size), 0U);
        }
        ASSERT_LT(observer.memory_free(), before);
        vm.peer.close();
        ASSERT_TRUE(mediator.events.wait_for(Kind::kClosed, cycle + 1));
    }
    EXPECT_EQ(settled_free(observer), before);
}

TEST(MemoryCycles, AVmThatVanishesWhileItsRequestRunsLeavesNothing) {
    TestMediator mediator;
    Vm observer{mediator.connect(1)};
    Vm vm{mediator.connect(2)};
    mediator.hold->release(3);
    const std::uint64_t before = observer.memory_free();
    const std::uint32_t handle = vm.handle_of(1000);
    ASSERT_NE(handle, 0U);
    EXPECT_EQ(observer.memory_free(), before - 1000);
    // An allocation in flight, with requests behind it, when the peer disconnects.
    vm.peer.send_request(1, make_request(VGPU_OP_MEMORY_ALLOC, Words{5000, 0}));
    ASSERT_TRUE(mediator.hold->wait_submitted(4));
    vm.peer.send_request(2, make_request(VGPU_OP_MEMORY_FREE, Words{handle}));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 5));
    vm.peer.close();
    ASSERT_TRUE(mediator.events.wait_for(Kind::kClosed, 1));
    mediator.hold->open();
    ASSERT_TRUE(mediator.hold->wait_submitted(6));
    EXPECT_EQ(settled_free(observer), before);
}

}  // namespace
}  // namespace vgpu::test
