// SPDX-License-Identifier: MIT
//
// Tests that calls keep their time-outs if the mediator floods the connection, does not read, does
// not accept, or does not reset the queues of other processes.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "client/include/vgpu.h"
#include "client/queue/queue.h"
#include "client/testing/fake_host.h"
#include "client/testing/fake_mediator.h"
#include "support/temp_dir.h"
#include "support/unix_socket.h"

namespace vgpu::client::test {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using SteadyClock = std::chrono::steady_clock;

// Far more than the time-outs of the calls, far less than a call without a time-out takes.
constexpr std::chrono::seconds kSoon{2};
constexpr std::uint32_t kShort = 20;  // ms

class UnixLimitsTest : public testing::Test {
  protected:
    UnixLimitsTest() {
        options.address = address.c_str();
        options.shm_size = 1 << 20;
        options.queue_count = 1;
        options.hello_timeout_ms = kShort;
    }
    ~UnixLimitsTest() override { end_flood(); }

    // Starts a mediator that accepts a connection and sends messages of this type without end.
    void flood(std::uint32_t type, bool reads) {
        const std::vector<std::uint8_t> payload(type == VGPU_MSG_RESPONSE ? sizeof(vgpu_response)
                                                                          : 0);
        flooding = std::thread([this, type, reads, payload] {
            const Fd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
            static_cast<void>(::fcntl(socket.get(), F_SETFL, O_NONBLOCK));
            vgpu_msg_header header{};
            header.magic = VGPU_MSG_MAGIC;
            header.msg_type = type;
            header.request_id = 77;
            header.payload_len = static_cast<std::uint16_t>(payload.size());
            // Many per call, so that the reader cannot drain the socket.
            std::vector<std::uint8_t> bytes;
            for (int count = 0; count != 64; ++count) {
                const auto* const begin = reinterpret_cast<const std::uint8_t*>(&header);
                bytes.insert(bytes.end(), begin, begin + sizeof header);
                bytes.insert(bytes.end(), payload.begin(), payload.end());
            }
            std::size_t sent = 0;
            std::array<std::byte, 65536> scrap{};
            const auto give_up = SteadyClock::now() + 10 * kSoon;
            while (!ended && SteadyClock::now() < give_up) {
                const ssize_t n =
                    ::send(socket.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
                if (n > 0) {
                    sent = (sent + static_cast<std::size_t>(n)) % bytes.size();
                } else {
                    pollfd entry{.fd = socket.get(), .events = POLLOUT, .revents = 0};
                    entry.events |= reads ? POLLIN : 0;
                    static_cast<void>(::poll(&entry, 1, 1));
                }
                if (reads) {
                    static_cast<void>(::recv(socket.get(), scrap.data(), scrap.size(), 0));
                }
            }
        });
    }
    void end_flood() {
        ended = true;
        if (flooding.joinable()) {
            flooding.join();
        }
    }
    int open() {
        const auto begin = SteadyClock::now();
        const int code = vgpu_open(&options, &device, &why);
        EXPECT_LT(SteadyClock::now() - begin, kSoon);
        return code;
    }
    int nop() {
        const auto begin = SteadyClock::now();
        const int code = vgpu_nop(device, kShort, &why);
        EXPECT_LT(SteadyClock::now() - begin, kSoon);
        return code;
    }

    vgpu::test::TempDir dir;
    std::string path = dir.file("s");
    std::string address = "unix:" + path;
    Fd listener = vgpu::test::listen_unix(path, 1);
    vgpu_options options = VGPU_OPTIONS_INIT;
    vgpu_device* device = nullptr;
    vgpu_failure why{};
    std::atomic<bool> ended{false};
    std::thread flooding;
};

TEST_F(UnixLimitsTest, PingsWithoutEndDoNotHoldUpTheHello) {
    for (const bool reads : {true, false}) {
        ended = false;
        flood(VGPU_MSG_PING, reads);
        // The handshake fails, so the device uses a second connection without queues.
        EXPECT_EQ(open(), VGPU_OK) << why.message;
        end_flood();
        vgpu_close(device);
        // Accept and close that connection.
        const Fd second(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    }
}

TEST_F(UnixLimitsTest, MessagesWithoutEndDoNotHoldUpAWait) {
    options.shm_size = 0;
    for (const auto mode : {VGPU_WAIT_AUTO, VGPU_WAIT_POLL}) {
        for (const auto type : {VGPU_MSG_PING, VGPU_MSG_PONG, VGPU_MSG_RESPONSE}) {
            options.wait_mode = mode;
            ended = false;
            flood(type, true);
            ASSERT_EQ(open(), VGPU_OK) << why.message;
            // The connection may end if the mediator reads the pongs too slowly.
            const auto ended_in_time = AnyOf(VGPU_E_WAIT_TIMEOUT, VGPU_ERR_MEDIATOR_UNAVAILABLE);
            EXPECT_THAT(nop(), ended_in_time) << why.message;
            end_flood();
            vgpu_close(device);
        }
    }
}

TEST_F(UnixLimitsTest, AMediatorThatDoesNotReadItsPongsLosesTheConnection) {
    options.shm_size = 0;
    flood(VGPU_MSG_PING, false);
    ASSERT_EQ(open(), VGPU_OK) << why.message;
    int code = VGPU_E_WAIT_TIMEOUT;
    for (int calls = 0; calls != 50 && code == VGPU_E_WAIT_TIMEOUT; ++calls) {
        code = nop();
    }
    EXPECT_EQ(code, VGPU_ERR_MEDIATOR_UNAVAILABLE);
    vgpu_close(device);
}

// Connections that fill the backlog.
std::vector<Fd> crowd_at(const std::string& path) {
    std::vector<Fd> crowd;
    const sockaddr_un to = vgpu::test::unix_address(path);
    do {
        crowd.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    } while (::connect(crowd.back().get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
    return crowd;
}

TEST_F(UnixLimitsTest, AFullBacklogDoesNotHoldUpOpening) {
    const std::vector<Fd> crowd = crowd_at(path);
    EXPECT_EQ(open(), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    EXPECT_THAT(why.message, AllOf(HasSubstr(path), HasSubstr("too many other programs")));
}

// A program may use signals, such as a profiler's.
TEST_F(UnixLimitsTest, SignalsDoNotEndTheWaitForAPlaceInTheBacklog) {
    const std::vector<Fd> crowd = crowd_at(path);
    struct sigaction action {};
    struct sigaction before {};
    action.sa_handler = [](int /*number*/) {};
    ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
    std::atomic<bool> opened{false};
    std::thread signals([&opened, opening = ::pthread_self()] {
        while (!opened) {
            ::pthread_kill(opening, SIGUSR1);
            std::this_thread::sleep_for(std::chrono::microseconds(500));
        }
    });
    EXPECT_EQ(open(), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    opened = true;
    signals.join();
    ::sigaction(SIGUSR1, &before, nullptr);
    EXPECT_EQ(why.sys_errno, EAGAIN) << why.message;
}

TEST(QueueLimitsTest, AnotherQueueThatIsNeverQuietDoesNotHoldUpACall) {
    FakeHost host;
    vgpu_device* const device = make_device(host);
    vgpu_failure why{};
    vgpu_queue* queue = nullptr;
    host.start_thread();
    ASSERT_EQ(vgpu_queue_open(device, 0, 10'000, &queue, &why), VGPU_OK) << why.message;
    host.stop_thread();
    // The queue of a dead process, and a host that does not acknowledge a reset.
    host.control(1).state = VGPU_QUEUE_RUNNING;
    const auto begin = SteadyClock::now();
    EXPECT_EQ(vgpu_queue_nop(queue, kShort, &why), VGPU_E_WAIT_TIMEOUT) << why.message;
    std::array<std::byte, 64> bytes{};
    EXPECT_EQ(vgpu_queue_copy_to(queue, 1, 0, bytes.data(), bytes.size(), kShort, &why),
              VGPU_E_WAIT_TIMEOUT)
        << why.message;
    EXPECT_LT(SteadyClock::now() - begin, kSoon);
    host.attached = false;
    vgpu_queue_close(queue);
    vgpu_close(device);
}

}  // namespace
}  // namespace vgpu::client::test
