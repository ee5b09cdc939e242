// SPDX-License-Identifier: MIT
//
// All transitions of STATUS and their acknowledgement.
#include <array>

#include "qtest/stub.h"

namespace vgpu::test {
namespace {

class StateTest : public DeviceTest {
  protected:
    std::uint32_t status() { return stub().reg(VGPU_REG_STATUS); }
    // Submits an addition and completes it with `code`.
    void complete(std::uint32_t id, std::uint32_t code) {
        stub().submit(id, make_add(1, 2));
        expect_request(id, make_add(1, 2));
        answer(id, make_response(code));
        ASSERT_NE(stub().wait_done(), VGPU_STATUS_BUSY);
    }
};

TEST_F(StateTest, RequestAndAnswer) {
    start(",pool_id=B,priority=high");
    stub().submit(0xCAFE, make_add(100, 200));
    EXPECT_EQ(status(), VGPU_STATUS_BUSY);
    const auto request = peer().receive();
    ASSERT_TRUE(request);
    EXPECT_EQ(request->header.pool_id, 'B');
    EXPECT_EQ(request->header.priority, VGPU_PRIORITY_HIGH);
    EXPECT_EQ(request->header.request_id, 0xCAFEU);
    EXPECT_EQ(request->payload, make_add(100, 200));

    const std::array<std::uint32_t, 1> results{300};
    const auto response = make_response(0, results, 5);
    answer(*request, response);
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
    EXPECT_EQ(status(), VGPU_STATUS_DONE) << "reading STATUS does not acknowledge";
    EXPECT_EQ(stub().response(), response);
    EXPECT_EQ(stub().reg(VGPU_REG_REQUEST_ID), 0xCAFEU);
    EXPECT_EQ(stub().reg(VGPU_REG_ERROR_CODE), 0U);
}

TEST_F(StateTest, ReadingResponseLengthAcknowledgesDone) {
    start();
    complete(1, 0);
    EXPECT_EQ(stub().reg(VGPU_REG_ERROR_CODE), 0U);
    EXPECT_EQ(status(), VGPU_STATUS_DONE) << "ERROR_CODE acknowledges only an error";
    EXPECT_EQ(stub().reg(VGPU_REG_RESPONSE_LEN), sizeof(vgpu_response));
    EXPECT_EQ(status(), VGPU_STATUS_IDLE);
    EXPECT_EQ(stub().reg(VGPU_REG_RESPONSE_LEN), sizeof(vgpu_response)) << "it stays readable";
}

TEST_F(StateTest, ReadingAnyByteOfTheResponseAcknowledgesDone) {
    start();
    std::uint32_t id = 1;
    for (const auto& [offset, size] :
         std::initializer_list<std::pair<std::uint32_t, unsigned>>{{VGPU_RESPONSE_BUF, 1},
                                                                   {VGPU_RESPONSE_BUF + 1023, 1},
                                                                   {VGPU_RESPONSE_BUF + 511, 2},
                                                                   {VGPU_RESPONSE_BUF + 1020, 8},
                                                                   {VGPU_RESPONSE_BUF - 1, 2},
                                                                   {VGPU_RESPONSE_BUF - 7, 8}}) {
        complete(id++, 0);
        stub().read(offset, size);
        EXPECT_EQ(status(), VGPU_STATUS_IDLE) << size << " bytes at " << offset;
    }
}

TEST_F(StateTest, OtherReadsDoNotAcknowledgeDone) {
    start();
    complete(1, 0);
    for (std::uint32_t offset = 0; offset < VGPU_REGS_END; offset += 4) {
        if (offset != VGPU_REG_RESPONSE_LEN) {
            stub().reg(offset);
            EXPECT_EQ(status(), VGPU_STATUS_DONE) << offset;
        }
    }
    stub().read(VGPU_REG_RESPONSE_LEN, 2);  // an invalid access
    stub().read(VGPU_RESPONSE_BUF - 1, 1);
    stub().read(VGPU_RESPONSE_BUF - 8, 8);
    stub().read(VGPU_RESERVED_BEGIN, 8);
    EXPECT_EQ(status(), VGPU_STATUS_DONE);
}

TEST_F(StateTest, OnlyErrorCodeAcknowledgesAnError) {
    start();
    complete(1, VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(status(), VGPU_STATUS_ERROR);
    for (std::uint32_t offset = 0; offset < VGPU_REGS_END; offset += 4) {
        if (offset != VGPU_REG_ERROR_CODE) {
            stub().reg(offset);
        }
    }
    stub().read(VGPU_RESPONSE_BUF, 8);
    EXPECT_EQ(status(), VGPU_STATUS_ERROR);
    EXPECT_EQ(stub().reg(VGPU_REG_ERROR_CODE), VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(status(), VGPU_STATUS_IDLE);
    EXPECT_EQ(stub().reg(VGPU_REG_ERROR_CODE), VGPU_ERR_INVALID_REQUEST) << "it stays readable";
    EXPECT_EQ(stub().reg(VGPU_REG_RESPONSE_LEN), sizeof(vgpu_response))
        << "the response to a failed request can be read";
}

TEST_F(StateTest, EveryStatusOfAResponseBecomesAnErrorCode) {
    start();
    std::uint32_t id = 1;
    for (const auto& [code, expected] :
         std::initializer_list<std::pair<std::uint32_t, std::uint32_t>>{{1, 1},
                                                                        {5, 5},
                                                                        {0x0B, 0x0B},
                                                                        {0xF0, 0xF0},
                                                                        {0xFF, 0xFF},
                                                                        {0x100, VGPU_ERR_CUDA},
                                                                        {~0U, VGPU_ERR_CUDA}}) {
        complete(id++, code);
        EXPECT_EQ(wait_error(), expected);
    }
}

TEST_F(StateTest, DoorbellWhileDoneOrErrorActsAsWhileIdle) {
    start();
    complete(1, 0);
    ASSERT_EQ(status(), VGPU_STATUS_DONE);
    complete(2, VGPU_ERR_CUDA);
    ASSERT_EQ(status(), VGPU_STATUS_ERROR);
    // The next doorbell clears the result of the last request, but not the buffer.
    stub().submit(3, make_add(1, 2));
    EXPECT_EQ(status(), VGPU_STATUS_BUSY);
    EXPECT_EQ(stub().reg(VGPU_REG_ERROR_CODE), 0U);
    EXPECT_EQ(stub().reg(VGPU_REG_RESPONSE_LEN), 0U);
    EXPECT_EQ(stub().read(VGPU_RESPONSE_BUF, 8), 0x0000000500010000U);
    EXPECT_EQ(status(), VGPU_STATUS_BUSY) << "nothing acknowledges a request in flight";
    expect_request(3, make_add(1, 2));
    answer(3, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
}

TEST_F(StateTest, DoorbellWhileBusyChangesNothing) {
    start();
    stub().submit(1, make_add(1, 2));
    stub().submit(2, make_add(3, 4));  // the buffer and the registers are writable
    stub().set(VGPU_REG_REQUEST_LEN, 0);
    stub().set(VGPU_REG_DOORBELL, 1);
    EXPECT_EQ(status(), VGPU_STATUS_BUSY);
    expect_request(1, make_add(1, 2));
    answer(1, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
    // Only the reply to the ping follows the single request.
    sync();
}

TEST_F(StateTest, RequestIsCopiedWhenTheDoorbellRings) {
    start();
    // A long request, changed after the doorbell before the mediator reads it.
    std::vector<std::uint8_t> request(VGPU_BUF_SIZE, 0x11);
    stub().submit(1, request);
    machine().write_block(Stub::kBar0 + VGPU_REQUEST_BUF,
                          std::vector<std::uint8_t>(VGPU_BUF_SIZE, 0x22));
    expect_request(1, request);
}

TEST_F(StateTest, OnlyOneRings) {
    start();
    stub().set(VGPU_REG_REQUEST_LEN, 32);
    for (const std::uint32_t value : {0U, 2U, 0x80000001U, 0xFFFFFFFFU}) {
        stub().set(VGPU_REG_DOORBELL, value);
        EXPECT_EQ(status(), VGPU_STATUS_IDLE) << value;
    }
    stub().set(VGPU_REG_DOORBELL, 1);
    EXPECT_EQ(status(), VGPU_STATUS_BUSY);
    EXPECT_EQ(stub().reg(VGPU_REG_DOORBELL), 0U);
}

TEST_F(StateTest, LengthsThatCannotBeTaken) {
    start();
    for (const auto& [length, code] :
         std::initializer_list<std::pair<std::uint32_t, std::uint32_t>>{
             {0, VGPU_ERR_INVALID_LENGTH},
             {1025, VGPU_ERR_REQUEST_TOO_LARGE},
             {0x80000000, VGPU_ERR_REQUEST_TOO_LARGE},
             {0xFFFFFFFF, VGPU_ERR_REQUEST_TOO_LARGE}}) {
        stub().set(VGPU_REG_REQUEST_LEN, length);
        stub().set(VGPU_REG_DOORBELL, 1);
        EXPECT_EQ(status(), VGPU_STATUS_ERROR) << "at once, length " << length;
        EXPECT_EQ(stub().reg(VGPU_REG_RESPONSE_LEN), 0U);
        EXPECT_EQ(stub().reg(VGPU_REG_ERROR_CODE), code) << length;
        EXPECT_EQ(status(), VGPU_STATUS_IDLE);
    }
    sync();  // nothing was sent
}

TEST_F(StateTest, ShortestAndLongestRequestAreSent) {
    start();
    std::uint32_t id = 1;
    for (const std::size_t length : {1U, 31U, 1023U, 1024U}) {
        const std::vector<std::uint8_t> request(length, 0x33);
        stub().submit(id, request);
        expect_request(id, request);
        answer(id, make_response(0));
        EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
        id++;
    }
}

TEST_F(StateTest, CompletionIsStampedWithTheHostsClock) {
    start();
    const auto host_now = [] {
        return std::chrono::duration_cast<std::chrono::nanoseconds>(
                   std::chrono::steady_clock::now().time_since_epoch())
            .count();
    };
    const auto stamp = [this] {
        return static_cast<std::int64_t>(
            static_cast<std::uint64_t>(stub().reg(VGPU_REG_TIMESTAMP_HI)) << 32 |
            stub().reg(VGPU_REG_TIMESTAMP_LO));
    };
    const auto before = host_now();
    complete(1, 0);
    const auto first = stamp();
    EXPECT_GE(first, before);
    EXPECT_LE(first, host_now());
    // A rejected request also completes.
    stub().set(VGPU_REG_REQUEST_LEN, 0);
    stub().set(VGPU_REG_DOORBELL, 1);
    EXPECT_GT(stamp(), first);
    EXPECT_LE(stamp(), host_now());
}

TEST_F(StateTest, NoMediatorIsAnErrorAtOnce) {
    start_alone();
    stub().submit(1, make_add(1, 2));
    EXPECT_EQ(status(), VGPU_STATUS_ERROR);
    EXPECT_EQ(stub().reg(VGPU_REG_ERROR_CODE), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    EXPECT_EQ(status(), VGPU_STATUS_IDLE);
}

TEST_F(StateTest, ResetGivesResetValues) {
    start();
    complete(1, 0);
    stub().set(VGPU_REG_SCRATCH, 1);
    stub().set(VGPU_REG_IRQ_CTRL, 1);
    ASSERT_TRUE(machine().qmp("system_reset").contains("return"));
    ASSERT_TRUE(machine().wait_event("RESET"));
    Stub again(machine());
    for (const std::uint32_t offset :
         {VGPU_REG_STATUS, VGPU_REG_ERROR_CODE, VGPU_REG_REQUEST_LEN, VGPU_REG_RESPONSE_LEN,
          VGPU_REG_IRQ_CTRL, VGPU_REG_IRQ_STATUS, VGPU_REG_REQUEST_ID, VGPU_REG_TIMESTAMP_LO,
          VGPU_REG_TIMESTAMP_HI, VGPU_REG_SCRATCH}) {
        EXPECT_EQ(again.reg(offset), 0U) << offset;
    }
    EXPECT_EQ(again.read(VGPU_REQUEST_BUF, 8), 0U);
    EXPECT_EQ(again.read(VGPU_RESPONSE_BUF, 8), 0U);
    EXPECT_EQ(again.reg(VGPU_REG_VM_ID), kVmId);
    sync();  // the connection survives a reset
}

TEST_F(StateTest, ResetWhileBusyDropsTheAnswer) {
    start();
    stub().submit(1, make_add(1, 2));
    expect_request(1, make_add(1, 2));
    ASSERT_TRUE(machine().qmp("system_reset").contains("return"));
    ASSERT_TRUE(machine().wait_event("RESET"));
    Stub again(machine());
    EXPECT_EQ(again.reg(VGPU_REG_STATUS), VGPU_STATUS_IDLE);
    // The guest reuses the id after the reset: the old response is not for its request.
    again.submit(1, make_add(5, 6));
    expect_request(1, make_add(5, 6));
    answer(1, make_response(VGPU_ERR_CUDA));
    sync();
    EXPECT_EQ(again.reg(VGPU_REG_STATUS), VGPU_STATUS_BUSY);
    answer(1, make_response(0));
    EXPECT_EQ(again.wait_done(), VGPU_STATUS_DONE);
}

}  // namespace
}  // namespace vgpu::test
