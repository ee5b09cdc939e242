// SPDX-License-Identifier: MIT
//
// The HELLO handshake: what the device sends and hands over, how it handles the replies, and how it
// falls back to version 1 with a mediator that does not know HELLO.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <filesystem>
#include <system_error>

#include "qtest/shm_device.h"
#include "support/unix_socket.h"

namespace vgpu::test {
namespace {

class HelloTest : public ShmDeviceTest {
  protected:
    static std::string target(const Fd& fd) {
        return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd.get())).string();
    }
    void submit(std::uint32_t id) { stub().submit(id, make_add(id, id)); }
    // Receives the submitted request and answers it.
    void serve(std::uint32_t id) {
        expect_request(id, make_add(id, id));
        answer(id, make_response(0));
        EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
        stub().response();
    }
    // Verifies that the device works as in version 1.
    void expect_version_1() {
        EXPECT_EQ(reg(VGPU_REG_SHM_STATE), 0U);
        submit(0x77);
        serve(0x77);
        EXPECT_EQ(reg(VGPU_REG_SHM_STATE), 0U);
    }
};

TEST_F(HelloTest, HandsOverSealedMemoryAndEventfds) {
    start_shm(",shm-size=2M,queues=3");
    receive_hello();
    EXPECT_EQ(hello().hello.protocol_version, VGPU_PROTOCOL_VERSION);
    EXPECT_EQ(hello().hello.peer_kind, VGPU_PEER_DEVICE);
    EXPECT_EQ(hello().hello.features, VGPU_FEATURE_SHM | VGPU_FEATURE_QUEUES);
    EXPECT_EQ(hello().hello.shm_size, 2U << 20);
    EXPECT_EQ(hello().hello.layout_version, VGPU_SHM_LAYOUT_VERSION);
    EXPECT_EQ(hello().hello.queue_count, 3U);
    EXPECT_EQ(hello().hello.reserved[0], 0U);
    EXPECT_EQ(hello().hello.reserved[1], 0U);

    struct stat status {};
    ASSERT_EQ(::fstat(hello().memory.get(), &status), 0);
    EXPECT_EQ(status.st_size, 2 << 20);
    EXPECT_EQ(::fcntl(hello().memory.get(), F_GET_SEALS),
              F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    EXPECT_NE(target(hello().memory).find("memfd:"), std::string::npos);
    for (const auto* list : {&hello().doorbells, &hello().interrupts}) {
        for (const Fd& fd : *list) {
            EXPECT_EQ(target(fd), "anon_inode:[eventfd]");
            EXPECT_TRUE(::fcntl(fd.get(), F_GETFL) & O_NONBLOCK);
        }
    }
    // Nothing else is sent before the reply, and nothing is attached.
    EXPECT_EQ(reg(VGPU_REG_SHM_STATE), 0U);
    sync();
    EXPECT_EQ(reg(VGPU_REG_SHM_STATE), 0U);
    reply(VGPU_HELLO_TAKEN);
    EXPECT_TRUE(wait_attached(true));
}

TEST_F(HelloTest, SixtyFourMebibytesAndEightQueuesUnlessSaidOtherwise) {
    start_attached("");
    EXPECT_EQ(hello().hello.shm_size, 64U << 20);
    EXPECT_EQ(hello().hello.queue_count, 8U);
    EXPECT_EQ(reg(VGPU_REG_SHM_SIZE_LO), 64U << 20);
    EXPECT_EQ(reg(VGPU_REG_SHM_SIZE_HI), 0U);
    EXPECT_EQ(reg(VGPU_REG_QUEUE_COUNT), 8U);
    EXPECT_EQ(reg(VGPU_REG_MSIX_VECTORS), 9U);
    EXPECT_EQ(reg(VGPU_REG_CAPABILITIES),
              VGPU_CAP_BASIC_REQUEST | VGPU_CAP_INTERRUPT | VGPU_CAP_DMA | VGPU_CAP_MULTI_REQUEST);
}

TEST_F(HelloTest, LargestMemoryAndMostQueues) {
    start_attached(",shm-size=4G,queues=64");
    EXPECT_EQ(hello().hello.shm_size, VGPU_SHM_SIZE_MAX);
    EXPECT_EQ(hello().hello.queue_count, 64U);
    EXPECT_EQ(reg(VGPU_REG_SHM_SIZE_LO), 0U);
    EXPECT_EQ(reg(VGPU_REG_SHM_SIZE_HI), 1U);
    EXPECT_EQ(reg(VGPU_REG_MSIX_VECTORS), 65U);
    ring(63);
    EXPECT_EQ(doorbell(63), 1U);
    // Both sides share the last word of the memory, and no page is allocated before use.
    const std::uint64_t last = VGPU_SHM_SIZE_MAX - 8;
    machine().write(kBar2 + last, 8, 0xC0FFEE);
    std::uint64_t value = 0;
    ASSERT_EQ(::pread(hello().memory.get(), &value, 8, static_cast<off_t>(last)), 8);
    EXPECT_EQ(value, 0xC0FFEEU);
    struct stat status {};
    ASSERT_EQ(::fstat(hello().memory.get(), &status), 0);
    EXPECT_LT(status.st_blocks, 8192) << "of 512 bytes";
}

TEST_F(HelloTest, SmallestMemoryWithAsManyQueuesAsFit) {
    start_attached(",shm-size=1M,queues=32");
    ring(31);
    EXPECT_EQ(doorbell(31), 1U);
}

TEST_F(HelloTest, WithoutSharedMemoryItIsVersion1) {
    start(",shm-size=0,queues=0");
    EXPECT_EQ(reg(VGPU_REG_CAPABILITIES), VGPU_CAP_BASIC_REQUEST | VGPU_CAP_INTERRUPT);
    for (const std::uint32_t offset :
         {VGPU_REG_SHM_SIZE_LO, VGPU_REG_QUEUE_COUNT, VGPU_REG_SHM_STATE, VGPU_REG_MSIX_VECTORS,
          VGPU_REG_QUEUE_IRQ_LO, VGPU_REG_QUEUE_DOORBELL}) {
        set(offset, 0xFFFFFFFF);
        EXPECT_EQ(reg(offset), 0U);
    }
    set(VGPU_REG_IRQ_CTRL, 0xFFFFFFFF);
    EXPECT_EQ(reg(VGPU_REG_IRQ_CTRL), VGPU_IRQ_COMPLETION);
    EXPECT_EQ(stub().find_capability(0x11), 0U) << "MSI-X";
    EXPECT_EQ(stub().config(0x14, 4), 0U) << "BAR1";
    stub().set_config(0x18, 4, 0xFFFFFFFF);
    EXPECT_EQ(stub().config(0x18, 4), 0U) << "BAR2";
    expect_version_1();
}

TEST_F(HelloTest, RefusedGoesOnAsVersion1OnTheSameConnection) {
    for (const std::uint32_t status : {1U, 2U, 3U, 4U, 5U, 6U, 7U, 8U, 0xFFFFFFFFU}) {
        start_shm();
        receive_hello();
        reply(status);
        sync();
        expect_version_1();
        EXPECT_EQ(reg(VGPU_REG_IRQ_STATUS) & VGPU_IRQ_SHM_STATE, 0U) << "nothing has changed";
        ring(0);  // no effect
        // A reset sends nothing to a mediator that does not serve the memory.
        ASSERT_TRUE(machine().qmp("system_reset").contains("return"));
        ASSERT_TRUE(machine().wait_event("RESET"));
        sync();
    }
}

TEST_F(HelloTest, IgnoredFallsBackAndTriesAgainOnTheConnectionAfterThat) {
    start_shm();
    receive_hello();
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_TRUE(peer().wait_closed());
    const auto waited = std::chrono::steady_clock::now() - begin;
    EXPECT_GT(waited, std::chrono::milliseconds(VGPU_HELLO_TIMEOUT_MS - 500));
    EXPECT_LT(waited, std::chrono::milliseconds(VGPU_HELLO_TIMEOUT_MS + 3000));
    accept();  // no HELLO before the PONG
    expect_version_1();
    peer().close();
    connect();
    take_hello();
}

TEST_F(HelloTest, CutOffFallsBackAndTriesAgainOnTheConnectionAfterThat) {
    start_shm();
    peer().close();
    accept();
    expect_version_1();
    peer().close();
    connect();
    take_hello();
    // After a successful handshake the next connection sends HELLO at once.
    peer().close();
    connect();
    take_hello();
}

// A dying mediator may have closed at HELLO; its successor would serve the memory.
TEST_F(HelloTest, CutOffIsTriedAgainOnceWithoutWaitingForTheNextConnectionsEnd) {
    start_shm();
    peer().close();
    accept();
    expect_version_1();
    EXPECT_TRUE(peer().wait_closed()) << "given up a second later";
    connect();
    take_hello();
    peer().close();

    // A version 1 mediator receives one more HELLO on a new connection, then none.
    connect();
    receive_hello();
    peer().close();
    accept();
    expect_version_1();
    EXPECT_TRUE(peer().wait_closed());
    connect();
    receive_hello();
    peer().close();
    accept();
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(1500);
    while (std::chrono::steady_clock::now() < until) {
        expect_version_1();
    }
    peer().close();
    connect();
    take_hello();
}

// The connection after a failed handshake begins with a plain message. A descriptor attached to it
// would be a violation: the mediator would close the connection and charge the VM with a fault.
TEST_F(HelloTest, ConnectionWithoutAHelloCarriesNoDescriptors) {
    const auto first_message_is_plain = [this] {
        submit(1);
        std::vector<Fd> descriptors;
        const auto request = peer().receive(descriptors);
        ASSERT_TRUE(request);
        EXPECT_EQ(request->header.msg_type, VGPU_MSG_REQUEST);
        EXPECT_EQ(descriptors.size(), 0U);
        answer(1, make_response(0));
        EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
        stub().response();
    };
    start_shm();
    receive_hello();
    peer().close();  // rejected, as when the VM id is in use
    connect();
    first_message_is_plain();
    peer().close();
    connect();
    receive_hello();
    EXPECT_TRUE(peer().wait_closed());  // the handshake timed out
    connect();
    first_message_is_plain();
}

TEST_F(HelloTest, PingIsAnsweredBehindTheHello) {
    start_shm(",shm-size=2M,queues=64");
    send(VGPU_MSG_PING, 5);
    receive_hello();
    const auto pong = receive();
    ASSERT_TRUE(pong);
    EXPECT_EQ(pong->header.msg_type, VGPU_MSG_PONG);
    EXPECT_TRUE(pong->fds.empty());
    reply(VGPU_HELLO_TAKEN);
    EXPECT_TRUE(wait_attached(true));
}

TEST_F(HelloTest, RequestWaitsUntilTheHelloIsSettled) {
    for (const std::uint32_t status : {VGPU_HELLO_TAKEN, VGPU_HELLO_NOT_OFFERED}) {
        start_shm();
        receive_hello();
        submit(1);
        sync();  // a PONG, and no request
        EXPECT_EQ(reg(VGPU_REG_STATUS), VGPU_STATUS_BUSY);
        reply(status);
        serve(1);
        submit(2);
        serve(2);
    }
}

TEST_F(HelloTest, RequestThatWaitedTooLongIsNotSentAndOwesNoAnswer) {
    start_shm(",shm-size=1M,queues=4,timeout-ms=100");
    receive_hello();
    submit(1);
    machine().clock_step(std::chrono::milliseconds(100));
    EXPECT_EQ(wait_error(), VGPU_ERR_TIMEOUT);
    reply(VGPU_HELLO_TAKEN);
    sync();
    // The same id again: the response belongs to this request and is not a late one.
    submit(1);
    serve(1);
}

TEST_F(HelloTest, RequestThatWaitedGoesOutOnTheNextConnection) {
    start_shm();
    receive_hello();
    submit(1);
    peer().close();
    connect();
    serve(1);
    expect_version_1();
}

TEST_F(HelloTest, RequestThatWaitedEndsWhereThereIsNoNextConnection) {
    start_shm();
    receive_hello();
    submit(1);
    listener_.reset();
    peer().close();
    EXPECT_EQ(wait_error(), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    listener_.emplace(socket_path());
    accept();
    expect_version_1();
}

TEST_F(HelloTest, RequestThatWaitedIsGoneAfterAReset) {
    start_shm();
    receive_hello();
    submit(1);
    ASSERT_TRUE(machine().qmp("system_reset").contains("return"));
    ASSERT_TRUE(machine().wait_event("RESET"));
    reply(VGPU_HELLO_NOT_OFFERED);
    sync();
    stub_.emplace(machine());
    EXPECT_EQ(reg(VGPU_REG_STATUS), VGPU_STATUS_IDLE);
    submit(1);
    serve(1);
}

TEST_F(HelloTest, AnswerToARequestNotYetSentIsDropped) {
    start_shm();
    receive_hello();
    submit(1);
    answer(1, make_response(0));
    send(VGPU_MSG_BUSY, 1);
    sync();
    EXPECT_EQ(reg(VGPU_REG_STATUS), VGPU_STATUS_BUSY);
    reply(VGPU_HELLO_TAKEN);
    serve(1);
}

TEST_F(HelloTest, GivenChardevPassesDescriptorsToo) {
    listener_.emplace(socket_path());
    start_alone(",chardev=vg0,shm-size=1M,queues=4,pool_id=B,priority=high",
                {"-chardev", "socket,id=vg0,reconnect=1,path=" + socket_path()});
    map_bars();
    connect();
    take_hello();
}

TEST_F(HelloTest, ConnectionWithoutDescriptorsIsVersion1) {
    const Fd listening(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    ASSERT_EQ(::bind(listening.get(), any, length), 0);
    ASSERT_EQ(::listen(listening.get(), 1), 0);
    ASSERT_EQ(::getsockname(listening.get(), any, &length), 0);
    start_alone(",chardev=vg0,shm-size=1M,queues=4",
                {"-chardev",
                 "socket,id=vg0,host=127.0.0.1,port=" + std::to_string(ntohs(address.sin_port))});
    ASSERT_TRUE(wait_readable(listening.get(),
                              std::chrono::steady_clock::now() + std::chrono::seconds(10)));
    peer_ = WirePeer::adopt(Fd(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC)));
    peer().vm_id = kVmId;
    sync();
    expect_version_1();
}

// A guest that has not mapped BAR2, or has no room for it.
class UnseenMemoryTest : public HelloTest {
  protected:
    void start_unmapped(bool chardev = false) {
        std::vector<std::string> extra;
        if (chardev) {
            extra = {"-chardev", "socket,id=vg0,reconnect=1,path=" + socket_path()};
        }
        listener_.emplace(socket_path());
        start_alone(",pool_id=B,priority=high,shm-size=1M,queues=4," +
                        (chardev ? "chardev=vg0" : "socket=" + socket_path()),
                    extra);
        connect();
    }
    bool nothing_comes() { return !receive(std::chrono::milliseconds(100)); }
    void reset() {
        ASSERT_TRUE(machine().qmp("system_reset").contains("return"));
        ASSERT_TRUE(machine().wait_event("RESET"));
    }
};

TEST_F(UnseenMemoryTest, MediatorIsToldOfItWhenTheGuestHasMappedIt) {
    for (const bool chardev : {false, true}) {
        start_unmapped(chardev);
        EXPECT_TRUE(nothing_comes());
        EXPECT_EQ(reg(VGPU_REG_SHM_STATE), 0U);
        // Assigned with memory decoding off; the device is enabled later, as a driver does.
        stub().set_config(0x04, 2, 0);
        map_bars();
        EXPECT_TRUE(nothing_comes());
        stub().set_config(0x04, 2, 2);
        take_hello();
    }
}

TEST_F(UnseenMemoryTest, GuestThatHasNoRoomForItUsesTheRegisters) {
    start_unmapped();
    EXPECT_EQ(reg(VGPU_REG_CAPABILITIES) & VGPU_CAP_DMA, VGPU_CAP_DMA);
    for (std::uint32_t id = 1; id < 4; id++) {
        submit(id);
        serve(id);
    }
    expect_version_1();
    // A new connection or a reset does not trigger a HELLO either.
    peer().close();
    accept();
    reset();
    stub_.emplace(machine());
    sync();
    expect_version_1();
}

// HELLO must be the first message of a connection, and a request was sent before BAR2 was mapped.
TEST_F(UnseenMemoryTest, MappedAfterARequestItIsOfferedOnAnotherConnection) {
    start_unmapped();
    submit(1);
    expect_request(1, make_add(1, 1));
    map_bars();
    sync();  // not while the request is in flight
    answer(1, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
    EXPECT_TRUE(peer().wait_closed());
    connect();
    take_hello();
    submit(2);
    serve(2);
}

TEST_F(UnseenMemoryTest, MappedAfterAPongItIsOfferedOnAnotherConnection) {
    start_unmapped();
    sync();
    map_bars();
    ASSERT_TRUE(peer().wait_closed());
    ASSERT_TRUE(peer_ = listener_->accept(std::chrono::milliseconds(500))) << "at once";
    peer().vm_id = kVmId;
    take_hello();
}

// The device does not control when a chardev reconnects.
TEST_F(UnseenMemoryTest, ConnectionOfAChardevIsNotGivenUpForIt) {
    start_unmapped(true);
    submit(1);
    serve(1);
    map_bars();
    sync();
    expect_version_1();
    peer().close();
    connect();
    take_hello();
}

TEST_F(UnseenMemoryTest, ConnectionLostBeforeTheFirmwareHasMappedItBeginsWithNoHello) {
    start_unmapped();
    map_bars();
    take_hello();
    reset();
    const auto message = receive();
    ASSERT_TRUE(message);
    EXPECT_EQ(message->header.msg_type, VGPU_MSG_SHM_RESET);
    // Memory that a reset unmaps stays attached: firmware maps it again.
    reply(VGPU_HELLO_TAKEN, 2, VGPU_MSG_SHM_RESET_DONE);
    stub_.emplace(machine());
    EXPECT_TRUE(wait_attached(true));
    peer().close();
    connect();
    EXPECT_TRUE(nothing_comes());
    map_bars();
    take_hello();
}

// Replies that are invalid before the handshake completes: the device drops the connection and
// sends no HELLO on the next one.
class NonsenseReplyTest : public HelloTest,
                          public testing::WithParamInterface<vgpu_msg_hello_reply> {};

TEST_P(NonsenseReplyTest, CostsTheConnectionAndTheFastPath) {
    start_shm();
    receive_hello();
    reply_raw(GetParam());
    EXPECT_TRUE(peer().wait_closed());
    EXPECT_EQ(reg(VGPU_REG_SHM_STATE), 0U);
    accept();
    expect_version_1();
}

constexpr std::uint64_t kBoth = VGPU_FEATURE_SHM | VGPU_FEATURE_QUEUES;
INSTANTIATE_TEST_SUITE_P(All, NonsenseReplyTest,
                         testing::Values(vgpu_msg_hello_reply{0, 1, VGPU_FEATURE_SHM, 5, {0, 0}},
                                         vgpu_msg_hello_reply{0, 1, VGPU_FEATURE_QUEUES, 5, {0, 0}},
                                         vgpu_msg_hello_reply{0, 1, 0, 5, {0, 0}},
                                         vgpu_msg_hello_reply{0, 1, kBoth | 1U << 10, 5, {0, 0}},
                                         vgpu_msg_hello_reply{0, 2, kBoth, 5, {0, 0}},
                                         vgpu_msg_hello_reply{0, 0, kBoth, 5, {0, 0}},
                                         vgpu_msg_hello_reply{0, 1, kBoth, 0, {0, 0}},
                                         vgpu_msg_hello_reply{0, 1, kBoth, 5, {1, 0}},
                                         vgpu_msg_hello_reply{0, 1, kBoth, 5, {0, 1}},
                                         vgpu_msg_hello_reply{1, 1, 0, 0, {0, 0}},
                                         vgpu_msg_hello_reply{1, 0, kBoth, 0, {0, 0}},
                                         vgpu_msg_hello_reply{1, 0, 0, 5, {0, 0}},
                                         vgpu_msg_hello_reply{1, 0, 0, 0, {0, 7}}));

TEST_F(HelloTest, AnswersOutOfPlaceCostTheConnection) {
    const std::vector<std::uint8_t> right(sizeof(vgpu_msg_hello_reply), 0);
    const auto dropped = [this](std::uint32_t type, std::size_t length) {
        std::vector<std::uint8_t> payload(length, 0);
        if (length > 0) {
            payload[0] = 1;  // a rejection, were it in place
        }
        send(type, 0, payload);
        return peer().wait_closed();
    };
    start_shm();
    receive_hello();
    EXPECT_TRUE(dropped(VGPU_MSG_SHM_RESET_DONE, right.size())) << "before the hello is settled";
    accept();
    EXPECT_TRUE(dropped(VGPU_MSG_HELLO_REPLY, right.size())) << "to no hello";
    for (const std::size_t length : {0UL, 31UL, 33UL}) {
        connect();
        receive_hello();
        EXPECT_TRUE(dropped(VGPU_MSG_HELLO_REPLY, length)) << "with a wrong length";
        accept();
        peer().close();
    }
    connect();
    take_hello();
    EXPECT_TRUE(dropped(VGPU_MSG_HELLO_REPLY, right.size())) << "a second one";
    EXPECT_TRUE(wait_attached(false));
    connect();
    take_hello();
    EXPECT_TRUE(dropped(VGPU_MSG_SHM_RESET_DONE, right.size())) << "to no reset";
    connect();
    take_hello();
    for (const std::uint32_t type : {VGPU_MSG_HELLO, VGPU_MSG_HELLO_QUEUE, VGPU_MSG_SHM_RESET}) {
        EXPECT_TRUE(dropped(type, 0)) << "a device's message";
        connect();
        take_hello();
    }
}

// A device without shared memory sends no HELLO.
TEST_F(HelloTest, AnswerToADeviceWithoutSharedMemoryCostsTheConnection) {
    start();
    reply(VGPU_HELLO_TAKEN);
    EXPECT_TRUE(peer().wait_closed());
    accept();
    expect_version_1();
}

}  // namespace
}  // namespace vgpu::test
