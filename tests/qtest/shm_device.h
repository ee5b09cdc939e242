// SPDX-License-Identifier: MIT
//
// ShmDeviceTest: a machine with a shared-memory device, whose mediator is the test itself. The
// handshake is received with raw system calls, and its descriptors stay open as long as the test
// keeps them, as with a live mediator.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/mapping.h"
#include "qtest/stub.h"

namespace vgpu::test {

// A message and the descriptors received with its first byte.
struct HelloMessage {
    vgpu_msg_header header{};
    std::vector<std::uint8_t> payload;
    std::vector<Fd> fds;
};

// What a device hands over in the handshake.
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
    // Target of the MSI-X messages: the machine's memory.
    static constexpr std::uint64_t kMessages = 0x100000;

    // Starts the machine with a device with `properties`, and accepts its connection only.
    void start_shm(const std::string& properties = ",shm-size=1M,queues=4",
                   const std::vector<std::string>& extra = {}, const std::string& machine = "q35");
    // The same; also completes the handshake and returns when the device is attached.
    void start_attached(const std::string& properties = ",shm-size=1M,queues=4",
                        const std::vector<std::string>& extra = {},
                        const std::string& machine = "q35");
    // Maps the BARs of the fast path.
    void map_bars();

    // Returns the device's next message; nullopt at end of file or on time-out.
    std::optional<HelloMessage> receive(std::chrono::milliseconds limit = std::chrono::seconds(10));
    // Receives a complete handshake; checks the form of all its messages.
    void receive_hello();
    // Replies to HELLO (or to SHM_RESET, with the type of its reply).
    void reply(std::uint32_t status, std::uint64_t generation = kGeneration,
               std::uint32_t type = VGPU_MSG_HELLO_REPLY);
    void reply_raw(const vgpu_msg_hello_reply& reply, std::uint32_t type = VGPU_MSG_HELLO_REPLY);
    // Receives a HELLO and accepts it.
    void take_hello();
    // Polls SHM_STATE until it equals `attached`; returns false on time-out.
    bool wait_attached(bool attached, std::chrono::milliseconds limit = std::chrono::seconds(10));

    // Register shorthands.
    std::uint32_t reg(std::uint32_t offset) { return stub().reg(offset); }
    void set(std::uint32_t offset, std::uint32_t value) { stub().set(offset, value); }
    void ring(std::uint32_t queue);
    // Reads and clears the doorbell of a queue; 0 if it was not rung.
    [[nodiscard]] std::uint64_t doorbell(std::uint32_t queue) const;
    // Interrupts a queue as a mediator does.
    void interrupt(std::uint32_t queue) const;
    // Polls a register until all of `bits` are set; returns false on time-out.
    bool wait_bits(std::uint32_t offset, std::uint32_t bits,
                   std::chrono::milliseconds limit = std::chrono::seconds(10));

    // MSI-X: every vector v writes kMessage + v at kMessages + 4 v.
    static constexpr std::uint32_t kMessage = 0x5A00;
    // A vector's table entry, and the address to which enable_msix() directs its message.
    static std::uint64_t table_entry(std::uint64_t vector) { return kBar1 + 16 * vector; }
    static std::uint64_t message_place(std::uint64_t vector) { return kMessages + 4 * vector; }
    void enable_msix();
    void disable_msix();
    void mask_vector(std::uint32_t vector, bool masked);
    bool vector_pending(std::uint32_t vector);
    // Polls the pending bit of a vector until it is set; returns false on time-out.
    bool wait_pending(std::uint32_t vector,
                      std::chrono::milliseconds limit = std::chrono::seconds(10));
    // Waits for the message of a vector and consumes it; returns false on time-out.
    bool wait_message(std::uint32_t vector,
                      std::chrono::milliseconds limit = std::chrono::seconds(10));
    // Returns whether the message of a vector has arrived, and consumes it.
    bool message_came(std::uint32_t vector);

    // Counts QEMU's open eventfds and memfds.
    [[nodiscard]] std::size_t qemu_descriptors() const;
    // Polls until there are `count`: QEMU frees memory slightly after its last user is destroyed.
    [[nodiscard]] bool wait_qemu_descriptors(
        std::size_t count, std::chrono::milliseconds limit = std::chrono::seconds(10)) const;

    [[nodiscard]] const Hello& hello() const { return *hello_; }

    std::optional<Hello> hello_;
};

}  // namespace vgpu::test
