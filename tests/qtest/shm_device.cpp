// SPDX-License-Identifier: MIT
#include "qtest/shm_device.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace vgpu::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr unsigned kPciBar1 = 0x14;
constexpr unsigned kPciBar2 = 0x18;
constexpr std::uint8_t kMsixCapability = 0x11;
constexpr std::uint32_t kMsixEnable = 0x8000;

}  // namespace

void ShmDeviceTest::start_shm(const std::string& properties, const std::vector<std::string>& extra,
                              const std::string& machine) {
    listener_.emplace(socket_path());
    std::vector<std::string> arguments{
        "-device", "vgpu-stub,id=vgpu,addr=4,vm_id=7,pool_id=B,priority=high,socket=" +
                       socket_path() + properties};
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    machine_ = std::make_unique<Machine>(arguments, machine);
    stub_.emplace(*machine_);
    map_bars();
    connect();
}

void ShmDeviceTest::start_attached(const std::string& properties,
                                   const std::vector<std::string>& extra,
                                   const std::string& machine) {
    start_shm(properties, extra, machine);
    take_hello();
}

void ShmDeviceTest::map_bars() {
    stub().set_config(kPciBar1, 4, static_cast<std::uint32_t>(kBar1));
    stub().set_config(kPciBar2, 4, static_cast<std::uint32_t>(kBar2));
    stub().set_config(kPciBar2 + 4, 4, static_cast<std::uint32_t>(kBar2 >> 32));
}

std::optional<HelloMessage> ShmDeviceTest::receive(std::chrono::milliseconds limit) {
    HelloMessage message;
    auto received = peer().receive(message.fds, limit);
    if (!received) {
        return std::nullopt;
    }
    message.header = received->header;
    message.payload = std::move(received->payload);
    return message;
}

void ShmDeviceTest::receive_hello() {
    const auto check = [](const vgpu_msg_header& header, std::uint32_t type) {
        EXPECT_EQ(header.magic, VGPU_MSG_MAGIC);
        ASSERT_EQ(header.msg_type, type);
        EXPECT_EQ(header.vm_id, kVmId);
        EXPECT_EQ(header.request_id, 0U);
        EXPECT_EQ(header.pool_id, 'B');
        EXPECT_EQ(header.priority, VGPU_PRIORITY_HIGH);
    };
    auto first = receive();
    ASSERT_TRUE(first) << "no hello came";
    ASSERT_NO_FATAL_FAILURE(check(first->header, VGPU_MSG_HELLO));
    ASSERT_EQ(first->payload.size(), sizeof(vgpu_msg_hello));
    ASSERT_EQ(first->fds.size(), VGPU_HELLO_DESCRIPTORS);
    Hello got;
    std::memcpy(&got.hello, first->payload.data(), sizeof got.hello);
    got.memory = std::move(first->fds[0]);
    for (std::uint32_t i = 0; i < got.hello.queue_count; i++) {
        auto message = receive();
        ASSERT_TRUE(message) << "queue " << i;
        ASSERT_NO_FATAL_FAILURE(check(message->header, VGPU_MSG_HELLO_QUEUE));
        ASSERT_EQ(message->payload.size(), sizeof(vgpu_msg_hello_queue));
        vgpu_msg_hello_queue queue{};
        std::memcpy(&queue, message->payload.data(), sizeof queue);
        ASSERT_EQ(queue.queue, i);
        ASSERT_EQ(queue.reserved, 0U);
        ASSERT_EQ(message->fds.size(), VGPU_HELLO_QUEUE_DESCRIPTORS);
        got.doorbells.push_back(std::move(message->fds[0]));
        got.interrupts.push_back(std::move(message->fds[1]));
    }
    hello_ = std::move(got);
}

void ShmDeviceTest::reply(std::uint32_t status, std::uint64_t generation, std::uint32_t type) {
    vgpu_msg_hello_reply made{};
    made.status = status;
    if (status == VGPU_HELLO_TAKEN) {
        made.layout_version = VGPU_SHM_LAYOUT_VERSION;
        made.features = VGPU_FEATURE_SHM | VGPU_FEATURE_QUEUES;
        made.generation = generation;
    }
    reply_raw(made, type);
}

void ShmDeviceTest::reply_raw(const vgpu_msg_hello_reply& reply, std::uint32_t type) {
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(&reply);
    send(type, 0, {bytes, sizeof reply});
}

void ShmDeviceTest::take_hello() {
    ASSERT_NO_FATAL_FAILURE(receive_hello());
    reply(VGPU_HELLO_TAKEN);
    sync();
    ASSERT_EQ(reg(VGPU_REG_SHM_STATE), VGPU_SHM_ATTACHED);
}

bool ShmDeviceTest::wait_attached(bool attached, std::chrono::milliseconds limit) {
    const auto deadline = Clock::now() + limit;
    while ((reg(VGPU_REG_SHM_STATE) == VGPU_SHM_ATTACHED) != attached) {
        if (Clock::now() > deadline) {
            return false;
        }
    }
    return true;
}

void ShmDeviceTest::ring(std::uint32_t queue) {
    set(VGPU_REG_QUEUE_DOORBELL + queue * VGPU_QUEUE_DOORBELL_STRIDE, 1);
}

std::uint64_t ShmDeviceTest::doorbell(std::uint32_t queue) const {
    std::uint64_t count = 0;
    const ssize_t got = ::read(hello().doorbells.at(queue).get(), &count, sizeof count);
    return got == sizeof count ? count : 0;
}

void ShmDeviceTest::interrupt(std::uint32_t queue) const {
    const std::uint64_t one = 1;
    if (::write(hello().interrupts.at(queue).get(), &one, sizeof one) != sizeof one) {
        throw std::system_error(errno, std::generic_category(), "write to an eventfd");
    }
}

bool ShmDeviceTest::wait_bits(std::uint32_t offset, std::uint32_t bits,
                              std::chrono::milliseconds limit) {
    const auto deadline = Clock::now() + limit;
    while ((reg(offset) & bits) != bits) {
        if (Clock::now() > deadline) {
            return false;
        }
    }
    return true;
}

void ShmDeviceTest::enable_msix() {
    const std::uint32_t vectors = 1 + reg(VGPU_REG_QUEUE_COUNT);
    for (std::uint32_t v = 0; v < vectors; v++) {
        machine().write(table_entry(v), 4, message_place(v));
        machine().write(table_entry(v) + 4, 4, 0);
        machine().write(table_entry(v) + 8, 4, kMessage + v);
        machine().write(message_place(v), 4, 0);
        mask_vector(v, false);
    }
    const unsigned control = stub().find_capability(kMsixCapability) + 2;
    stub().set_config(control, 2, stub().config(control, 2) | kMsixEnable);
}

void ShmDeviceTest::disable_msix() {
    const unsigned control = stub().find_capability(kMsixCapability) + 2;
    stub().set_config(control, 2, stub().config(control, 2) & ~kMsixEnable);
}

void ShmDeviceTest::mask_vector(std::uint32_t vector, bool masked) {
    machine().write(table_entry(vector) + 12, 4, masked ? 1 : 0);
}

bool ShmDeviceTest::vector_pending(std::uint32_t vector) {
    const unsigned table = stub().find_capability(kMsixCapability);
    const std::uint64_t pba = kBar1 + (stub().config(table + 8, 4) & ~7U);
    return (machine().read(pba + vector / 64 * std::uint64_t{8}, 8) >> vector % 64 & 1) != 0;
}

bool ShmDeviceTest::wait_pending(std::uint32_t vector, std::chrono::milliseconds limit) {
    const auto deadline = Clock::now() + limit;
    while (!vector_pending(vector)) {
        if (Clock::now() > deadline) {
            return false;
        }
    }
    return true;
}

bool ShmDeviceTest::message_came(std::uint32_t vector) {
    const std::uint64_t value = machine().read(message_place(vector), 4);
    machine().write(message_place(vector), 4, 0);
    EXPECT_TRUE(value == 0 || value == kMessage + vector) << value;
    return value != 0;
}

bool ShmDeviceTest::wait_message(std::uint32_t vector, std::chrono::milliseconds limit) {
    const auto deadline = Clock::now() + limit;
    while (!message_came(vector)) {
        if (Clock::now() > deadline) {
            return false;
        }
    }
    return true;
}

std::size_t ShmDeviceTest::qemu_descriptors() const {
    const std::string folder = "/proc/" + std::to_string(machine_->process().pid()) + "/fd";
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        std::error_code gone;
        const std::string target = std::filesystem::read_symlink(entry, gone).string();
        if (target.find("[eventfd]") != std::string::npos ||
            target.find("memfd:") != std::string::npos) {
            count++;
        }
    }
    return count;
}

bool ShmDeviceTest::wait_qemu_descriptors(std::size_t count,
                                          std::chrono::milliseconds limit) const {
    const auto deadline = Clock::now() + limit;
    while (qemu_descriptors() != count) {
        if (Clock::now() > deadline) {
            return false;
        }
    }
    return true;
}

}  // namespace vgpu::test
