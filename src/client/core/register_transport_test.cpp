// SPDX-License-Identifier: MIT
#include "client/core/register_transport.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "client/include/vgpu.h"
#include "client/testing/fake_device.h"

namespace vgpu::client::test {
namespace {

using std::chrono::milliseconds;

std::vector<std::byte> request_bytes(std::size_t length = 40, int seed = 1) {
    std::vector<std::byte> bytes(length);
    for (std::size_t i = 0; i < length; ++i) {
        bytes[i] = static_cast<std::byte>(seed + static_cast<int>(i) * 7);
    }
    return bytes;
}

class RegisterTransportTest : public testing::Test {
  protected:
    std::unique_ptr<RegisterTransport> open(WaitMode mode = WaitMode::kPoll,
                                            std::unique_ptr<InterruptSource> interrupt = nullptr) {
        auto made = RegisterTransport::create(std::make_unique<FakeWindow>(device),
                                              std::move(interrupt), mode, clock);
        if (!made) {
            ADD_FAILURE() << made.failure().message;
            return nullptr;
        }
        return std::move(*made);
    }

    Nanoseconds in(Nanoseconds time) { return clock.now() + time; }

    FakeDevice device;
    FakeClock clock;
};

TEST_F(RegisterTransportTest, CarriesEveryLengthOfRequestThereAndBack) {
    Bytes seen;
    device.mediator = [&](const Bytes& request) {
        seen = request;
        Bytes answer = make_response(0);
        answer.insert(answer.end(), request.begin(),
                      request.begin() + std::min<long>(static_cast<long>(request.size()), 992));
        return answer;
    };
    const auto transport = open();
    for (std::size_t length = 1; length <= VGPU_BUF_SIZE; ++length) {
        const auto bytes = request_bytes(length, static_cast<int>(length));
        ASSERT_TRUE(transport->submit(bytes));
        ASSERT_EQ(seen.size(), length);
        ASSERT_EQ(std::memcmp(seen.data(), bytes.data(), length), 0);
        const auto completion = transport->wait(in(milliseconds(1)));
        ASSERT_TRUE(completion) << completion.failure().message;
        ASSERT_EQ(completion->error_code, 0u);
        const std::size_t echoed = std::min<std::size_t>(length, 992);
        ASSERT_EQ(completion->response_untrusted.size(), 32 + echoed);
        ASSERT_EQ(std::memcmp(completion->response_untrusted.data() + 32, bytes.data(), echoed), 0);
    }
}

TEST_F(RegisterTransportTest, OnlyMakesAlignedAccessesOfFourOrEightBytes) {
    device.mediator = [](const Bytes&) { return make_response(0, {1, 2, 3}, "x"); };
    const auto transport = open();
    ASSERT_TRUE(transport->submit(request_bytes(33)));
    ASSERT_TRUE(transport->wait(in(milliseconds(1))));
    for (const auto& [where, width] : device.accesses) {
        const long offset = where < 0 ? -1 - where : where;
        EXPECT_EQ(offset % width, 0) << offset;
        EXPECT_TRUE(offset < VGPU_REQUEST_BUF ? width == 4 : width == 8) << offset;
    }
}

TEST_F(RegisterTransportTest, RefusesRequestsOfNoOrTooManyBytes) {
    const auto transport = open();
    EXPECT_EQ(transport->submit({}).failure().code, VGPU_E_ARGUMENT);
    EXPECT_EQ(transport->submit(request_bytes(1025)).failure().code, VGPU_E_ARGUMENT);
    EXPECT_TRUE(device.ids.empty());
}

TEST_F(RegisterTransportTest, NumbersGrowAlsoFromOneProcessToTheNext) {
    device.mediator = [](const Bytes&) { return make_response(0); };
    for (int process = 0; process < 2; ++process) {
        const auto transport = open();
        for (int i = 0; i < 2; ++i) {
            ASSERT_TRUE(transport->submit(request_bytes()));
            ASSERT_TRUE(transport->wait(in(milliseconds(1))));
        }
    }
    EXPECT_EQ(device.ids, (std::vector<std::uint32_t>{1, 2, 3, 4}));
}

TEST_F(RegisterTransportTest, AcknowledgesEveryCompletion) {
    device.mediator = [](const Bytes&) { return make_response(0); };
    const auto transport = open();
    ASSERT_TRUE(transport->submit(request_bytes()));
    EXPECT_EQ(device.regs.status, std::uint32_t{VGPU_STATUS_DONE});
    ASSERT_TRUE(transport->wait(in(milliseconds(1))));
    EXPECT_EQ(device.regs.status, std::uint32_t{VGPU_STATUS_IDLE});

    device.mediator = [](const Bytes&) { return make_response(VGPU_ERR_QUEUE_FULL); };
    ASSERT_TRUE(transport->submit(request_bytes()));
    EXPECT_EQ(device.regs.status, std::uint32_t{VGPU_STATUS_ERROR});
    const auto completion = transport->wait(in(milliseconds(1)));
    ASSERT_TRUE(completion);
    EXPECT_EQ(completion->error_code, std::uint32_t{VGPU_ERR_QUEUE_FULL});
    EXPECT_EQ(device.regs.status, std::uint32_t{VGPU_STATUS_IDLE});
}

TEST_F(RegisterTransportTest, AcknowledgesWhatAnotherProcessLeft) {
    device.mediator = [](const Bytes&) { return make_response(0); };
    for (const auto left : {VGPU_STATUS_DONE, VGPU_STATUS_ERROR}) {
        device.regs.status = left;
        const auto transport = open();
        ASSERT_TRUE(transport->submit(request_bytes()));
        ASSERT_TRUE(transport->wait(in(milliseconds(1))));
    }
}

TEST_F(RegisterTransportTest, NothingIsTakenTwice) {
    device.mediator = [](const Bytes&) { return make_response(0); };
    const auto transport = open();
    EXPECT_EQ(transport->wait(in(milliseconds(1))).failure().code, VGPU_E_NOT_SUBMITTED);
    ASSERT_TRUE(transport->submit(request_bytes()));
    ASSERT_TRUE(transport->wait(in(milliseconds(1))));
    EXPECT_EQ(transport->wait(in(milliseconds(1))).failure().code, VGPU_E_NOT_SUBMITTED);
}

TEST_F(RegisterTransportTest, SpinsThenYieldsThenSleepsInGrowingSteps) {
    const auto transport = open();
    ASSERT_TRUE(transport->submit(request_bytes()));
    const Nanoseconds deadline = in(milliseconds(50));
    const auto completion = transport->wait(deadline);
    ASSERT_FALSE(completion);
    EXPECT_EQ(completion.failure().code, VGPU_E_WAIT_TIMEOUT);
    EXPECT_GT(clock.relaxed, 0);
    EXPECT_GT(clock.yielded, 0);
    ASSERT_GT(clock.slept.size(), 2u);
    // All but the last step, which the deadline truncates.
    EXPECT_TRUE(std::is_sorted(clock.slept.begin(), clock.slept.end() - 1));
    EXPECT_EQ(*std::max_element(clock.slept.begin(), clock.slept.end()), milliseconds(1));
    EXPECT_LT(clock.now() - deadline, milliseconds(1));
}

TEST_F(RegisterTransportTest, AfterATimeOutTheAnswerCanStillBeTaken) {
    device.mediator = [](const Bytes&) { return make_response(0, {5}); };
    device.polls_before_answer = 1'000'000;
    const auto transport = open();
    ASSERT_TRUE(transport->submit(request_bytes()));
    EXPECT_EQ(transport->wait(in(milliseconds(2))).failure().code, VGPU_E_WAIT_TIMEOUT);
    EXPECT_EQ(transport->submit(request_bytes()).failure().code, VGPU_E_BUSY);
    device.polls_left = 1;
    const auto completion = transport->wait(in(milliseconds(2)));
    ASSERT_TRUE(completion);
    EXPECT_EQ(completion->response_untrusted.size(), 36u);
}

TEST_F(RegisterTransportTest, DrainDropsTheAnswerOfADeadProcess) {
    device.mediator = [](const Bytes&) { return make_response(0, {5}); };
    device.polls_before_answer = 1'000'000;
    ASSERT_TRUE(open()->submit(request_bytes()));

    const auto transport = open();
    EXPECT_EQ(transport->submit(request_bytes()).failure().code, VGPU_E_BUSY);
    EXPECT_EQ(transport->drain(in(milliseconds(1))).failure().code, VGPU_E_WAIT_TIMEOUT);
    device.polls_left = 3;
    ASSERT_TRUE(transport->drain(in(milliseconds(1))));
    EXPECT_EQ(device.regs.status, std::uint32_t{VGPU_STATUS_IDLE});
    EXPECT_EQ(transport->wait(in(milliseconds(1))).failure().code, VGPU_E_NOT_SUBMITTED);
}

TEST_F(RegisterTransportTest, NoMediatorIsAnErrorAtOnce) {
    vgpu_regs_disconnected(&device.regs, 1);
    const auto transport = open();
    ASSERT_TRUE(transport->submit(request_bytes()));
    const auto completion = transport->wait(in(milliseconds(1)));
    ASSERT_TRUE(completion);
    EXPECT_EQ(completion->error_code, std::uint32_t{VGPU_ERR_MEDIATOR_UNAVAILABLE});
    EXPECT_TRUE(completion->response_untrusted.empty());
}

TEST_F(RegisterTransportTest, AResetDeviceIsNoticed) {
    const auto transport = open();
    ASSERT_TRUE(transport->submit(request_bytes()));
    vgpu_regs_reset(&device.regs);
    EXPECT_EQ(transport->wait(in(milliseconds(1))).failure().code, VGPU_E_DEVICE_LOST);
}

TEST_F(RegisterTransportTest, ADeviceThatWasTakenAwayIsNoticed) {
    const auto transport = open();
    device.lies[VGPU_REG_STATUS] = 0xFFFFFFFF;
    EXPECT_EQ(transport->submit(request_bytes()).failure().code, VGPU_E_DEVICE_LOST);
    EXPECT_EQ(transport->drain(kNever).failure().code, VGPU_E_DEVICE_LOST);
    device.lies.clear();
    ASSERT_TRUE(transport->submit(request_bytes()));
    device.lies[VGPU_REG_STATUS] = 0xFFFFFFFF;
    EXPECT_EQ(transport->wait(kNever).failure().code, VGPU_E_DEVICE_LOST);
}

TEST_F(RegisterTransportTest, ALyingResponseLengthIsNotFollowed) {
    device.mediator = [](const Bytes&) { return make_response(0); };
    const auto transport = open();
    for (const std::uint32_t lie : {1025u, 4096u, 0x80000000u, 0xFFFFFFFFu}) {
        device.lies[VGPU_REG_RESPONSE_LEN] = lie;
        ASSERT_TRUE(transport->submit(request_bytes()));
        device.accesses.clear();
        EXPECT_EQ(transport->wait(in(milliseconds(1))).failure().code, VGPU_E_BAD_RESPONSE);
        for (const auto& [where, width] : device.accesses) {
            EXPECT_LT(where, long{VGPU_RESPONSE_BUF}) << "reads the buffer by a length of " << lie;
        }
    }
}

TEST_F(RegisterTransportTest, AnErrorWithoutACodeIsNotASuccess) {
    device.mediator = [](const Bytes&) { return make_response(VGPU_ERR_CUDA); };
    device.lies[VGPU_REG_ERROR_CODE] = 0;
    const auto transport = open();
    ASSERT_TRUE(transport->submit(request_bytes()));
    const auto completion = transport->wait(in(milliseconds(1)));
    ASSERT_TRUE(completion);
    EXPECT_NE(completion->error_code, 0u);
}

TEST_F(RegisterTransportTest, RefusesOtherMajorVersionsAndTakesLaterMinorOnes) {
    const auto code_for = [this](std::uint32_t version) {
        device.lies[VGPU_REG_PROTOCOL_VER] = version;
        const auto made = RegisterTransport::create(std::make_unique<FakeWindow>(device), nullptr,
                                                    WaitMode::kPoll, clock);
        return made ? int{VGPU_OK} : made.failure().code;
    };
    EXPECT_EQ(code_for(0x00010000), VGPU_OK);
    EXPECT_EQ(code_for(0x00010007), VGPU_OK);
    EXPECT_EQ(code_for(0x00020000), VGPU_E_VERSION);
    EXPECT_EQ(code_for(0), VGPU_E_VERSION);
    EXPECT_EQ(code_for(0xFFFFFFFF), VGPU_E_DEVICE_LOST);
    device.regs.capabilities = VGPU_CAP_INTERRUPT;
    EXPECT_EQ(code_for(0x00010000), VGPU_E_VERSION);
}

TEST_F(RegisterTransportTest, ReadsTheTimeOfCompletion) {
    device.mediator = [](const Bytes&) { return make_response(0); };
    const auto transport = open();
    ASSERT_TRUE(transport->submit(request_bytes()));
    ASSERT_TRUE(transport->wait(in(milliseconds(1))));
    EXPECT_EQ(transport->timestamp(), 123456789012ULL);
}

TEST_F(RegisterTransportTest, SleepsUntilTheInterrupt) {
    device.mediator = [](const Bytes&) { return make_response(0); };
    for (const auto mode : {WaitMode::kInterrupt, WaitMode::kAuto}) {
        device.polls_before_answer = 1'000'000;
        int slept = 0;
        const auto transport = open(mode, std::make_unique<FakeInterrupt>(device, clock, [&] {
                                        // The response arrives during the sleep.
                                        ++slept;
                                        device.polls_left = 0;
                                        device.deliver_if_due();
                                    }));
        clock.slept.clear();
        for (int i = 1; i <= 3; ++i) {
            ASSERT_TRUE(transport->submit(request_bytes()));
            ASSERT_TRUE(transport->wait(kNever));
            EXPECT_EQ(slept, i);
            EXPECT_EQ(transport->interrupt_count(), static_cast<std::uint64_t>(i));
            EXPECT_FALSE(vgpu_regs_irq_level(&device.regs)) << "the line stays up";
        }
        EXPECT_TRUE(clock.slept.empty());
    }
    EXPECT_EQ(device.regs.irq_ctrl, 0u) << "interrupts stay on after the device was closed";
}

TEST_F(RegisterTransportTest, ALostInterruptCostsTimeAndNotTheAnswer) {
    device.mediator = [](const Bytes&) { return make_response(0); };
    device.polls_before_answer = 1;
    const auto transport =
        open(WaitMode::kInterrupt, std::make_unique<FakeInterrupt>(device, clock, [&] {
                 vgpu_regs_write(&device.regs, VGPU_REG_IRQ_STATUS, 1, 4, 0);
             }));
    ASSERT_TRUE(transport->submit(request_bytes()));
    EXPECT_TRUE(transport->wait(in(milliseconds(5))));
    EXPECT_EQ(transport->interrupt_count(), 0u);
}

TEST_F(RegisterTransportTest, WaitsForTheInterruptItself) {
    device.mediator = [](const Bytes&) { return make_response(0); };
    const auto transport =
        open(WaitMode::kAuto, std::make_unique<FakeInterrupt>(device, clock, [] {}));
    EXPECT_EQ(transport->wait_interrupt(in(milliseconds(5))).failure().code, VGPU_E_WAIT_TIMEOUT);
    ASSERT_TRUE(transport->submit(request_bytes()));
    EXPECT_TRUE(transport->wait_interrupt(in(milliseconds(5)))) << "completed before the wait";
    EXPECT_EQ(transport->interrupt_count(), 1u);
    EXPECT_EQ(open()->wait_interrupt(kNever).failure().code, VGPU_E_NO_INTERRUPT);
}

TEST_F(RegisterTransportTest, InterruptsAskedForAndNotThereAreAnError) {
    const auto made = RegisterTransport::create(std::make_unique<FakeWindow>(device), nullptr,
                                                WaitMode::kInterrupt, clock);
    ASSERT_FALSE(made);
    EXPECT_EQ(made.failure().code, VGPU_E_NO_INTERRUPT);

    device.regs.capabilities = VGPU_CAP_BASIC_REQUEST;
    const auto without =
        open(WaitMode::kAuto, std::make_unique<FakeInterrupt>(device, clock, [] {}));
    EXPECT_FALSE(without->has_interrupt());
}

}  // namespace
}  // namespace vgpu::client::test
