// SPDX-License-Identifier: MIT
//
// The guest library's operations and `vgpu selftest --gpu` end to end: the library uses the real
// device's register file in memory, and its requests go over a socket to a mediator and a backend.
// Only QEMU and the guest's kernel are missing.
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

#include "cli/vgpu/selftest.h"
#include "client/api/device.h"
#include "client/core/register_transport.h"
#include "client/testing/fake_device.h"
#include "support/process.h"
#include "support/temp_dir.h"
#include "support/wire_peer.h"

namespace vgpu::test {
namespace {

struct GuestLibrary : testing::Test {
    TempDir dir;
    Process mediator{
        {VGPU_MEDIATOR_PATH, "--backend", "cpu", "--socket", dir.file("s"), "--pools", "A"}};
    std::optional<WirePeer> peer;
    client::test::FakeDevice fake;
    client::test::FakeClock clock;
    std::size_t requests = 0;

    void SetUp() override {
        ASSERT_TRUE(mediator.wait_for_output("ready")) << mediator.output();
        peer = WirePeer::connect(dir.file("s"));
    }
    Device open() {
        fake.mediator = [this](const client::test::Bytes& request) {
            ++requests;
            peer->send_request(1, request);
            const auto answer = peer->receive();
            EXPECT_TRUE(answer);
            return answer ? std::optional(answer->payload) : std::nullopt;
        };
        auto* const made = new vgpu_device;
        made->transport = std::move(
            *client::RegisterTransport::create(std::make_unique<client::test::FakeWindow>(fake),
                                               nullptr, client::WaitMode::kPoll, clock));
        return Device::adopt(made);
    }
};

TEST_F(GuestLibrary, PassesTheSelfTestOfTheGpu) {
    Device device = open();
    cli::Settings settings;
    settings.json = true;  // no table
    cli::SelfTest test(device, settings);
    cli::check_gpu(test);
    EXPECT_EQ(test.lines().size(), 13U);
    for (const cli::CheckLine& line : test.lines()) {
        EXPECT_EQ(line.result, cli::CheckResult::kPass) << line.name << ": " << line.detail;
    }
}

TEST_F(GuestLibrary, CutsCopiesIntoPieces) {
    Device device = open();
    const auto handle = device.alloc(5000);
    ASSERT_TRUE(handle) << handle.failure().message;
    std::vector<std::byte> bytes(4999);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        bytes[i] = static_cast<std::byte>(i % 251);
    }
    requests = 0;
    ASSERT_TRUE(device.copy_to(*handle, 1, bytes));
    EXPECT_EQ(requests, 6U);  // of 976 bytes at most
    std::vector<std::byte> back(bytes.size());
    requests = 0;
    ASSERT_TRUE(device.copy_from(*handle, 1, back));
    EXPECT_EQ(requests, 6U);  // of 992 bytes at most
    EXPECT_EQ(back, bytes);
    EXPECT_TRUE(device.copy_to(*handle, 5000, {}));
}

TEST_F(GuestLibrary, ErrorsKeepTheirNumberAndTheMediatorsSentence) {
    Device device = open();
    const auto handle = device.alloc(10);
    ASSERT_TRUE(handle);
    std::vector<std::byte> bytes(11);
    const auto beyond = device.copy_from(*handle, 0, bytes);
    ASSERT_FALSE(beyond);
    EXPECT_EQ(beyond.failure().code, VGPU_ERR_CUDA_OUT_OF_BOUNDS);
    EXPECT_NE(beyond.failure().message.find("length 11"), std::string::npos);
    const auto wrapped = device.copy_to(*handle, UINT64_MAX, bytes);
    ASSERT_FALSE(wrapped);
    EXPECT_EQ(wrapped.failure().code, VGPU_E_ARGUMENT);
    EXPECT_EQ(vgpu_alloc(device.get(), 1, 1000, nullptr, nullptr), VGPU_E_ARGUMENT);
    EXPECT_EQ(vgpu_copy_to(device.get(), *handle, 0, nullptr, 1, 1000, nullptr), VGPU_E_ARGUMENT);
}

}  // namespace
}  // namespace vgpu::test
