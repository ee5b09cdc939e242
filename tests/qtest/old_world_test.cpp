// SPDX-License-Identifier: MIT
//
// Third-party programs for the same register map and messages: a mediator that serves one request
// per connection, and a guest with its own request encoding that knows only the first capability.
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstring>
#include <thread>

#include "qtest/stub.h"
#include "support/unix_socket.h"

namespace vgpu::test {
namespace {

// Accepts, reads one message, replies to a request with the sum of its params, closes.
class OneRequestMediator {
  public:
    explicit OneRequestMediator(const std::string& path) : listener_(listen_unix(path, 1)) {
        thread_ = std::thread([this] { run(); });
    }
    OneRequestMediator(const OneRequestMediator&) = delete;
    OneRequestMediator& operator=(const OneRequestMediator&) = delete;
    ~OneRequestMediator() {
        stop_ = true;
        ::shutdown(listener_.get(), SHUT_RDWR);
        if (const int served = serving_; served >= 0) {
            ::shutdown(served, SHUT_RDWR);
        }
        thread_.join();
    }
    [[nodiscard]] unsigned connections() const { return connections_; }
    // Waits until it has closed `count` connections; returns false on time-out.
    [[nodiscard]] bool wait_closed(unsigned count) const {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
        while (closed_ < count && std::chrono::steady_clock::now() < deadline) {
            std::this_thread::yield();
        }
        return closed_ >= count;
    }

  private:
    void run() {
        while (!stop_) {
            Fd peer(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
            if (!peer) {
                continue;
            }
            connections_++;
            serving_ = peer.get();
            if (!stop_) {
                serve(peer.get());
            }
            serving_ = -1;
            peer.reset();
            closed_++;
        }
    }
    static void serve(int peer) {
        std::array<std::uint8_t, sizeof(vgpu_msg_header) + VGPU_BUF_SIZE> bytes{};
        vgpu_msg_header header{};
        if (::recv(peer, bytes.data(), sizeof header, MSG_WAITALL) != sizeof header) {
            return;
        }
        std::memcpy(&header, bytes.data(), sizeof header);
        if (header.magic != VGPU_MSG_MAGIC || header.msg_type != VGPU_MSG_REQUEST ||
            ::recv(peer, bytes.data(), header.payload_len, MSG_WAITALL) != header.payload_len) {
            return;
        }
        std::array<std::uint32_t, 2> params{};
        std::memcpy(params.data(), bytes.data() + sizeof(vgpu_request), sizeof params);
        const auto response =
            make_response(0, std::array<std::uint32_t, 1>{params[0] + params[1]}, 1);
        header.msg_type = VGPU_MSG_RESPONSE;
        header.payload_len = static_cast<std::uint16_t>(response.size());
        std::memcpy(bytes.data(), &header, sizeof header);
        std::memcpy(bytes.data() + sizeof header, response.data(), response.size());
        (void)!::send(peer, bytes.data(), sizeof header + response.size(), MSG_NOSIGNAL);
    }

    Fd listener_;
    std::atomic<bool> stop_{false};
    std::atomic<int> serving_{-1};
    std::atomic<unsigned> connections_{0};
    std::atomic<unsigned> closed_{0};
    std::thread thread_;
};

class OldWorldTest : public DeviceTest {
  protected:
    // Returns such a guest's request: the offset points at the params, the length is 0.
    static std::vector<std::uint8_t> old_add(std::uint32_t a, std::uint32_t b) {
        auto bytes = make_add(a, b);
        const std::uint32_t offset = 32;
        std::memcpy(bytes.data() + offsetof(vgpu_request, data_offset), &offset, sizeof offset);
        return bytes;
    }
    // Sends a request and expects the sum.
    void expect_sum(std::uint32_t id) {
        stub().submit(id, old_add(id, 100));
        ASSERT_EQ(stub().wait_done(), VGPU_STATUS_DONE)
            << "request " << id << ", error " << stub().reg(VGPU_REG_ERROR_CODE);
        const auto response = stub().response();
        ASSERT_EQ(response.size(), sizeof(vgpu_response) + 4);
        std::uint32_t sum = 0;
        std::memcpy(&sum, response.data() + sizeof(vgpu_response), sizeof sum);
        EXPECT_EQ(sum, id + 100);
    }
};

TEST_F(OldWorldTest, MediatorOfOneRequestPerConnectionServesAllOfThem) {
    constexpr std::uint32_t kRequests = 50;
    const OneRequestMediator mediator(socket_path());
    start_alone(",socket=" + socket_path());
    const auto begin = std::chrono::steady_clock::now();
    for (std::uint32_t id = 1; id <= kRequests; id++) {
        ASSERT_NO_FATAL_FAILURE(expect_sum(id));
    }
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5))
        << "no pause before each connection";
    EXPECT_GE(mediator.connections(), kRequests);
}

// Each HELLO costs a connection, since such a mediator closes on HELLO.
TEST_F(OldWorldTest, AlsoThoseOfADeviceThatSaysHello) {
    const OneRequestMediator mediator(socket_path());
    start_alone(",shm-size=1M,queues=4,socket=" + socket_path());
    constexpr unsigned kPciBar2 = 0x18;
    stub().set_config(kPciBar2 + 4, 4, 8);
    for (std::uint32_t id = 1; id <= 20; id++) {
        ASSERT_NO_FATAL_FAILURE(expect_sum(id));
    }
}

TEST_F(OldWorldTest, AlsoThroughAChardevThatConnectsOnceASecond) {
    const OneRequestMediator mediator(socket_path());
    start_alone(",chardev=vg0", {"-chardev", "socket,id=vg0,reconnect=1,path=" + socket_path()});
    for (std::uint32_t id = 1; id <= 4; id++) {
        ASSERT_NO_FATAL_FAILURE(expect_sum(id));
        // QEMU does not report to the device that a request was left unread.
        ASSERT_TRUE(mediator.wait_closed(id));
    }
}

TEST_F(OldWorldTest, BasicDeviceHasTheFirstCapabilityAlone) {
    start(",basic=on");
    machine().intercept_interrupts();
    EXPECT_EQ(stub().reg(VGPU_REG_CAPABILITIES), VGPU_CAP_BASIC_REQUEST);
    EXPECT_EQ(stub().config(0x3D, 1), 0U) << "interrupt pin";
    EXPECT_EQ(stub().find_capability(0x05), 0U) << "MSI";
    EXPECT_EQ(stub().find_capability(0x11), 0U) << "MSI-X";
    for (std::uint32_t bar = 0x14; bar < 0x28; bar += 4) {
        stub().set_config(bar, 4, 0xFFFFFFFF);
        EXPECT_EQ(stub().config(bar, 4), 0U) << "BAR at " << bar;
    }
    for (std::uint32_t offset = VGPU_RESERVED_BEGIN; offset < VGPU_BAR0_SIZE; offset += 4) {
        stub().set(offset, 0xFFFFFFFF);
        EXPECT_EQ(stub().reg(offset), 0U);
    }
    // The interrupt registers exist but have no effect.
    stub().set(VGPU_REG_IRQ_CTRL, 0xFFFFFFFF);
    EXPECT_EQ(stub().reg(VGPU_REG_IRQ_CTRL), VGPU_IRQ_COMPLETION);
    stub().submit(1, old_add(1, 2));
    expect_request(1, old_add(1, 2));
    answer(1, make_response(0));
    EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
    EXPECT_EQ(stub().reg(VGPU_REG_IRQ_STATUS), VGPU_IRQ_COMPLETION);
    EXPECT_FALSE(machine().interrupt_raised());
    stub().set_config(0x05, 1, 0x04);  // INTX_DISABLE
    ASSERT_TRUE(machine().qmp("system_reset").contains("return"));
    ASSERT_TRUE(machine().wait_event("RESET"));
    stub_.emplace(machine());
    EXPECT_EQ(stub().reg(VGPU_REG_CAPABILITIES), VGPU_CAP_BASIC_REQUEST);
    EXPECT_EQ(stub().reg(VGPU_REG_IRQ_STATUS), 0U);
}

TEST_F(OldWorldTest, BasicDeviceIsCarriedByAMigration) {
    start(",basic=on");
    stub().set(VGPU_REG_SCRATCH, 0xABCD);
    const std::string uri = "unix:" + dir_.file("migration");
    Machine destination({"-device", "vgpu-stub,addr=4,vm_id=7,basic=on", "-incoming", uri});
    ASSERT_TRUE(machine().qmp("migrate", {{"uri", uri}}).contains("return"));
    ASSERT_EQ(wait_migration(machine()), "completed");
    ASSERT_EQ(wait_migration(destination), "completed");
    Stub arrived(destination);
    EXPECT_EQ(arrived.reg(VGPU_REG_SCRATCH), 0xABCDU);
    EXPECT_EQ(arrived.reg(VGPU_REG_CAPABILITIES), VGPU_CAP_BASIC_REQUEST);
}

// An old guest with this project's mediator.
TEST_F(OldWorldTest, OldGuestIsServedByTheMediator) {
    Process mediator({VGPU_MEDIATOR_PATH, "--backend", "cpu", "--socket", socket_path()});
    ASSERT_TRUE(mediator.wait_for_output("ready")) << mediator.output();
    for (const std::string properties : {"", ",basic=on", ",shm-size=1M,queues=4"}) {
        start_alone(properties + ",socket=" + socket_path());
        for (std::uint32_t id = 1; id <= 3; id++) {
            ASSERT_NO_FATAL_FAILURE(expect_sum(id)) << properties;
        }
        const std::size_t before = mediator.output().size();
        machine_.reset();
        ASSERT_TRUE(mediator.wait_for_output("vm=7 closed", std::chrono::seconds(10), before))
            << "the VM's id is in use: " << mediator.output();
    }
}

}  // namespace
}  // namespace vgpu::test
