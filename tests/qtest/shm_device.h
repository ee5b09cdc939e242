// SPDX-License-Identifier: MIT
//
// ShmDeviceTest: a machine with a device that has shared memory, whose mediator is the test itself.
// The hello is received with raw system calls, and what came with it stays open as long as the test
// keeps it: as a mediator that is alive would.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/mapping.h"
#include "qtest/stub.h"

namespace vgpu::test {

// A message and the descriptors that came with its first byte.
struct HelloMessage {
    vgpu_msg_header header{};
    std::vector<std::uint8_t> payload;
    std::vector<Fd> fds;
};

// What a device hands over.
struct Hello {
    vgpu_msg_hello hello{};
    Fd memory;
    std::vector<Fd> doorbells;
    std::vector<Fd> interrupts;
};

class ShmDeviceTest : public DeviceTest {
  protected:
    static constexpr std::uint64_t kBar1 = 0xE0001000;
    static constexpr std::uint64_t kBar2 = 0x800000000;
    static constexpr std::uint64_t kGeneration = 0x1122334455667788;
    // Where the MSI-X messages go: the machine's memory.
    static constexpr std::uint64_t kMessages = 0x100000;

    // Starts the machine with a device with `properties`, and takes its connection, no more.
    void start_shm(const std::string& properties = ",shm-size=1M,queues=4",
                   const std::vector<std::string>& extra = {}, const std::string& machine = "q35");
    // The same, takes the hello, and returns when the device is attached.
    void start_attached(const std::string& properties = ",shm-size=1M,queues=4",
                        const std::vector<std::string>& extra = {},
                        const std::string& machine = "q35");
    // Maps the BARs of the fast path.
    void map_bars();

    // The device's next message; nothing at the end, or at the limit.
    std::optional<HelloMessage> receive(std::chrono::milliseconds limit = std::chrono::seconds(10));
    // Receives a whole hello; all its messages' form is checked.
    void receive_hello();
    // Answers HELLO (or SHM_RESET, with the type of its answer).
    void reply(std::uint32_t status, std::uint64_t generation = kGeneration,
               std::uint32_t type = VGPU_MSG_HELLO_REPLY);
    void reply_raw(const vgpu_msg_hello_reply& reply, std::uint32_t type = VGPU_MSG_HELLO_REPLY);
    // Receives a hello and takes it.
    void take_hello();
    // Polls SHM_STATE until it says so; false at the limit.
    bool wait_attached(bool attached, std::chrono::milliseconds limit = std::chrono::seconds(10));

    // One register, little helpers for tests to read well.
    std::uint32_t reg(std::uint32_t offset) { return stub().reg(offset); }
    void set(std::uint32_t offset, std::uint32_t value) { stub().set(offset, value); }
    void ring(std::uint32_t queue);
    // What the doorbell of a queue holds; 0 if nobody rang. Reads it.
    [[nodiscard]] std::uint64_t doorbell(std::uint32_t queue) const;
    // Interrupts a queue as a mediator does.
    void interrupt(std::uint32_t queue) const;
    // Polls a register until bits of it are set.
    bool wait_bits(std::uint32_t offset, std::uint32_t bits,
                   std::chrono::milliseconds limit = std::chrono::seconds(10));

    // MSI-X: every vector v writes kMessage + v at kMessages + 4 v.
    static constexpr std::uint32_t kMessage = 0x5A00;
    // A vector's entry in the table, and where enable_msix() sends its message.
    static std::uint64_t table_entry(std::uint64_t vector) { return kBar1 + 16 * vector; }
    static std::uint64_t message_place(std::uint64_t vector) { return kMessages + 4 * vector; }
    void enable_msix();
    void disable_msix();
    void mask_vector(std::uint32_t vector, bool masked);
    bool vector_pending(std::uint32_t vector);
    // Polls the pending bit of a vector until it is set; false at the limit.
    bool wait_pending(std::uint32_t vector,
                      std::chrono::milliseconds limit = std::chrono::seconds(10));
    // Waits for the message of a vector and takes it; false at the limit.
    bool wait_message(std::uint32_t vector,
                      std::chrono::milliseconds limit = std::chrono::seconds(10));
    // Takes the message of a vector if it has come.
    bool message_came(std::uint32_t vector);

    // The descriptors that QEMU has open, those to eventfds and memfds.
    [[nodiscard]] std::size_t qemu_descriptors() const;
    // Polls until there are `count`: QEMU gives memory back a little after its last user has gone.
    [[nodiscard]] bool wait_qemu_descriptors(
        std::size_t count, std::chrono::milliseconds limit = std::chrono::seconds(10)) const;

    [[nodiscard]] const Hello& hello() const { return *hello_; }

    std::optional<Hello> hello_;
};

}  // namespace vgpu::test
