// SPDX-License-Identifier: MIT
//
// Several GPUs behind one mediator: placement of VMs, the effects of a GPU failure, and per-VM
// settings of the operator. The test holds each GPU's backend: a submitted job shows that a request
// runs there.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "integration/test_mediator.h"

namespace vgpu::test {
namespace {

using Kind = RecordedEvent::Kind;
using Ids = std::vector<std::uint32_t>;

Settings two_gpus(const std::vector<std::size_t>& for_a, const std::vector<std::size_t>& for_b) {
    Settings settings;
    settings.gpus = {{.index = 0, .slots = {}}, {.index = 1, .slots = {}}};
    settings.pools = {{.id = 'A', .devices = for_a, .policy = {}},
                      {.id = 'B', .devices = for_b, .policy = {}}};
    return settings;
}

std::vector<std::uint8_t> make_alloc(std::uint32_t size) {
    return make_request(VGPU_OP_MEMORY_ALLOC, std::array{size, 0U});
}
std::vector<std::uint8_t> make_read(std::uint32_t handle) {
    constexpr std::uint32_t kDirection = VGPU_COPY_FROM_DEVICE;
    return make_request(VGPU_OP_MEMORY_COPY, std::array{kDirection, handle, 0U, 0U, 4U});
}

WireMessage answer_to(WirePeer& peer, std::uint32_t request_id,
                      const std::vector<std::uint8_t>& request) {
    peer.send_request(request_id, request);
    auto answer = peer.receive();
    EXPECT_TRUE(answer);
    return answer.value_or(WireMessage{});
}
WireMessage next_of(WirePeer& peer) {
    auto answer = peer.receive();
    EXPECT_TRUE(answer);
    return answer.value_or(WireMessage{});
}

TEST(Gpus, APoolsVmsAreSpreadOverItsGpusAndEachStaysWhereItIs) {
    TestMediator mediator(two_gpus({0, 1}, {0}));
    WirePeer one = mediator.connect(1);
    WirePeer two = mediator.connect(2);
    one.send_request(1, make_add(1, 1));
    ASSERT_TRUE(mediator.hold->wait_submitted(1));
    two.send_request(2, make_add(2, 2));
    ASSERT_TRUE(mediator.holds[1]->wait_submitted(1));
    // The second GPU is idle, yet the first VM's next request still goes to the first.
    mediator.holds[1]->open();
    EXPECT_EQ(next_of(two).word(0), 4U);
    one.send_request(3, make_add(3, 3));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 3));
    two.send_request(4, make_add(4, 4));
    EXPECT_EQ(next_of(two).word(0), 8U);
    EXPECT_EQ(mediator.events.request_ids(Kind::kStarted), (Ids{1, 2, 4}));
    mediator.hold->release(1);
    EXPECT_EQ(next_of(one).word(0), 2U);
    ASSERT_TRUE(mediator.hold->wait_submitted(2));
    mediator.hold->open();
    EXPECT_EQ(next_of(one).word(0), 6U);
}

TEST(Gpus, WhoIsGoneDoesNotCountForThePlaceOfTheNext) {
    TestMediator mediator(two_gpus({0, 1}, {0}));
    mediator.hold->open();
    for (std::uint32_t vm = 1; vm <= 3; ++vm) {
        WirePeer peer = mediator.connect(vm);
        EXPECT_EQ(answer_to(peer, vm, make_add(vm, 0)).word(0), vm);
        peer.close();
        ASSERT_TRUE(mediator.events.wait_for(Kind::kClosed, vm));
    }
    ASSERT_TRUE(mediator.hold->wait_submitted(3));
}

TEST(Gpus, PoolsOnDifferentGpusDoNotWaitForEachOther) {
    TestMediator mediator(two_gpus({0}, {1}));
    WirePeer a = mediator.connect(1, 'A');
    WirePeer b = mediator.connect(2, 'B');
    mediator.holds[1]->open();
    a.send_request(1, make_add(1, 1));
    ASSERT_TRUE(mediator.hold->wait_submitted(1));
    EXPECT_EQ(answer_to(b, 2, make_add(20, 22)).word(0), 42U);
    mediator.hold->open();
    EXPECT_EQ(next_of(a).word(0), 2U);
}

TEST(Gpus, EachHasItsOwnNumberOfSlots) {
    Settings settings = two_gpus({0}, {1});
    settings.gpus[1].slots = 2;
    TestMediator mediator(settings);
    std::vector<WirePeer> peers;
    for (std::uint32_t vm = 1; vm <= 4; ++vm) {
        peers.push_back(mediator.connect(vm, vm <= 2 ? 'A' : 'B'));
        peers.back().send_request(vm, make_add(vm, 0));
        ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, vm));
    }
    ASSERT_TRUE(mediator.events.wait_for(Kind::kStarted, 3));
    EXPECT_EQ(mediator.events.request_ids(Kind::kStarted), (Ids{1, 3, 4}));
    mediator.hold->open();
    mediator.holds[1]->open();
    ASSERT_TRUE(mediator.events.wait_for(Kind::kFinished, 4));
}

TEST(Gpus, AVmsBuffersAreThereInEveryPoolOfItsGpu) {
    TestMediator mediator(two_gpus({1}, {0, 1}), true);
    WirePeer peer = mediator.connect(1, 'A');
    const std::uint32_t handle = answer_to(peer, 1, make_alloc(64)).word(0).value_or(0);
    ASSERT_NE(handle, 0U);
    peer.pool = 'B';
    EXPECT_EQ(answer_to(peer, 2, make_read(handle)).response().status, VGPU_ERR_NONE);
}

TEST(Gpus, AHandleMeansNothingOnAnotherGpu) {
    TestMediator mediator(two_gpus({0}, {1}), true);
    WirePeer peer = mediator.connect(1, 'A');
    const std::uint32_t handle = answer_to(peer, 1, make_alloc(64)).word(0).value_or(0);
    peer.pool = 'B';
    EXPECT_EQ(answer_to(peer, 2, make_read(handle)).response().status,
              VGPU_ERR_CUDA_INVALID_HANDLE);
}

TEST(Gpus, TheQueueOfAPoolHasOneLimitForAllItsGpus) {
    Settings settings = two_gpus({0, 1}, {0});
    settings.queue.per_pool = 2;
    TestMediator mediator(settings);
    WirePeer one = mediator.connect(1);
    WirePeer two = mediator.connect(2);
    one.send_request(1, make_add(1, 0));
    ASSERT_TRUE(mediator.hold->wait_submitted(1));
    two.send_request(2, make_add(2, 0));
    ASSERT_TRUE(mediator.holds[1]->wait_submitted(1));
    one.send_request(3, make_add(3, 0));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 3));
    two.send_request(4, make_add(4, 0));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 4));
    EXPECT_EQ(answer_to(two, 5, make_add(5, 0)).response().status, VGPU_ERR_QUEUE_FULL);
    mediator.hold->open();
    mediator.holds[1]->open();
    ASSERT_TRUE(mediator.events.wait_for(Kind::kFinished, 4));
}

TEST(VmSettings, SayWhereAndHowAVmIsServedWhateverItsDeviceSays) {
    Settings settings = two_gpus({0}, {1});
    settings.vms[1].pool = 'B';
    settings.vms[2].pool = 'B';
    settings.vms[2].priority = VGPU_PRIORITY_LOW;
    TestMediator mediator(settings);
    WirePeer blocker = mediator.connect(9, 'B');
    WirePeer one = mediator.connect(1, 'A');
    WirePeer two = mediator.connect(2, 'A', VGPU_PRIORITY_HIGH);
    blocker.send_request(1, make_add(0, 0));
    ASSERT_TRUE(mediator.holds[1]->wait_submitted(1));
    two.send_request(2, make_add(2, 0));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 2));
    one.send_request(3, make_add(3, 0));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 3));
    mediator.holds[1]->open();
    const WireMessage answer = next_of(two);
    EXPECT_EQ(answer.word(0), 2U);
    EXPECT_EQ(answer.header.pool_id, 'A');
    EXPECT_EQ(answer.header.priority, VGPU_PRIORITY_HIGH);
    EXPECT_EQ(mediator.events.request_ids(Kind::kStarted), (Ids{1, 3, 2}));
}

TEST(VmSettings, AQuotaOfItsOwnHoldsAtOnceWhenItIsChanged) {
    Settings settings;
    settings.memory_per_vm = 100;
    settings.vms[1].memory_bytes = 1000;
    TestMediator mediator(settings, true);
    WirePeer own = mediator.connect(1);
    WirePeer other = mediator.connect(2);
    EXPECT_EQ(answer_to(own, 1, make_alloc(900)).response().status, VGPU_ERR_NONE);
    EXPECT_EQ(answer_to(own, 2, make_alloc(200)).response().status, VGPU_ERR_CUDA_MEMORY_QUOTA);
    EXPECT_EQ(answer_to(other, 3, make_alloc(200)).response().status, VGPU_ERR_CUDA_MEMORY_QUOTA);
    settings.vms[1].memory_bytes = 2000;
    settings.memory_per_vm = 0;
    mediator.on_loop([settings](Mediator& what) { what.apply(settings); });
    // Work posted before a request is sent runs before the request.
    EXPECT_EQ(answer_to(own, 4, make_alloc(200)).response().status, VGPU_ERR_NONE);
    EXPECT_EQ(answer_to(other, 5, make_alloc(5000)).response().status, VGPU_ERR_NONE);
    // Below its current use: nothing is freed, and nothing more is allocated.
    settings.vms[1].memory_bytes = 500;
    mediator.on_loop([settings](Mediator& what) { what.apply(settings); });
    EXPECT_EQ(answer_to(own, 6, make_alloc(1)).response().status, VGPU_ERR_CUDA_MEMORY_QUOTA);
}

TEST(GpuFailure, TakesWhatRanThereAndItsBuffersAndNothingElse) {
    TestMediator mediator(two_gpus({0}, {1}));
    mediator.holds[1]->open();
    mediator.hold->release(1);
    WirePeer victim = mediator.connect(1, 'A');
    WirePeer other = mediator.connect(2, 'B');
    const std::uint32_t handle = answer_to(victim, 1, make_alloc(64)).word(0).value_or(0);
    const std::uint32_t kept = answer_to(other, 2, make_alloc(64)).word(0).value_or(0);
    ASSERT_NE(handle, 0U);
    victim.send_request(3, make_add(1, 1));
    ASSERT_TRUE(mediator.hold->wait_submitted(2));
    victim.send_request(4, make_read(handle));
    victim.send_request(5, make_add(2, 3));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 5));
    mediator.hold->break_device();
    const WireMessage failed = next_of(victim);
    EXPECT_EQ(failed.header.request_id, 3U);
    EXPECT_EQ(failed.response().status, VGPU_ERR_CUDA);
    ASSERT_TRUE(mediator.events.wait_for(Kind::kGpuFailed, 1));
    // The other GPU continues.
    EXPECT_EQ(answer_to(other, 6, make_read(kept)).response().status, VGPU_ERR_NONE);
    EXPECT_EQ(mediator.events.of(Kind::kGpuRecovered).size(), 0U);
    EXPECT_EQ(mediator.events.request_ids(Kind::kFinished), (Ids{1, 2, 3, 6}));
    // Requests that wait for the failed GPU run after its recovery.
    mediator.hold->open();
    mediator.hold->repair_device();
    const WireMessage lost = next_of(victim);
    EXPECT_EQ(lost.header.request_id, 4U);
    EXPECT_EQ(lost.response().status, VGPU_ERR_CUDA_INVALID_HANDLE);
    EXPECT_NE(lost.response_text().find("reset"), std::string::npos) << lost.response_text();
    EXPECT_EQ(next_of(victim).word(0), 5U);
    EXPECT_EQ(mediator.events.of(Kind::kGpuRecovered).size(), 1U);
}

TEST(GpuFailure, GivesTheQuotaBack) {
    Settings settings;
    settings.memory_per_vm = 100;
    TestMediator mediator(settings);
    mediator.hold->release(1);
    WirePeer peer = mediator.connect(1);
    EXPECT_EQ(answer_to(peer, 1, make_alloc(100)).response().status, VGPU_ERR_NONE);
    peer.send_request(2, make_add(0, 0));
    ASSERT_TRUE(mediator.hold->wait_submitted(2));
    mediator.hold->break_device();
    EXPECT_EQ(next_of(peer).response().status, VGPU_ERR_CUDA);
    mediator.hold->open();
    mediator.hold->repair_device();
    EXPECT_EQ(answer_to(peer, 3, make_alloc(100)).response().status, VGPU_ERR_NONE);
}

TEST(GpuFailure, ThatLastsIsAnsweredAndIsNoFaultOfTheVms) {
    Settings settings;
    settings.recovery_wait = std::chrono::milliseconds(1);
    settings.vms[1].limits.quarantine_after_faults = 1;
    TestMediator mediator(settings);
    WirePeer peer = mediator.connect(1);
    peer.send_request(1, make_add(0, 0));
    ASSERT_TRUE(mediator.hold->wait_submitted(1));
    peer.send_request(2, make_add(0, 0));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 2));
    mediator.hold->break_device();
    EXPECT_EQ(next_of(peer).response().status, VGPU_ERR_CUDA);
    const WireMessage waited = next_of(peer);
    EXPECT_EQ(waited.header.request_id, 2U);
    EXPECT_EQ(waited.response().status, VGPU_ERR_CUDA);
    EXPECT_EQ(answer_to(peer, 3, make_add(0, 0)).response().status, VGPU_ERR_CUDA);
    mediator.hold->open();
    mediator.hold->repair_device();
    ASSERT_TRUE(mediator.events.wait_for(Kind::kGpuRecovered, 1));
    EXPECT_EQ(answer_to(peer, 4, make_add(2, 3)).word(0), 5U);
    EXPECT_TRUE(mediator.events.of(Kind::kQuarantined).empty());
}

TEST(Watchdog, ReportsARequestWhileItRunsAndOnce) {
    Settings settings;
    settings.vms[1].limits.longest_execution = std::chrono::milliseconds(1);
    TestMediator mediator(settings);
    WirePeer limited = mediator.connect(1);
    limited.send_request(1, make_add(1, 1));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kOverran, 1));
    EXPECT_TRUE(mediator.events.of(Kind::kFinished).empty());
    mediator.hold->open();
    EXPECT_EQ(next_of(limited).word(0), 2U);
    WirePeer other = mediator.connect(2);
    EXPECT_EQ(answer_to(other, 2, make_add(1, 1)).word(0), 2U);
    mediator.begin_shutdown();
    mediator.join();
    EXPECT_EQ(mediator.events.request_ids(Kind::kOverran), Ids{1});
}

}  // namespace
}  // namespace vgpu::test
