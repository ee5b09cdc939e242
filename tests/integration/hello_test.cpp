// SPDX-License-Identifier: MIT
//
// HELLO: rejections with a status, violations that close the connection, the lifetime of
// descriptors, and the fallback of a connection without shared memory to version 1.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "integration/test_mediator.h"
#include "support/memory_peer.h"

namespace vgpu::test {
namespace {

using Kind = RecordedEvent::Kind;

std::size_t open_descriptors() {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry :
         std::filesystem::directory_iterator("/proc/self/fd")) {
        ++count;
    }
    return count;
}

struct Hello : testing::Test {
    Settings settings;
    std::unique_ptr<TestMediator> mediator;

    void start() { mediator = std::make_unique<TestMediator>(settings, true); }

    static void expect_version_1(MemoryPeer& peer) {
        peer.wire().send_request(1, make_add(40, 2));
        const auto answer = peer.wire().receive();
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->word(0), 42U);
    }
    // Sends a complete handshake with this memory and, for queue 0, this doorbell.
    static std::optional<vgpu_msg_hello_reply> offer(MemoryPeer& peer, const vgpu_msg_hello& hello,
                                                     int memory, std::optional<int> doorbell = {}) {
        peer.send_hello(hello, std::array{memory});
        for (std::uint32_t i = 0; i < hello.queue_count; ++i) {
            peer.send_hello_queue(
                i, std::array{doorbell.value_or(peer.doorbell(i % 2)), peer.interrupt(i % 2)});
        }
        return peer.receive_reply();
    }
    void expect_refused(const vgpu_msg_hello& hello, std::uint32_t status, int memory = -1,
                        std::optional<int> doorbell = {}) {
        MemoryPeer peer({});
        peer.connect(mediator->path());
        const auto reply = offer(peer, hello, memory < 0 ? peer.memory() : memory, doorbell);
        ASSERT_TRUE(reply);
        EXPECT_EQ(reply->status, status);
        EXPECT_EQ(reply->features, 0U);
        EXPECT_EQ(reply->generation, 0U);
        expect_version_1(peer);
    }
    // Runs `wrong` on a connection, which must then be closed for a violation.
    void expect_closed(const std::function<void(MemoryPeer&)>& wrong, const std::string& text) {
        MemoryPeer peer({.vm_id = 66});
        peer.connect(mediator->path());
        const std::size_t before = mediator->events.of(Kind::kClosed).size();
        wrong(peer);
        EXPECT_TRUE(peer.wire().wait_closed());
        ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, before + 1));
        const auto closed = mediator->events.of(Kind::kClosed).back();
        EXPECT_EQ(closed.reason, CloseReason::kProtocolViolation);
        EXPECT_NE(closed.text.find(text), std::string::npos) << closed.text;
    }
};

TEST_F(Hello, RefusedForWhatItSays) {
    start();
    MemoryPeer model({});
    const vgpu_msg_hello right = model.hello();
    vgpu_msg_hello hello = right;
    hello.protocol_version = 2U << 16U;
    expect_refused(hello, VGPU_HELLO_BAD_VERSION);
    hello = right;
    hello.layout_version = 2;
    expect_refused(hello, VGPU_HELLO_BAD_VERSION);
    hello = right;
    hello.features = VGPU_FEATURE_SHM;
    expect_refused(hello, VGPU_HELLO_BAD_VERSION);
    hello = right;
    hello.shm_size += 4096;
    expect_refused(hello, VGPU_HELLO_BAD_LAYOUT);
    hello.shm_size = 0;
    expect_refused(hello, VGPU_HELLO_BAD_LAYOUT);
    hello.shm_size = UINT64_MAX;
    expect_refused(hello, VGPU_HELLO_BAD_LAYOUT);
    hello = right;
    hello.queue_count = 0;
    expect_refused(hello, VGPU_HELLO_BAD_LAYOUT);
    hello.queue_count = 65;
    expect_refused(hello, VGPU_HELLO_BAD_LAYOUT);
}

TEST_F(Hello, RefusedForItsMemory) {
    start();
    MemoryPeer model({});
    const vgpu_msg_hello hello = model.hello();
    const Fd unsealed = make_memory(hello.shm_size, 0);
    expect_refused(hello, VGPU_HELLO_BAD_MEMORY, unsealed.get());
    const Fd can_shrink = make_memory(hello.shm_size, F_SEAL_GROW | F_SEAL_SEAL);
    expect_refused(hello, VGPU_HELLO_BAD_MEMORY, can_shrink.get());
    const Fd can_be_resealed = make_memory(hello.shm_size, F_SEAL_GROW | F_SEAL_SHRINK);
    expect_refused(hello, VGPU_HELLO_BAD_MEMORY, can_be_resealed.get());
    const Fd read_only = make_memory(hello.shm_size, kRightSeals | F_SEAL_WRITE);
    expect_refused(hello, VGPU_HELLO_BAD_MEMORY, read_only.get());
    const Fd smaller = make_memory(hello.shm_size / 2, kRightSeals);
    expect_refused(hello, VGPU_HELLO_BAD_MEMORY, smaller.get());
    const Fd larger = make_memory(hello.shm_size * 2, kRightSeals);
    expect_refused(hello, VGPU_HELLO_BAD_MEMORY, larger.get());
    const Fd no_memory = make_eventfd();
    expect_refused(hello, VGPU_HELLO_BAD_MEMORY, no_memory.get());
    const Fd a_device(::open("/dev/zero", O_RDWR | O_CLOEXEC));
    expect_refused(hello, VGPU_HELLO_BAD_MEMORY, a_device.get());
}

TEST_F(Hello, RefusedForADoorbellThatIsNone) {
    start();
    MemoryPeer model({});
    expect_refused(model.hello(), VGPU_HELLO_BAD_DESCRIPTOR, -1, model.memory());
}

TEST_F(Hello, RefusedByTheOperator) {
    settings.queues_enabled = false;
    start();
    MemoryPeer model({});
    expect_refused(model.hello(), VGPU_HELLO_NOT_OFFERED);
    settings.queues_enabled = true;
    settings.queues_memory_max = 2U << 20U;
    start();
    expect_refused(model.hello(), VGPU_HELLO_NO_RESOURCES);
}

// Counts the descriptors that epoll instances of this process watch.
std::size_t watched_descriptors() {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fdinfo")) {
        std::ifstream info(entry.path());
        for (std::string line; std::getline(info, line);) {
            count += line.starts_with("tfd:") ? 1U : 0U;
        }
    }
    return count;
}

// The device holds the same open file descriptions, so closing the mediator's descriptors does not
// remove them from epoll.
TEST_F(Hello, DoorbellsOfAConnectionThatHasGoneAreNotWaitedFor) {
    start();
    MemoryPeer peer({.queues = 8});
    const std::size_t before = watched_descriptors();
    for (int round = 0; round < 3; ++round) {
        ASSERT_EQ(peer.attach(mediator->path())->status, VGPU_HELLO_TAKEN);
        EXPECT_GT(watched_descriptors(), before + 8) << "doorbells, and the connection";
        peer.disconnect();
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
        while (watched_descriptors() != before && std::chrono::steady_clock::now() < deadline) {
            std::this_thread::yield();
        }
        EXPECT_EQ(watched_descriptors(), before);
    }
}

TEST_F(Hello, RefusedWhereTheVmIdIsInUse) {
    start();
    MemoryPeer first({.vm_id = 4});
    ASSERT_EQ(first.attach(mediator->path())->status, VGPU_HELLO_TAKEN);
    MemoryPeer second({.vm_id = 4});
    ASSERT_EQ(second.attach(mediator->path())->status, VGPU_HELLO_VM_ID_IN_USE);
    second.wire().send_request(1, make_add(40, 2));
    const auto answer = second.wire().receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->response().status, VGPU_ERR_MEDIATOR_UNAVAILABLE);
    expect_version_1(first);
    first.disconnect();
    EXPECT_TRUE(second.wire().wait_closed());
    ASSERT_EQ(second.attach(mediator->path())->status, VGPU_HELLO_TAKEN);
}

TEST_F(Hello, MemoryThatIsServedAlreadyIsNotServedTwice) {
    start();
    MemoryPeer peer({.vm_id = 1});
    ASSERT_EQ(peer.attach(mediator->path())->status, VGPU_HELLO_TAKEN);
    MemoryPeer other({.vm_id = 2});
    other.connect(mediator->path());
    const auto reply = offer(other, other.hello(), peer.memory());
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->status, VGPU_HELLO_NOT_ALLOWED);
    expect_version_1(other);
}

TEST_F(Hello, WrongFormClosesTheConnection) {
    start();
    expect_closed([](MemoryPeer& peer) { peer.send_hello(peer.hello(), {}); },
                  "without exactly one descriptor");
    expect_closed(
        [](MemoryPeer& peer) {
            peer.send_hello(peer.hello(), std::array{peer.memory(), peer.memory()});
        },
        "without exactly one descriptor");
    expect_closed(
        [](MemoryPeer& peer) {
            peer.send_hello(peer.hello(), std::vector<int>(20, peer.memory()));
        },
        "more descriptors");
    expect_closed(
        [](MemoryPeer& peer) {
            vgpu_msg_hello hello = peer.hello();
            hello.reserved[1] = 1;
            peer.send_hello(hello, std::array{peer.memory()});
        },
        "reserved");
    expect_closed(
        [](MemoryPeer& peer) {
            peer.send_hello(peer.hello(), std::array{peer.memory()});
            peer.send_hello_queue(1, std::array{peer.doorbell(), peer.interrupt()});
        },
        "out of order");
    expect_closed(
        [](MemoryPeer& peer) {
            peer.send_hello(peer.hello(), std::array{peer.memory()});
            peer.send_hello_queue(0, std::array{peer.doorbell()});
        },
        "two descriptors");
    expect_closed(
        [](MemoryPeer& peer) {
            peer.send_hello(peer.hello(), std::array{peer.memory()});
            peer.send_hello(peer.hello(), std::array{peer.memory()});
        },
        "second HELLO");
    expect_closed(
        [](MemoryPeer& peer) {
            peer.send_hello_queue(0, std::array{peer.doorbell(), 0});
        },
        "descriptors with a message");
    expect_closed(
        [](MemoryPeer& peer) {
            peer.send_hello(peer.hello(), std::array{peer.memory()});
            peer.wire().send_request(1, make_add(1, 2));
        },
        "before the end of the handshake");
    expect_closed(
        [](MemoryPeer& peer) {
            send_with_descriptors(peer.wire(), peer.wire().header(VGPU_MSG_PING, 0), {},
                                  std::array{peer.memory()});
        },
        "descriptors with a message");
    expect_closed(
        [](MemoryPeer& peer) {
            peer.wire().send(peer.wire().header(VGPU_MSG_PING, 0));
            peer.wire().receive();
            peer.send_hello(peer.hello(), std::array{peer.memory()});
        },
        "a HELLO after other messages");
    expect_closed([](MemoryPeer& peer) { peer.send_reset(); }, "");
    expect_closed(
        [](MemoryPeer& peer) {
            const auto header = peer.wire().header(VGPU_MSG_HELLO, 0);
            const std::array<std::byte, 8> short_hello{};
            send_with_descriptors(peer.wire(), header, short_hello, std::array{peer.memory()});
        },
        "wrong length");
}

TEST_F(Hello, OneThatIsNotFinishedInTimeClosesTheConnection) {
    settings.message_timeout = std::chrono::milliseconds(50);
    start();
    MemoryPeer peer({});
    peer.connect(mediator->path());
    peer.send_hello(peer.hello(), std::array{peer.memory()});
    EXPECT_TRUE(peer.wire().wait_closed());
    ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, 1));
    EXPECT_EQ(mediator->events.of(Kind::kClosed).at(0).reason, CloseReason::kMessageTimeout);
}

TEST_F(Hello, PingIsAnsweredWhileItComes) {
    start();
    MemoryPeer peer({});
    peer.connect(mediator->path());
    peer.send_hello(peer.hello(), std::array{peer.memory()});
    peer.wire().send(peer.wire().header(VGPU_MSG_PING, 5));
    const auto pong = peer.wire().receive();
    ASSERT_TRUE(pong);
    EXPECT_EQ(pong->header.msg_type, VGPU_MSG_PONG);
    for (std::uint32_t i = 0; i < 2; ++i) {
        peer.send_hello_queue(i, std::array{peer.doorbell(i), peer.interrupt(i)});
    }
    ASSERT_TRUE(peer.receive_reply());
}

// Whatever a peer sends and however its connection ends, the mediator (in this process) leaks no
// descriptor.
TEST_F(Hello, NoDescriptorStays) {
    start();
    MemoryPeer peer({});
    peer.connect(mediator->path());
    ASSERT_TRUE(peer.wire().fd() >= 0);
    peer.wire().send(peer.wire().header(VGPU_MSG_PING, 1));
    ASSERT_TRUE(peer.wire().receive());
    const std::size_t before = open_descriptors();
    for (int round = 0; round < 20; ++round) {
        MemoryPeer one({.vm_id = 100});
        ASSERT_EQ(one.attach(mediator->path())->status, VGPU_HELLO_TAKEN);
        ASSERT_TRUE(one.start());
        one.disconnect();
        MemoryPeer two({.vm_id = 200});
        two.connect(mediator->path());
        two.send_hello(two.hello(), std::vector<int>(7, two.memory()));
        EXPECT_TRUE(two.wire().wait_closed());
        MemoryPeer three({.vm_id = 300});
        three.connect(mediator->path());
        three.send_hello(three.hello(), std::array{three.memory()});
        three.send_hello_queue(0, std::array{three.doorbell(), three.interrupt()});
        three.disconnect();
    }
    ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, 60));
    // Threads of the mediator close them, soon after the event; a leak would last.
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (open_descriptors() != before && std::chrono::steady_clock::now() < end) {
        std::this_thread::yield();
    }
    EXPECT_EQ(open_descriptors(), before);
}

TEST_F(Hello, TheSameMemoryIsServedAgainInAnotherGeneration) {
    start();
    MemoryPeer peer({});
    const auto first = peer.attach(mediator->path());
    ASSERT_TRUE(peer.start());
    auto index = peer.submit(peer.command(VGPU_OP_MEMORY_ALLOC), {4096, 0});
    ASSERT_TRUE(peer.wait(*index));
    const std::uint32_t handle = peer.reply()->result(0);
    peer.words<std::uint32_t>(peer.data_offset(), 1)[0] = 77;
    peer.disconnect();
    const auto second = peer.attach(mediator->path());
    ASSERT_TRUE(second);
    EXPECT_EQ(second->status, VGPU_HELLO_TAKEN);
    EXPECT_NE(second->generation, first->generation);
    ASSERT_TRUE(peer.start());
    index = peer.submit(peer.command(VGPU_OP_MEMORY_FREE), {handle});
    ASSERT_TRUE(peer.wait(*index));
    EXPECT_EQ(peer.reply()->header.status, VGPU_ERR_CUDA_INVALID_HANDLE);
    EXPECT_EQ(peer.words<std::uint32_t>(peer.data_offset(), 1)[0], 77U) << "the heap stays";
}

TEST_F(Hello, ADeviceResetBeginsAnotherGeneration) {
    start();
    MemoryPeer peer({});
    const auto hello = peer.attach(mediator->path());
    ASSERT_TRUE(peer.start());
    auto index = peer.submit(peer.command(VGPU_OP_MEMORY_ALLOC), {4096, 0});
    ASSERT_TRUE(peer.wait(*index));
    const std::uint32_t handle = peer.reply()->result(0);
    // Two resets at once: each gets a reply.
    peer.send_reset();
    peer.send_reset();
    const auto first = peer.receive_reply(VGPU_MSG_SHM_RESET_DONE);
    const auto second = peer.receive_reply(VGPU_MSG_SHM_RESET_DONE);
    ASSERT_TRUE(first && second);
    EXPECT_NE(first->generation, hello->generation);
    EXPECT_EQ(peer.layout().read_generation(peer.base()), second->generation);
    EXPECT_EQ(peer.control().completed, 0U);
    EXPECT_EQ(peer.control().state, VGPU_QUEUE_STOPPED);
    ASSERT_TRUE(peer.start());
    index = peer.submit(peer.command(VGPU_OP_MEMORY_FREE), {handle});
    ASSERT_TRUE(peer.wait(*index));
    EXPECT_EQ(peer.reply()->header.status, VGPU_ERR_CUDA_INVALID_HANDLE);
}

TEST_F(Hello, AtTheEndTheQueuesSayThatTheyAreClosed) {
    start();
    MemoryPeer peer({});
    peer.attach(mediator->path());
    ASSERT_TRUE(peer.start());
    mediator->begin_shutdown();
    mediator->join();
    EXPECT_EQ(peer.control().state, VGPU_QUEUE_STOPPED);
    EXPECT_EQ(peer.control().error, VGPU_QUEUE_ERR_CLOSED);
}

}  // namespace
}  // namespace vgpu::test
