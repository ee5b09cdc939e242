// SPDX-License-Identifier: MIT
#include "qtest/stub.h"

namespace vgpu::test {
namespace {

constexpr unsigned kPciCommand = 0x04;
constexpr unsigned kPciBar0 = 0x10;
constexpr unsigned kPciCapabilities = 0x34;
constexpr std::uint32_t kMemoryAndMaster = 0x6;
// Without shared memory, unless overridden by the test's own properties, which come later.
const std::string kDevice = "vgpu-stub,id=vgpu,addr=4,vm_id=7,shm-size=0";
constexpr std::uint8_t kMsiCapability = 0x05;

}  // namespace

Stub::Stub(Machine& machine) : machine_(&machine) {
    set_config(kPciBar0, 4, static_cast<std::uint32_t>(kBar0));
    set_config(kPciCommand, 2, kMemoryAndMaster);
}

std::uint64_t Stub::read(std::uint32_t offset, unsigned size) {
    return machine_->read(kBar0 + offset, size);
}

void Stub::write(std::uint32_t offset, unsigned size, std::uint64_t value) {
    machine_->write(kBar0 + offset, size, value);
}

void Stub::submit(std::uint32_t id, std::span<const std::uint8_t> request) {
    if (!request.empty()) {
        machine_->write_block(kBar0 + VGPU_REQUEST_BUF, request);
    }
    set(VGPU_REG_REQUEST_LEN, static_cast<std::uint32_t>(request.size()));
    set(VGPU_REG_REQUEST_ID, id);
    set(VGPU_REG_DOORBELL, 1);
}

std::uint32_t Stub::wait_done(std::chrono::milliseconds limit) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    std::uint32_t status = 0;
    do {
        status = reg(VGPU_REG_STATUS);
    } while (status == VGPU_STATUS_BUSY && std::chrono::steady_clock::now() < deadline);
    return status;
}

std::vector<std::uint8_t> Stub::response() {
    const std::uint32_t length = reg(VGPU_REG_RESPONSE_LEN);
    if (length == 0 || length > VGPU_BUF_SIZE) {
        return {};
    }
    return machine_->read_block(kBar0 + VGPU_RESPONSE_BUF, length);
}

std::uint32_t Stub::config(unsigned offset, unsigned size) {
    return machine_->config_read(kSlot, offset, size);
}

void Stub::set_config(unsigned offset, unsigned size, std::uint32_t value) {
    machine_->config_write(kSlot, offset, size, value);
}

unsigned Stub::find_capability(std::uint8_t id) {
    unsigned offset = config(kPciCapabilities, 1);
    // The bound also terminates a circular list.
    for (int i = 0; i < 48 && offset != 0; i++) {
        if (config(offset, 1) == id) {
            return offset;
        }
        offset = config(offset + 1, 1);
    }
    return 0;
}

void Stub::enable_msi(std::uint64_t address, std::uint16_t data) {
    const unsigned msi = find_capability(kMsiCapability);
    set_config(msi + 4, 4, static_cast<std::uint32_t>(address));
    set_config(msi + 8, 4, static_cast<std::uint32_t>(address >> 32));
    set_config(msi + 12, 2, data);
    set_config(msi + 2, 2, config(msi + 2, 2) | 1U);
}

void Stub::disable_msi() {
    const unsigned msi = find_capability(kMsiCapability);
    set_config(msi + 2, 2, config(msi + 2, 2) & ~1U);
}

void DeviceTest::SetUp() {
    if (const std::string reason = why_no_qemu(); !reason.empty()) {
        GTEST_SKIP() << reason;
    }
}

void DeviceTest::start(const std::string& properties, const std::vector<std::string>& extra,
                       const std::string& machine) {
    listener_.emplace(socket_path());
    std::vector<std::string> arguments{"-device",
                                       kDevice + ",socket=" + socket_path() + properties};
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    machine_ = std::make_unique<Machine>(arguments, machine);
    stub_.emplace(*machine_);
    accept();
}

void DeviceTest::start_alone(const std::string& properties, const std::vector<std::string>& extra) {
    std::vector<std::string> arguments{"-device", kDevice + properties};
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    machine_ = std::make_unique<Machine>(arguments);
    stub_.emplace(*machine_);
}

void DeviceTest::accept() {
    ASSERT_NO_FATAL_FAILURE(connect());
    sync();
}

void DeviceTest::connect() {
    peer_ = listener_->accept();
    ASSERT_TRUE(peer_) << "the device did not connect; QEMU says: "
                       << (machine_ ? machine_->process().output() : "nothing that is recorded");
    peer_->vm_id = kVmId;
}

void DeviceTest::sync() {
    static constexpr std::uint32_t kToken = 0x5E5E5E5E;
    send(VGPU_MSG_PING, kToken);
    const auto pong = peer_->receive();
    ASSERT_TRUE(pong) << "the device did not answer a ping";
    ASSERT_EQ(pong->header.msg_type, VGPU_MSG_PONG);
    ASSERT_EQ(pong->header.request_id, kToken);
    ASSERT_EQ(pong->header.vm_id, kVmId);
}

void DeviceTest::answer(const WireMessage& request, std::span<const std::uint8_t> response) {
    vgpu_msg_header header = request.header;
    header.msg_type = VGPU_MSG_RESPONSE;
    peer_->send(header, response);
}

void DeviceTest::answer(std::uint32_t id, std::span<const std::uint8_t> response) {
    send(VGPU_MSG_RESPONSE, id, response);
}

void DeviceTest::send(std::uint32_t type, std::uint32_t id, std::span<const std::uint8_t> payload) {
    peer_->send(peer_->header(type, id), payload);
}

void DeviceTest::expect_request(std::uint32_t id, std::span<const std::uint8_t> payload) {
    const auto message = peer_->receive();
    ASSERT_TRUE(message) << "no request came";
    EXPECT_EQ(message->header.magic, VGPU_MSG_MAGIC);
    EXPECT_EQ(message->header.msg_type, VGPU_MSG_REQUEST);
    EXPECT_EQ(message->header.vm_id, kVmId);
    EXPECT_EQ(message->header.request_id, id);
    EXPECT_EQ(message->payload, std::vector<std::uint8_t>(payload.begin(), payload.end()));
}

std::uint32_t DeviceTest::wait_error() {
    return stub_->wait_done() == VGPU_STATUS_ERROR ? stub_->reg(VGPU_REG_ERROR_CODE) : 0xFFFFFFFF;
}

std::string DeviceTest::wait_migration(Machine& machine, const std::string& state) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(15);
    std::string status;
    do {
        status = machine.qmp("query-migrate")["return"].value("status", "");
    } while (status != state && status != "completed" && status != "failed" &&
             std::chrono::steady_clock::now() < deadline);
    return status;
}

bool DeviceTest::wait_run_state(Machine& machine, const std::string& state) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(15);
    while (machine.qmp("query-status")["return"].value("status", "") != state) {
        if (std::chrono::steady_clock::now() > deadline) {
            return false;
        }
    }
    return true;
}

}  // namespace vgpu::test
