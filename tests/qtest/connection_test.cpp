// SPDX-License-Identifier: MIT
//
// The device's end of the socket: connecting, losing the mediator, time-outs, late responses, and
// mediators that violate the protocol.
#include <sys/types.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "qtest/stub.h"

namespace vgpu::test {
namespace {

class ConnectionTest : public DeviceTest {
  protected:
    std::uint32_t status() { return stub().reg(VGPU_REG_STATUS); }
    void submit(std::uint32_t id) {
        stub().submit(id, make_add(id, id));
        expect_request(id, make_add(id, id));
    }
    // Lets the request in flight time out.
    void time_out() {
        machine().clock_step(std::chrono::milliseconds(100));
        ASSERT_EQ(wait_error(), VGPU_ERR_TIMEOUT);
    }
};

TEST_F(ConnectionTest, ConnectsWhenTheMediatorComes) {
    start_alone(",socket=" + socket_path());
    stub().submit(1, make_add(1, 2));
    EXPECT_EQ(wait_error(), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    listener_.emplace(socket_path());
    accept();
    submit(2);
    answer(2, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
}

TEST_F(ConnectionTest, SaysWhyItCannotConnect) {
    start_alone(",socket=" + socket_path());
    EXPECT_TRUE(machine().process().wait_for_output("No such file or directory"));
    EXPECT_TRUE(machine().process().wait_for_output("Start vgpu-mediator on this host"));
}

TEST_F(ConnectionTest, MediatorDiesWhileBusyAndComesBack) {
    start();
    submit(1);
    listener_.reset();
    peer().close();
    EXPECT_EQ(wait_error(), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    stub().submit(2, make_add(1, 2));
    EXPECT_EQ(status(), VGPU_STATUS_ERROR) << "at once while it is away";
    EXPECT_EQ(wait_error(), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    listener_.emplace(socket_path());
    // A request triggers a reconnect at once instead of waiting for the 1 s reconnect timer.
    stub().submit(3, make_add(3, 3));
    EXPECT_EQ(status(), VGPU_STATUS_BUSY);
    ASSERT_TRUE(peer_ = listener_->accept(std::chrono::milliseconds(500)));
    peer().vm_id = kVmId;
    expect_request(3, make_add(3, 3));
    answer(3, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
}

TEST_F(ConnectionTest, ConnectsAgainWithoutARequestToo) {
    start();
    peer().close();
    accept();
    submit(1);
    answer(1, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
}

// An unread request is resent to the next mediator; one that was read may have been executed, so it
// fails.
TEST_F(ConnectionTest, RequestThatWasNotReadGoesToTheNextConnection) {
    start();
    stub().submit(1, make_add(1, 1));
    peer().close();
    connect();
    expect_request(1, make_add(1, 1));
    answer(1, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
    stub().response();
    submit(2);
    peer().close();
    EXPECT_EQ(wait_error(), VGPU_ERR_MEDIATOR_UNAVAILABLE);
}

// Reconnects are throttled: a guest cannot flood a mediator that closes its connections.
TEST_F(ConnectionTest, MediatorThatAlwaysClosesIsNotFloodedByRequests) {
    start(",connect-wait-ms=100");
    const auto begin = std::chrono::steady_clock::now();
    unsigned connections = 1;
    peer().close();
    for (std::uint32_t id = 0; std::chrono::steady_clock::now() - begin < std::chrono::seconds(2);
         id++) {
        stub().submit(id, make_add(1, 2));
        while (stub().reg(VGPU_REG_STATUS) == VGPU_STATUS_BUSY) {
            if (listener_->accept(std::chrono::milliseconds(0))) {
                connections++;
            }
        }
        EXPECT_EQ(wait_error(), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    }
    EXPECT_GE(connections, 3U);
    EXPECT_LE(connections, 10U) << "three at once, and as many each second";
}

// Kills a process that is not a child of the test.
class Daemon {
  public:
    explicit Daemon(const std::string& pidfile) { std::ifstream(pidfile) >> pid_; }
    Daemon(const Daemon&) = delete;
    Daemon& operator=(const Daemon&) = delete;
    ~Daemon() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
        }
    }
    [[nodiscard]] std::string folder() const {
        return std::filesystem::read_symlink("/proc/" + std::to_string(pid_) + "/cwd").string();
    }

  private:
    pid_t pid_ = 0;
};

// QEMU changes its working directory when it daemonizes; a relative path must keep its meaning.
TEST_F(ConnectionTest, RelativePathOutlivesAChangeOfTheFolder) {
    listener_.emplace(socket_path());
    const std::string pidfile = dir_.file("pid");
    auto command = qemu_command(dir_, "q35",
                                {"-device", "vgpu-stub,vm_id=7,shm-size=0,socket=mediator",
                                 "-daemonize", "-pidfile", pidfile});
    command.insert(command.begin(), {"/usr/bin/env", "-C", dir_.path().string()});
    const auto [exit_status, output] = run_program(command);
    ASSERT_EQ(exit_status, 0) << output;
    const Daemon daemon(pidfile);
    ASSERT_EQ(daemon.folder(), "/");
    ASSERT_NO_FATAL_FAILURE(accept());
    // Restart the mediator.
    listener_.reset();
    peer().close();
    listener_.emplace(socket_path());
    ASSERT_NO_FATAL_FAILURE(accept());
}

class ChardevTest : public ConnectionTest {
  protected:
    void start_chardev(const std::string& properties = {}) {
        start_alone(",chardev=vg0" + properties,
                    {"-chardev", "socket,id=vg0,reconnect=1,path=" + socket_path(), "-trace",
                     "vgpu_stub_*"});
    }
    // Starts a device whose mediator has just disconnected.
    void start_without_connection(const std::string& properties) {
        listener_.emplace(socket_path());
        start_chardev(properties);
        accept();
        listener_.reset();
        peer().close();
        ASSERT_TRUE(machine().process().wait_for_output("vgpu_stub_disconnected"));
    }
    void begin(std::uint32_t id) {
        stub().submit(id, make_add(id, id));
        ASSERT_EQ(status(), VGPU_STATUS_BUSY) << "it waits";
    }
    bool migration_blocked() {
        return machine().qmp("query-migrate")["return"].contains("blocked-reasons");
    }
};

TEST_F(ChardevTest, Serves) {
    listener_.emplace(socket_path());
    start_chardev();
    accept();
    submit(1);
    answer(1, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
}

TEST_F(ChardevTest, RequestWaitsForTheNextConnection) {
    start_without_connection(",connect-wait-ms=20000");
    begin(1);
    stub().submit(2, make_add(2, 2));
    EXPECT_EQ(status(), VGPU_STATUS_BUSY) << "a second doorbell changes nothing";
    EXPECT_TRUE(migration_blocked());
    listener_.emplace(socket_path());
    connect();
    expect_request(1, make_add(1, 1));
    answer(1, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
    EXPECT_FALSE(migration_blocked());
}

TEST_F(ChardevTest, RequestWaitsForAMomentAndNotForEver) {
    start_without_connection(",connect-wait-ms=300");
    const auto before = std::chrono::steady_clock::now();
    begin(1);
    EXPECT_EQ(wait_error(), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    const auto waited = std::chrono::steady_clock::now() - before;
    EXPECT_GE(waited, std::chrono::milliseconds(290));
    EXPECT_LT(waited, std::chrono::milliseconds(2000));
    EXPECT_FALSE(migration_blocked());
    // The failed request is not sent later.
    listener_.emplace(socket_path());
    accept();
    submit(2);
    answer(2, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
}

TEST_F(ChardevTest, RequestDoesNotWaitWhereThatIsSwitchedOff) {
    start_without_connection(",connect-wait-ms=0");
    stub().submit(1, make_add(1, 1));
    EXPECT_EQ(status(), VGPU_STATUS_ERROR) << "at once";
    EXPECT_EQ(wait_error(), VGPU_ERR_MEDIATOR_UNAVAILABLE);
}

TEST_F(ChardevTest, TimeOutEndsTheWaitToo) {
    start_without_connection(",connect-wait-ms=20000,timeout-ms=100");
    begin(1);
    machine().clock_step(std::chrono::milliseconds(100));
    EXPECT_EQ(wait_error(), VGPU_ERR_TIMEOUT);
    listener_.emplace(socket_path());
    accept();
    // The same id again: no response to the first request is outstanding, as it was never sent.
    submit(1);
    answer(1, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
}

TEST_F(ChardevTest, ResetEndsTheWait) {
    start_without_connection(",connect-wait-ms=300");
    begin(1);
    ASSERT_TRUE(machine().qmp("system_reset").contains("return"));
    ASSERT_TRUE(machine().wait_event("RESET"));
    stub_.emplace(machine());
    EXPECT_EQ(status(), VGPU_STATUS_IDLE);
    EXPECT_FALSE(migration_blocked());
    // Neither the end of the wait nor the next connection affects the cancelled request.
    listener_.emplace(socket_path());
    accept();
    EXPECT_EQ(status(), VGPU_STATUS_IDLE);
    EXPECT_EQ(stub().reg(VGPU_REG_IRQ_STATUS), 0U);
    submit(2);
    answer(2, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
}

TEST_F(ConnectionTest, PathMayHoldACommaAndAnEqualsSign) {
    const std::string path = dir_.file("a,b=c");
    listener_.emplace(path);
    start_alone(",socket=" + dir_.file("a,,b=c"));
    accept();
}

TEST_F(ConnectionTest, TwoDevicesHaveTwoConnections) {
    start("", {}, "pc");
    const auto added = machine().qmp("device_add", {{"driver", "vgpu-stub"},
                                                    {"addr", "5"},
                                                    {"vm_id", 8},
                                                    {"shm-size", 0},
                                                    {"socket", socket_path()}});
    ASSERT_TRUE(added.contains("return")) << added.dump();
    auto second = listener_->accept();
    ASSERT_TRUE(second);
    second->vm_id = 8;
    second->send(second->header(VGPU_MSG_PING, 1));
    const auto pong = second->receive();
    ASSERT_TRUE(pong);
    EXPECT_EQ(pong->header.vm_id, 8U);
    // A violation on one connection does not affect the other.
    submit(1);
    ASSERT_TRUE(second->send_raw(std::vector<std::uint8_t>(20, 0xFF)));
    EXPECT_TRUE(second->wait_closed());
    EXPECT_EQ(status(), VGPU_STATUS_BUSY);
    answer(1, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
}

TEST_F(ConnectionTest, TimeOut) {
    start(",timeout-ms=100");
    submit(1);
    machine().clock_step(std::chrono::milliseconds(99));
    EXPECT_EQ(status(), VGPU_STATUS_BUSY);
    machine().clock_step(std::chrono::milliseconds(1));
    EXPECT_EQ(wait_error(), VGPU_ERR_TIMEOUT);
    EXPECT_EQ(status(), VGPU_STATUS_IDLE);
}

TEST_F(ConnectionTest, TimeOutIsThirtySecondsUnlessSaidOtherwise) {
    start();
    submit(1);
    machine().clock_step(std::chrono::milliseconds(29999));
    EXPECT_EQ(status(), VGPU_STATUS_BUSY);
    machine().clock_step(std::chrono::milliseconds(1));
    EXPECT_EQ(wait_error(), VGPU_ERR_TIMEOUT);
}

TEST_F(ConnectionTest, AnswerStopsTheClock) {
    start(",timeout-ms=100");
    submit(1);
    answer(1, make_response(0));
    ASSERT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
    machine().clock_step(std::chrono::seconds(1));
    EXPECT_EQ(status(), VGPU_STATUS_DONE);
    // The next request gets its full time-out.
    submit(2);
    machine().clock_step(std::chrono::milliseconds(99));
    EXPECT_EQ(status(), VGPU_STATUS_BUSY);
}

TEST_F(ConnectionTest, LateAnswerIsDropped) {
    start(",timeout-ms=100");
    submit(1);
    time_out();
    const auto response = make_response(0);
    answer(1, response);
    sync();
    EXPECT_EQ(status(), VGPU_STATUS_IDLE);
    EXPECT_EQ(stub().reg(VGPU_REG_RESPONSE_LEN), 0U);
    EXPECT_EQ(stub().read(VGPU_RESPONSE_BUF, 8), 0U) << "not a byte of it may show";

    // Also while the next request is in flight.
    submit(2);
    time_out();
    submit(3);
    answer(2, response);
    sync();
    EXPECT_EQ(status(), VGPU_STATUS_BUSY);
    answer(3, response);
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
}

TEST_F(ConnectionTest, LateAnswerIsDroppedWhenTheIdIsUsedAgain) {
    start(",timeout-ms=100");
    // The same id three times: two timed out, the third in flight.
    submit(9);
    time_out();
    submit(9);
    time_out();
    submit(9);
    answer(9, make_response(VGPU_ERR_CUDA));
    answer(9, make_response(VGPU_ERR_CUDA));
    sync();
    EXPECT_EQ(status(), VGPU_STATUS_BUSY);
    answer(9, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
}

TEST_F(ConnectionTest, RefusalOfARequestGivenUpIsDroppedToo) {
    start(",timeout-ms=100");
    submit(9);
    time_out();
    submit(9);
    send(VGPU_MSG_BUSY, 9);
    sync();
    EXPECT_EQ(status(), VGPU_STATUS_BUSY);
    answer(9, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
}

TEST_F(ConnectionTest, NewConnectionOwesNothing) {
    start(",timeout-ms=100");
    submit(9);
    time_out();
    peer().close();
    accept();
    submit(9);
    answer(9, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE) << "this answer is the new request's";
}

TEST_F(ConnectionTest, MediatorThatOwesTooManyAnswersIsDropped) {
    start(",timeout-ms=100");
    for (std::uint32_t id = 0; id < 64; id++) {
        submit(id);
        time_out();
    }
    submit(64);
    time_out();
    EXPECT_TRUE(peer().wait_closed());
    EXPECT_TRUE(machine().process().wait_for_output("the mediator owes too many responses"));
    accept();
}

TEST_F(ConnectionTest, AnswerNobodyAskedForIsDropped) {
    start();
    answer(1, make_response(0));
    sync();
    EXPECT_EQ(status(), VGPU_STATUS_IDLE);
    submit(2);
    answer(3, make_response(0));
    sync();
    EXPECT_EQ(status(), VGPU_STATUS_BUSY);
    answer(2, make_response(0));
    ASSERT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
    answer(2, make_response(VGPU_ERR_CUDA));  // a duplicate response
    sync();
    EXPECT_EQ(status(), VGPU_STATUS_DONE);
    EXPECT_EQ(stub().reg(VGPU_REG_ERROR_CODE), 0U);
}

TEST_F(ConnectionTest, BusyAndQuarantinedEndTheRequest) {
    start();
    submit(1);
    send(VGPU_MSG_BUSY, 1);
    EXPECT_EQ(wait_error(), VGPU_ERR_RATE_LIMITED);
    submit(2);
    send(VGPU_MSG_QUARANTINED, 2, std::vector<std::uint8_t>(1024, 'x'));
    EXPECT_EQ(wait_error(), VGPU_ERR_QUARANTINED);
    EXPECT_EQ(stub().reg(VGPU_REG_RESPONSE_LEN), 0U);
    submit(3);
    send(VGPU_MSG_BUSY, 4);  // the id of another request
    sync();
    EXPECT_EQ(status(), VGPU_STATUS_BUSY);
}

TEST_F(ConnectionTest, PingIsAnsweredInKindWhileBusyToo) {
    start();
    submit(1);
    auto header = peer().header(VGPU_MSG_PING, 0x1234);
    header.pool_id = 'Q';
    header.priority = 2;
    peer().send(header);
    const auto pong = peer().receive();
    ASSERT_TRUE(pong);
    EXPECT_EQ(pong->header.msg_type, VGPU_MSG_PONG);
    EXPECT_EQ(pong->header.request_id, 0x1234U);
    EXPECT_EQ(pong->header.pool_id, 'Q');
    EXPECT_EQ(pong->header.priority, 2U);
    EXPECT_TRUE(pong->payload.empty());
    send(VGPU_MSG_PONG, 1);  // an unsolicited PONG is ignored
    sync();
    EXPECT_EQ(status(), VGPU_STATUS_BUSY);
}

TEST_F(ConnectionTest, MessagesMayComeInPieces) {
    start();
    submit(1);
    auto header = peer().header(VGPU_MSG_RESPONSE, 1);
    auto payload = make_response(0);
    payload.resize(VGPU_BUF_SIZE, 0x5A);
    header.payload_len = static_cast<std::uint16_t>(payload.size());
    std::vector<std::uint8_t> bytes(sizeof header);
    std::memcpy(bytes.data(), &header, sizeof header);
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    for (std::size_t at = 0; at < bytes.size(); at++) {
        // Byte by byte through the header and slightly beyond, then in pieces of odd size.
        const std::size_t piece = std::min<std::size_t>(at < 60 ? 1 : 97, bytes.size() - at);
        EXPECT_EQ(status(), VGPU_STATUS_BUSY);
        ASSERT_TRUE(peer().send_raw(std::span(bytes).subspan(at, piece)));
        at += piece - 1;
    }
    ASSERT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
    EXPECT_EQ(stub().response(), payload);
}

TEST_F(ConnectionTest, MediatorThatDoesNotReadMakesNobodyWait) {
    start();
    // Fill the socket with unread PONGs; the rest is queued in the device.
    constexpr std::uint32_t kPings = 2000;
    for (std::uint32_t id = 0; id < kPings; id++) {
        send(VGPU_MSG_PING, id);
    }
    stub().submit(0xABCD, make_add(1, 2));
    EXPECT_EQ(status(), VGPU_STATUS_BUSY) << "the doorbell returned";
    // Once the mediator reads, everything arrives complete and in order.
    std::uint32_t pongs = 0;
    bool request_seen = false;
    while (pongs < kPings || !request_seen) {
        const auto message = peer().receive();
        ASSERT_TRUE(message) << "after " << pongs << " pongs";
        if (message->header.msg_type == VGPU_MSG_REQUEST) {
            EXPECT_EQ(message->payload, make_add(1, 2));
            request_seen = true;
        } else {
            ASSERT_EQ(message->header.msg_type, VGPU_MSG_PONG);
            ASSERT_EQ(message->header.request_id, pongs);
            pongs++;
        }
    }
    answer(0xABCD, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
}

TEST_F(ConnectionTest, MediatorThatNeverReadsIsDropped) {
    start();
    submit(1);
    const auto header = peer().header(VGPU_MSG_PING, 1);
    const std::span bytes(reinterpret_cast<const std::uint8_t*>(&header), sizeof header);
    // Ends when the device disconnects: its send queue is bounded.
    for (int i = 0; i < 200000 && peer().send_raw(bytes); i++) {
    }
    EXPECT_EQ(wait_error(), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    EXPECT_TRUE(machine().process().wait_for_output("the mediator does not read its messages"));
    accept();
}

struct BadMessage {
    const char* name;
    const char* reason;  // as in the log line
    std::uint32_t magic = VGPU_MSG_MAGIC;
    std::uint32_t type = VGPU_MSG_RESPONSE;
    std::uint32_t vm_id = 7;
    std::uint16_t payload_len = 32;
};

class BadMessageTest : public ConnectionTest, public testing::WithParamInterface<BadMessage> {};

TEST_P(BadMessageTest, DropsTheConnectionAndConnectsAgain) {
    start();
    submit(1);
    const BadMessage& bad = GetParam();
    auto header = peer().header(bad.type, 1);
    header.magic = bad.magic;
    header.vm_id = bad.vm_id;
    header.payload_len = bad.payload_len;
    // Send the header only: the device must reject it without waiting for a payload.
    ASSERT_TRUE(
        peer().send_raw(std::span(reinterpret_cast<const std::uint8_t*>(&header), sizeof header)));
    EXPECT_EQ(wait_error(), VGPU_ERR_MEDIATOR_UNAVAILABLE);
    EXPECT_TRUE(peer().wait_closed());
    EXPECT_TRUE(machine().process().wait_for_output(bad.reason));
    accept();
    submit(2);
    answer(2, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
}

INSTANTIATE_TEST_SUITE_P(
    All, BadMessageTest,
    testing::Values(
        BadMessage{.name = "Magic", .reason = "with a wrong magic", .magic = 0x55504756},
        BadMessage{.name = "OtherVm", .reason = "a message for another VM", .vm_id = 8},
        BadMessage{.name = "TypeZero", .reason = "unknown type", .type = 0},
        BadMessage{.name = "Request", .reason = "unknown type", .type = VGPU_MSG_REQUEST},
        BadMessage{.name = "TypeUnknown", .reason = "unknown type", .type = 7},
        BadMessage{.name = "Extension", .reason = "unknown type", .type = VGPU_MSG_EXTENSION_FIRST},
        BadMessage{.name = "EmptyResponse", .reason = "too short", .payload_len = 0},
        BadMessage{.name = "ShortResponse", .reason = "too short", .payload_len = 31},
        BadMessage{.name = "LongResponse", .reason = "too long", .payload_len = 1025},
        BadMessage{.name = "LongestResponse", .reason = "too long", .payload_len = 0xFFFF},
        BadMessage{
            .name = "LongBusy", .reason = "too long", .type = VGPU_MSG_BUSY, .payload_len = 1025},
        BadMessage{.name = "PingWithPayload",
                   .reason = "a ping or pong with a payload",
                   .type = VGPU_MSG_PING,
                   .payload_len = 1}),
    [](const auto& param_info) { return std::string(param_info.param.name); });

TEST_F(ConnectionTest, BadMediatorCannotFloodTheLog) {
    start();
    const std::vector<std::uint8_t> garbage(1000, 0xEE);
    for (int i = 0; i < 3; i++) {
        ASSERT_TRUE(peer().send_raw(garbage));
        ASSERT_TRUE(peer().wait_closed());
        accept();
    }
    const std::string output = machine().process().output();
    const std::string line = "connection dropped";
    const auto first = output.find(line);
    ASSERT_NE(first, std::string::npos) << output;
    EXPECT_EQ(output.find(line, first + 1), std::string::npos) << output;
}

}  // namespace
}  // namespace vgpu::test
