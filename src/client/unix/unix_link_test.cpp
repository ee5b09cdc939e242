// SPDX-License-Identifier: MIT
//
// Tests of a host process in the role of a device, against a scripted mediator: contents of the
// hello, its acceptance, rejection, time-out and invalid replies, and requests of version 1.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "client/api/raw.h"
#include "client/include/vgpu.h"
#include "client/testing/fake_mediator.h"
#include "client/testing/handles.h"
#include "support/temp_dir.h"
#include "support/wire_peer.h"

namespace vgpu::client::test {
namespace {

using testing::HasSubstr;
using vgpu::test::WireListener;
using vgpu::test::WirePeer;

constexpr std::uint32_t kLimit = 10'000;  // ms

class UnixTest : public testing::Test {
  protected:
    UnixTest() {
        options.address = address.c_str();
        options.vm_id = 42;
        options.pool = 'B';
        options.priority = VGPU_PRIORITY_HIGH;
        options.shm_size = 1 << 20;
        options.queue_count = 3;
    }

    // Opens the device while `script` runs as the mediator.
    DevicePtr open(const std::function<void()>& script) {
        std::thread mediator(script);
        vgpu_device* made = nullptr;
        code = vgpu_open(&options, &made, &why);
        mediator.join();
        return DevicePtr(made);
    }
    // Opens with a mediator that accepts the hello and serves the queues.
    DevicePtr open_served() {
        return open([this] { serve_one(1); });
    }
    void serve_one(std::uint64_t generation) {
        peer = listener.accept();
        ASSERT_TRUE(peer);
        Hello hello = receive_hello(peer->fd());
        ASSERT_TRUE(hello.in_form);
        const Hello answered{hello.header, hello.fixed, {}, {}, {}, true};
        served.emplace(std::move(hello), generation);
        send_hello_reply(*peer, answered, VGPU_HELLO_TAKEN, generation);
    }
    // Receives a version 1 request and responds to it.
    void answer_one(WirePeer& to, const Bytes& response) {
        const auto request = to.receive();
        ASSERT_TRUE(request);
        ASSERT_EQ(request->header.msg_type, VGPU_MSG_REQUEST);
        vgpu_msg_header header = request->header;
        header.msg_type = VGPU_MSG_RESPONSE;
        to.send(header, response);
    }
    // Calls vgpu_nop while `script` runs as the mediator.
    int nop(const DevicePtr& device, const std::function<void()>& script,
            std::uint32_t limit = kLimit) {
        std::thread mediator(script);
        const int result = vgpu_nop(device.get(), limit, &why);
        mediator.join();
        return result;
    }
    QueuePtr open_queue(const DevicePtr& device) {
        vgpu_queue* queue = nullptr;
        code = vgpu_queue_open(device.get(), VGPU_QUEUE_ANY, kLimit, &queue, &why);
        return QueuePtr(queue);
    }

    vgpu::test::TempDir dir;
    std::string path = dir.file("s");
    std::string address = "unix:" + path;
    WireListener listener{path};
    std::optional<WirePeer> peer;
    std::optional<ServedMemory> served;
    vgpu_options options = VGPU_OPTIONS_INIT;
    vgpu_failure why{};
    int code = VGPU_OK;
};

TEST_F(UnixTest, TheHelloHoldsWhatTheProtocolSays) {
    Hello hello;
    const DevicePtr device = open([&] {
        peer = listener.accept();
        hello = receive_hello(peer->fd());
        send_hello_reply(*peer, hello, VGPU_HELLO_NOT_OFFERED, 0);
    });
    ASSERT_NE(device, nullptr) << why.message;
    ASSERT_TRUE(hello.in_form);
    EXPECT_EQ(hello.header.magic, VGPU_MSG_MAGIC);
    EXPECT_EQ(hello.header.vm_id, 42U);
    EXPECT_EQ(hello.header.request_id, 0U);
    EXPECT_EQ(hello.header.pool_id, 'B');
    EXPECT_EQ(hello.header.priority, VGPU_PRIORITY_HIGH);
    EXPECT_EQ(hello.fixed.protocol_version, VGPU_PROTOCOL_VERSION);
    EXPECT_EQ(hello.fixed.peer_kind, std::uint32_t{VGPU_PEER_PROCESS});
    EXPECT_EQ(hello.fixed.features, VGPU_FEATURE_SHM | VGPU_FEATURE_QUEUES);
    EXPECT_EQ(hello.fixed.shm_size, 1U << 20);
    EXPECT_EQ(hello.fixed.layout_version, VGPU_SHM_LAYOUT_VERSION);
    EXPECT_EQ(hello.fixed.queue_count, 3U);
    EXPECT_EQ(hello.fixed.reserved[0] | hello.fixed.reserved[1], 0U);
    struct stat info {};
    ASSERT_EQ(::fstat(hello.memory.get(), &info), 0);
    EXPECT_EQ(info.st_size, 1 << 20);
    EXPECT_EQ(::fcntl(hello.memory.get(), F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    for (const auto* events : {&hello.doorbells, &hello.interrupts}) {
        for (const Fd& event : *events) {
            EXPECT_NE(::fcntl(event.get(), F_GETFL) & O_NONBLOCK, 0);
            EXPECT_EQ(::eventfd_write(event.get(), 1), 0);
        }
    }
}

TEST_F(UnixTest, CommandsGoThroughAndBothSidesSleep) {
    options.wait_mode = VGPU_WAIT_INTERRUPT;
    const DevicePtr device = open_served();
    ASSERT_NE(device, nullptr) << why.message;
    EXPECT_EQ(vgpu_generation(device.get()), 1U);
    const QueuePtr queue = open_queue(device);
    ASSERT_NE(queue, nullptr) << why.message;
    for (std::uint32_t i = 0; i != 200; ++i) {
        std::uint32_t sum = 0;
        ASSERT_EQ(vgpu_queue_add(queue.get(), i, 1000, kLimit, &sum, &why), VGPU_OK) << why.message;
        ASSERT_EQ(sum, i + 1000);
    }
    EXPECT_GT(served->interrupts, 0U);
    EXPECT_GT(served->wakes, 0U);
}

TEST_F(UnixTest, ThreadsHaveQueuesOfTheirOwn) {
    const DevicePtr device = open_served();
    ASSERT_NE(device, nullptr) << why.message;
    std::vector<std::thread> threads;
    for (std::uint32_t thread = 0; thread != 3; ++thread) {
        threads.emplace_back([&device, thread] {
            vgpu_queue* made = nullptr;
            ASSERT_EQ(vgpu_queue_open(device.get(), VGPU_QUEUE_ANY, kLimit, &made, nullptr),
                      VGPU_OK);
            const QueuePtr queue(made);
            for (std::uint32_t i = 0; i != 500; ++i) {
                std::uint32_t sum = 0;
                ASSERT_EQ(vgpu_queue_add(queue.get(), i, thread, kLimit, &sum, nullptr), VGPU_OK);
                ASSERT_EQ(sum, i + thread);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

TEST_F(UnixTest, ARefusalIsToldAndRequestsGoOn) {
    for (std::uint32_t status = VGPU_HELLO_NOT_OFFERED; status <= VGPU_HELLO_NOT_ALLOWED + 1;
         ++status) {
        const DevicePtr device = open([&] {
            peer = listener.accept();
            const Hello hello = receive_hello(peer->fd());
            send_hello_reply(*peer, hello, status, 0);
        });
        ASSERT_NE(device, nullptr) << why.message;
        EXPECT_EQ(open_queue(device), nullptr);
        EXPECT_EQ(code, VGPU_E_NO_QUEUES);
        EXPECT_THAT(why.message, HasSubstr("does not serve queues on this connection"));
        EXPECT_EQ(vgpu_generation(device.get()), 0U);
        EXPECT_EQ(nop(device, [&] { answer_one(*peer, make_response(0)); }), VGPU_OK);
    }
}

// Reactions to a hello of a mediator that has version 1, or is faulty.
class FallBackTest : public UnixTest, public testing::WithParamInterface<int> {};

TEST_P(FallBackTest, ConnectsOnceMoreWithoutAHello) {
    options.hello_timeout_ms = 50;
    const DevicePtr device = open([&] {
        std::optional<WirePeer> first = listener.accept();
        ASSERT_TRUE(first);
        Hello hello = receive_hello(first->fd());
        ASSERT_TRUE(hello.in_form);
        vgpu_msg_header header = hello.header;
        switch (GetParam()) {
            case 0:  // disconnects
                first.reset();
                break;
            case 1:  // sends nothing
                EXPECT_TRUE(first->wait_closed());
                break;
            case 2:  // unexpected message
                header.msg_type = VGPU_MSG_BUSY;
                first->send(header);
                break;
            case 3:  // short payload
                header.msg_type = VGPU_MSG_HELLO_REPLY;
                first->send(header, Bytes(31));
                break;
            case 4:  // invalid frame
                first->send_raw(Bytes(20, 0xAB));
                break;
            default:  // incomplete reply
                header.msg_type = VGPU_MSG_HELLO_REPLY;
                header.payload_len = 32;
                first->send_raw({reinterpret_cast<const std::uint8_t*>(&header), sizeof header});
                break;
        }
        peer = listener.accept();
        ASSERT_TRUE(peer);
    });
    ASSERT_NE(device, nullptr) << why.message;
    EXPECT_EQ(open_queue(device), nullptr);
    EXPECT_EQ(code, VGPU_E_NO_QUEUES);
    EXPECT_THAT(why.message, HasSubstr("version 1"));
    EXPECT_EQ(nop(device, [&] { answer_one(*peer, make_response(0)); }), VGPU_OK) << why.message;
}
INSTANTIATE_TEST_SUITE_P(All, FallBackTest, testing::Range(0, 6));

// A mediator closes the connection of a VM id that is in use without a message.
TEST_F(UnixTest, AConnectionThatIsClosedWithoutAnAnswerWasRefused) {
    options.shm_size = 0;
    const DevicePtr device = open([&] { peer = listener.accept(); });
    ASSERT_NE(device, nullptr) << why.message;
    const auto refuse = [&] {
        ASSERT_TRUE(peer->receive());
        peer.reset();
    };
    EXPECT_EQ(nop(device, refuse), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    EXPECT_THAT(why.message, HasSubstr("the mediator at " + path + " accepted the connection"));
    EXPECT_THAT(why.message, HasSubstr("VM id 42 is in use by another program or VM"));
    EXPECT_THAT(why.message, HasSubstr("log"));
}

TEST_F(UnixTest, AConnectionThatIsClosedLaterIsAnotherMatter) {
    options.shm_size = 0;
    const DevicePtr device = open([&] { peer = listener.accept(); });
    ASSERT_NE(device, nullptr) << why.message;
    EXPECT_EQ(nop(device, [&] { answer_one(*peer, make_response(0)); }), VGPU_OK);
    const auto stop = [&] {
        ASSERT_TRUE(peer->receive());
        peer.reset();
    };
    EXPECT_EQ(nop(device, stop), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    EXPECT_THAT(why.message, HasSubstr("closed the connection before it responded"));
    EXPECT_THAT(why.message, testing::Not(HasSubstr("in use")));
}

TEST_F(UnixTest, WhatIsNoMediatorIsToldSo) {
    options.shm_size = 0;
    const DevicePtr device = open([&] { peer = listener.accept(); });
    ASSERT_NE(device, nullptr) << why.message;
    const auto talk = [&] {
        ASSERT_TRUE(peer->receive());
        const std::string_view text = "HTTP/1.1 400 Bad Request\r\n\r\n";
        peer->send_raw({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
    };
    EXPECT_EQ(nop(device, talk), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    EXPECT_THAT(why.message, HasSubstr("does not speak the device protocol"));
}

TEST_F(UnixTest, AHelloThatEndsTheConnectionMayHaveBeenRefused) {
    const DevicePtr device = open([&] {
        std::optional<WirePeer> first = listener.accept();
        ASSERT_TRUE(first);
        ASSERT_TRUE(receive_hello(first->fd()).in_form);
        first.reset();
        peer = listener.accept();
    });
    ASSERT_NE(device, nullptr) << why.message;
    EXPECT_EQ(open_queue(device), nullptr);
    EXPECT_EQ(code, VGPU_E_NO_QUEUES);
    EXPECT_THAT(why.message, HasSubstr("VM id 42 is in use"));
    EXPECT_THAT(why.message, testing::Not(HasSubstr("requests still work")));
}

TEST_F(UnixTest, AMediatorThatPingsBeforeItsAnswerGetsAPong) {
    const DevicePtr device = open([&] {
        peer = listener.accept();
        const Hello hello = receive_hello(peer->fd());
        vgpu_msg_header ping = hello.header;
        ping.msg_type = VGPU_MSG_PING;
        ping.request_id = 5;
        peer->send(ping);
        const auto pong = peer->receive();
        ASSERT_TRUE(pong);
        EXPECT_EQ(pong->header.msg_type, VGPU_MSG_PONG);
        EXPECT_EQ(pong->header.request_id, 5U);
        send_hello_reply(*peer, hello, VGPU_HELLO_NO_RESOURCES, 0);
    });
    EXPECT_NE(device, nullptr) << why.message;
}

TEST_F(UnixTest, AMessageInOneWriteWithTheAnswerToTheHelloIsNotLost) {
    const DevicePtr device = open([&] {
        peer = listener.accept();
        send_hello_reply(*peer, receive_hello(peer->fd()), VGPU_HELLO_NO_RESOURCES, 0,
                         VGPU_MSG_PING);
    });
    ASSERT_NE(device, nullptr) << why.message;
    const auto talk = [&] {
        const auto request = peer->receive();
        ASSERT_TRUE(request);
        const auto pong = peer->receive();
        ASSERT_TRUE(pong);
        EXPECT_EQ(pong->header.msg_type, VGPU_MSG_PONG);
        auto answer = request->header;
        answer.msg_type = VGPU_MSG_RESPONSE;
        peer->send(answer, make_response(0));
    };
    EXPECT_EQ(nop(device, talk), VGPU_OK) << why.message;
}

TEST_F(UnixTest, MemoryThatWasTakenAndNotLaidOutIsNotUsed) {
    const DevicePtr device = open([&] {
        peer = listener.accept();
        const Hello hello = receive_hello(peer->fd());
        send_hello_reply(*peer, hello, VGPU_HELLO_TAKEN, 9);
    });
    ASSERT_NE(device, nullptr) << why.message;
    EXPECT_EQ(open_queue(device), nullptr);
    EXPECT_EQ(code, VGPU_E_NO_QUEUES);
    EXPECT_THAT(why.message, HasSubstr("uses a layout"));
}

TEST_F(UnixTest, ALostMediatorEndsASleepAndTheNextOneIsHelloedWithTheSameMemory) {
    for (const auto mode : {VGPU_WAIT_INTERRUPT, VGPU_WAIT_POLL, VGPU_WAIT_AUTO}) {
        options.wait_mode = mode;
        const DevicePtr device = open_served();
        ASSERT_NE(device, nullptr) << why.message;
        QueuePtr queue = open_queue(device);
        ASSERT_NE(queue, nullptr) << why.message;
        vgpu_heap_block block{};
        ASSERT_EQ(vgpu_heap_alloc(device.get(), 100, 0, &block, &why), VGPU_OK);
        std::memcpy(block.pointer, "stays", 6);
        served.reset();
        std::uint64_t point = 0;
        ASSERT_EQ(vgpu_queue_push_nop(queue.get(), nullptr, &point, &why), VGPU_OK);
        std::thread end([&] {
            // Disconnect while the wait begins.
            (void)vgpu_queue_completed(queue.get());
            peer.reset();
        });
        EXPECT_EQ(vgpu_queue_wait(queue.get(), point, kLimit, &why), VGPU_E_MEDIATOR_LOST);
        end.join();
        EXPECT_EQ(vgpu_generation(device.get()), 0U);
        queue.reset();

        std::thread mediator([this] { serve_one(77); });
        queue = open_queue(device);
        mediator.join();
        ASSERT_NE(queue, nullptr) << why.message;
        EXPECT_EQ(vgpu_generation(device.get()), 77U);
        EXPECT_EQ(vgpu_queue_nop(queue.get(), kLimit, &why), VGPU_OK) << why.message;
        EXPECT_STREQ(static_cast<const char*>(block.pointer), "stays");
        queue.reset();
        served.reset();
        peer.reset();
    }
}

TEST_F(UnixTest, RequestsReconnectAndSayHelloAgain) {
    const DevicePtr device = open_served();
    ASSERT_NE(device, nullptr) << why.message;
    served.reset();
    peer.reset();
    EXPECT_EQ(nop(device,
                  [&] {
                      serve_one(2);
                      answer_one(*peer, make_response(0));
                  }),
              VGPU_OK)
        << why.message;
    EXPECT_EQ(vgpu_generation(device.get()), 2U);
}

TEST_F(UnixTest, ACallersOlderOptionsAreEnough) {
    options.struct_size = offsetof(vgpu_options, flags);
    const DevicePtr device = open_served();
    ASSERT_NE(device, nullptr) << why.message;
    vgpu_shm_info info{};
    ASSERT_EQ(vgpu_get_shm_info(device.get(), &info, &why), VGPU_OK);
    EXPECT_EQ(info.size, 64U << 20);
    EXPECT_EQ(info.queue_count, 8U);
    EXPECT_EQ(info.free_queues, 8U);
    vgpu_properties properties{};
    ASSERT_EQ(vgpu_get_properties(device.get(), &properties, &why), VGPU_OK);
    EXPECT_EQ(properties.pool, 'A');
    EXPECT_EQ(properties.vm_id, 0U);
}

// --- requests
// -------------------------------------------------------------------------------------

class RequestTest : public UnixTest {
  protected:
    RequestTest() { options.shm_size = 0; }
    DevicePtr connected() {
        return open([this] { peer = listener.accept(); });
    }
    // Returns the code of a request to which the mediator reacts with `how`.
    int answered(const std::function<void(const vgpu_msg_header& request)>& how) {
        const DevicePtr device = connected();
        return nop(device, [&] {
            const auto request = peer->receive();
            ASSERT_TRUE(request);
            how(request->header);
        });
    }
};

TEST_F(RequestTest, WithoutSharedMemoryThereIsNoHello) {
    const DevicePtr device = connected();
    ASSERT_NE(device, nullptr) << why.message;
    EXPECT_EQ(nop(device, [&] { answer_one(*peer, make_response(0)); }), VGPU_OK);
    EXPECT_EQ(open_queue(device), nullptr);
    EXPECT_EQ(code, VGPU_E_NO_QUEUES);
}

TEST_F(RequestTest, BearTheirIdentityAndAreAnswered) {
    const DevicePtr device = connected();
    std::uint32_t sum = 0;
    std::thread mediator([&] {
        const auto request = peer->receive();
        ASSERT_TRUE(request);
        EXPECT_EQ(request->header.vm_id, 42U);
        EXPECT_EQ(request->header.pool_id, 'B');
        EXPECT_EQ(request->header.priority, VGPU_PRIORITY_HIGH);
        EXPECT_EQ(request->request().opcode, std::uint32_t{VGPU_OP_CUDA_KERNEL});
        vgpu_msg_header header = request->header;
        header.msg_type = VGPU_MSG_RESPONSE;
        peer->send(header, make_response(0, {*request->word(0) + *request->word(1)}));
    });
    EXPECT_EQ(vgpu_add(device.get(), 100, 200, kLimit, &sum, &why), VGPU_OK) << why.message;
    mediator.join();
    EXPECT_EQ(sum, 300U);
    EXPECT_GT(vgpu_timestamp(device.get()), 0U);
    vgpu_properties properties{};
    ASSERT_EQ(vgpu_get_properties(device.get(), &properties, &why), VGPU_OK);
    EXPECT_EQ(properties.pool, 'B');
    EXPECT_EQ(properties.vm_id, 42U);
    EXPECT_EQ(properties.has_interrupt, 1);
    EXPECT_THAT(properties.address, HasSubstr("unix:"));
    std::uint64_t value = 0;
    EXPECT_EQ(vgpu_mmio_read(device.get(), 0, 4, &value, &why), VGPU_E_ARGUMENT);
}

TEST_F(RequestTest, EndAsWithADevice) {
    const auto reply_with = [this](std::uint32_t type, const Bytes& payload) {
        return [this, type, payload](const vgpu_msg_header& request) {
            vgpu_msg_header header = request;
            header.msg_type = type;
            peer->send(header, payload);
        };
    };
    EXPECT_EQ(answered(reply_with(VGPU_MSG_RESPONSE, make_response(6, {}, "no pool"))),
              VGPU_ERR_INVALID_POOL);
    EXPECT_STREQ(why.message, "no pool");
    EXPECT_EQ(answered(reply_with(VGPU_MSG_RESPONSE, make_response(0x100))), VGPU_ERR_CUDA);
    EXPECT_EQ(answered(reply_with(VGPU_MSG_BUSY, {})), VGPU_ERR_RATE_LIMITED);
    EXPECT_EQ(answered(reply_with(VGPU_MSG_QUARANTINED, {})), VGPU_ERR_QUARANTINED);
    EXPECT_EQ(answered(reply_with(VGPU_MSG_RESPONSE, Bytes(31))), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    EXPECT_EQ(answered(reply_with(VGPU_MSG_REQUEST, {})), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    EXPECT_EQ(answered(reply_with(0x99, {})), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    EXPECT_EQ(answered([this](const auto&) { peer.reset(); }), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    EXPECT_EQ(answered([this](const auto&) { peer->send_raw(Bytes(64, 0xFF)); }),
              VGPU_ERR_MEDIATOR_UNAVAILABLE);
    EXPECT_EQ(answered([this](vgpu_msg_header header) {
                  header.msg_type = VGPU_MSG_RESPONSE;
                  header.payload_len = 0xFFFF;
                  peer->send_raw({reinterpret_cast<const std::uint8_t*>(&header), sizeof header});
              }),
              VGPU_ERR_MEDIATOR_UNAVAILABLE);
    EXPECT_EQ(answered([this](vgpu_msg_header header) {
                  header.msg_type = VGPU_MSG_RESPONSE;
                  ++header.vm_id;
                  peer->send(header, make_response(0));
              }),
              VGPU_ERR_MEDIATOR_UNAVAILABLE);
}

TEST_F(RequestTest, AnAnswerToAnotherRequestIsDropped) {
    EXPECT_EQ(answered([this](vgpu_msg_header header) {
                  header.msg_type = VGPU_MSG_RESPONSE;
                  ++header.request_id;
                  peer->send(header, make_response(VGPU_ERR_CUDA));
                  --header.request_id;
                  peer->send(header, make_response(0));
              }),
              VGPU_OK)
        << why.message;
}

TEST_F(RequestTest, ALateAnswerIsAwaitedFirstAndDropped) {
    for (const auto mode : {VGPU_WAIT_AUTO, VGPU_WAIT_POLL}) {
        options.wait_mode = mode;
        const DevicePtr device = connected();
        EXPECT_EQ(vgpu_nop(device.get(), 5, &why), VGPU_E_WAIT_TIMEOUT);
        EXPECT_EQ(vgpu_nop(device.get(), 5, &why), VGPU_E_WAIT_TIMEOUT);
        vgpu_command command{};
        EXPECT_EQ(vgpu_submit(device.get(), &command, nullptr, &why), VGPU_E_BUSY);
        EXPECT_EQ(nop(device,
                      [&] {
                          answer_one(*peer, make_response(VGPU_ERR_CUDA));
                          answer_one(*peer, make_response(0));
                      }),
                  VGPU_OK)
            << why.message;
        EXPECT_EQ(vgpu_wait(device.get(), 1, nullptr, &why), VGPU_E_NOT_SUBMITTED);
    }
}

TEST_F(RequestTest, AMediatorThatIsNotThereIsAFailureToOpen) {
    const std::string nowhere = "unix:" + dir.file("nobody");
    options.address = nowhere.c_str();
    vgpu_device* device = nullptr;
    EXPECT_EQ(vgpu_open(&options, &device, &why), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    EXPECT_THAT(why.message, HasSubstr(dir.file("nobody")));
    const std::string too_long = "unix:/" + std::string(200, 'x');
    for (const char* wrong : {too_long.c_str(), "unix:"}) {
        options.address = wrong;
        EXPECT_EQ(vgpu_open(&options, &device, &why), VGPU_E_ARGUMENT);
    }
}

TEST_F(RequestTest, WrongOptionsAreRefused) {
    vgpu_device* device = nullptr;
    const auto refused = [&](auto change) {
        vgpu_options changed = options;
        changed.shm_size = 1 << 20;
        change(changed);
        return vgpu_open(&changed, &device, &why) == VGPU_E_ARGUMENT;
    };
    EXPECT_TRUE(refused([](auto& o) { o.shm_size = 3 << 20; }));
    EXPECT_TRUE(refused([](auto& o) { o.shm_size = 1 << 19; }));
    EXPECT_TRUE(refused([](auto& o) { o.queue_count = 0; }));
    EXPECT_TRUE(refused([](auto& o) { o.queue_count = 65; }));
    EXPECT_TRUE(refused([](auto& o) { o.pool = '1'; }));
    EXPECT_TRUE(refused([](auto& o) { o.priority = 3; }));
    EXPECT_TRUE(refused([](auto& o) { o.flags = 2; }));
    EXPECT_TRUE(refused([](auto& o) { o.struct_size += 1; }));
}

TEST_F(RequestTest, AConnectionThatCannotBeMadeAgainIsACode) {
    DevicePtr device = connected();
    peer.reset();
    listener = WireListener(dir.file("elsewhere"));
    std::filesystem::remove(path);
    EXPECT_EQ(vgpu_nop(device.get(), kLimit, &why), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    EXPECT_EQ(vgpu_nop(device.get(), kLimit, &why), VGPU_ERR_MEDIATOR_UNAVAILABLE);
}

}  // namespace
}  // namespace vgpu::client::test
