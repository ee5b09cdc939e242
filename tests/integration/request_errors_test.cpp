// SPDX-License-Identifier: MIT
//
// Invalid requests: each gets its error and a message, the connection stays open, and its next
// request is served.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <functional>

#include "integration/test_mediator.h"

namespace vgpu::test {
namespace {

using Bytes = std::vector<std::uint8_t>;

struct BadRequest {
    const char* name;
    std::uint32_t expected;
    std::function<void(vgpu_request&)> change;
};

void PrintTo(const BadRequest& bad, std::ostream* out) {
    *out << bad.name;
}

class RequestErrors : public testing::TestWithParam<BadRequest> {};

// Expects `expected` for this payload and then a correct response on the same connection.
void expect_error(WirePeer& peer, const Bytes& payload, std::uint32_t expected) {
    peer.send_request(11, payload);
    const auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->header.request_id, 11U);
    EXPECT_EQ(answer->response().status, expected);
    EXPECT_EQ(answer->response().result_count, 0U);
    EXPECT_FALSE(answer->response_text().empty());
    peer.pool = 'A';
    peer.priority = VGPU_PRIORITY_MEDIUM;
    peer.send_request(12, make_add(20, 22));
    const auto good = peer.receive();
    ASSERT_TRUE(good);
    EXPECT_EQ(good->response().status, VGPU_ERR_NONE);
    EXPECT_EQ(good->word(0), 42U);
}

TEST_P(RequestErrors, IsAnsweredAndTheNextRequestIsServed) {
    TestMediator mediator({}, true);
    WirePeer peer = mediator.connect(1);
    Bytes payload = make_add(1, 2);
    vgpu_request fixed{};
    std::memcpy(&fixed, payload.data(), sizeof fixed);
    GetParam().change(fixed);
    std::memcpy(payload.data(), &fixed, sizeof fixed);
    expect_error(peer, payload, GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(
    Fields, RequestErrors,
    testing::Values(
        BadRequest{"Version", 1, [](auto& r) { r.version = 0x00020000; }},
        BadRequest{"FirstReservedField", 1, [](auto& r) { r.reserved[0] = 1; }},
        BadRequest{"SecondReservedField", 1, [](auto& r) { r.reserved[1] = 1; }},
        BadRequest{"UnknownFlag", 1, [](auto& r) { r.flags = 1U << 31U; }},
        BadRequest{"ParamCountOverTheEnd", 1, [](auto& r) { r.param_count = 3; }},
        BadRequest{"ParamCountThatWrapsAround", 1, [](auto& r) { r.param_count = 0x40000002; }},
        BadRequest{"DataOffsetWithinTheParams", 1,
                   [](auto& r) { r.data_offset = 36, r.data_length = 4; }},
        BadRequest{"DataOverTheEnd", 1, [](auto& r) { r.data_offset = 40, r.data_length = 1; }},
        BadRequest{"DataThatWrapsAround", 1,
                   [](auto& r) { r.data_offset = 0xFFFFFFFF, r.data_length = 41; }},
        BadRequest{"OneParamTooFew", 1, [](auto& r) { r.param_count = 1; }},
        BadRequest{"MemoryFreeWithTwoParams", 1, [](auto& r) { r.opcode = VGPU_OP_MEMORY_FREE; }},
        BadRequest{"MemoryAllocWithOneParam", 1,
                   [](auto& r) { r.opcode = VGPU_OP_MEMORY_ALLOC, r.param_count = 1; }},
        BadRequest{"MemoryCopyWithTwoParams", 1, [](auto& r) { r.opcode = VGPU_OP_MEMORY_COPY; }},
        BadRequest{"SynchronizeWithParams", 1, [](auto& r) { r.opcode = VGPU_OP_SYNCHRONIZE; }},
        BadRequest{"VectorAddWithTwoParams", 1, [](auto& r) { r.opcode = VGPU_OP_VECTOR_ADD; }},
        BadRequest{"SaxpyWithTwoParams", 1, [](auto& r) { r.opcode = VGPU_OP_SAXPY; }},
        BadRequest{"MatmulWithTwoParams", 1, [](auto& r) { r.opcode = VGPU_OP_MATMUL; }},
        BadRequest{"ReduceSumWithTwoParams", 1, [](auto& r) { r.opcode = VGPU_OP_REDUCE_SUM; }},
        BadRequest{"ReservedOpcode", 8, [](auto& r) { r.opcode = 0x0100; }},
        BadRequest{"VendorOpcode", 8, [](auto& r) { r.opcode = 0x1004; }},
        BadRequest{"HugeOpcode", 8, [](auto& r) { r.opcode = 0xFFFFFFFF; }},
        BadRequest{"AsyncAlloc", 1,
                   [](auto& r) { r.opcode = VGPU_OP_MEMORY_ALLOC, r.flags = VGPU_FLAG_ASYNC; }},
        BadRequest{"AsyncDeviceInfo", 1,
                   [](auto& r) { r.opcode = VGPU_OP_GET_DEVICE_INFO, r.flags = VGPU_FLAG_ASYNC; }},
        BadRequest{"AsyncSynchronize", 1,
                   [](auto& r) {
                       r.opcode = VGPU_OP_SYNCHRONIZE, r.flags = VGPU_FLAG_ASYNC, r.param_count = 0;
                   }}),
    [](const auto& row) { return std::string(row.param.name); });

struct RequestErrorsMore : testing::Test {
    TestMediator mediator{{}, true};
    WirePeer peer = mediator.connect(1);
};

TEST_F(RequestErrorsMore, AnEmptyRequestIsAnInvalidLength) {
    expect_error(peer, {}, VGPU_ERR_INVALID_LENGTH);
}

TEST_F(RequestErrorsMore, ARequestShorterThanItsFixedPartIsInvalid) {
    Bytes payload = make_add(1, 2);
    payload.resize(31);
    expect_error(peer, payload, VGPU_ERR_INVALID_REQUEST);
}

TEST_F(RequestErrorsMore, ThreeParamsAreOneTooMany) {
    expect_error(peer, make_request(VGPU_OP_CUDA_KERNEL, std::array<std::uint32_t, 3>{1, 2, 3}),
                 VGPU_ERR_INVALID_REQUEST);
}

TEST_F(RequestErrorsMore, APoolThatIsNotServed) {
    peer.pool = 'Z';
    expect_error(peer, make_add(1, 2), VGPU_ERR_INVALID_POOL);
}

TEST_F(RequestErrorsMore, APoolThatIsNoLetter) {
    peer.pool = '\0';
    expect_error(peer, make_add(1, 2), VGPU_ERR_INVALID_POOL);
}

TEST_F(RequestErrorsMore, APriorityOver2) {
    peer.priority = 3;
    expect_error(peer, make_add(1, 2), VGPU_ERR_INVALID_REQUEST);
}

TEST_F(RequestErrorsMore, LengthBeforePoolBeforeOperation) {
    peer.pool = 'Z';
    Bytes payload = make_request(0x4242);
    payload.resize(31);
    expect_error(peer, payload, VGPU_ERR_INVALID_REQUEST);
    peer.pool = 'Z';
    expect_error(peer, make_request(0x4242), VGPU_ERR_INVALID_POOL);
}

TEST_F(RequestErrorsMore, NopIgnoresParamsAndDataAndBoostIsAccepted) {
    const Bytes data{1, 2, 3};
    peer.send_request(1, make_request(VGPU_OP_NOP, std::array<std::uint32_t, 5>{1, 2, 3, 4, 5},
                                      data, VGPU_FLAG_BOOST));
    const auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->response().status, VGPU_ERR_NONE);
    EXPECT_EQ(answer->response().result_count, 0U);
    EXPECT_EQ(answer->response().data_length, 0U);
}

TEST_F(RequestErrorsMore, TheLargestRequestIsServed) {
    Bytes payload = make_add(40, 2);
    payload.resize(VGPU_MSG_MAX_PAYLOAD, 0xAB);
    peer.send_request(1, payload);
    const auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->word(0), 42U);
}

TEST_F(RequestErrorsMore, DeviceInfoNamesTheDevice) {
    peer.send_request(1, make_request(VGPU_OP_GET_DEVICE_INFO));
    const auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->response().result_count, VGPU_INFO_RESULT_COUNT);
    EXPECT_EQ(answer->word(VGPU_INFO_BACKEND), VGPU_BACKEND_CPU);
    EXPECT_TRUE(answer->response_text().starts_with("CPU"));
}

}  // namespace
}  // namespace vgpu::test
