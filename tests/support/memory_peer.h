// SPDX-License-Identifier: MIT
//
// MemoryPeer: a device with shared memory, simulated by a test: memory file, eventfds, handshake,
// and the guest's end of each queue. Like WirePeer it uses raw system calls, so that it can send
// what no correct device would.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/mapping.h"
#include "ring/layout.h"
#include "ring/producer.h"
#include "ring/reply.h"
#include "support/wire_peer.h"

namespace vgpu::test {

// Creates a memory file with the given seals (fcntl's F_SEAL_*). Throws std::system_error.
Fd make_memory(std::uint64_t size, int seals);
inline constexpr int kRightSeals = 0x0001 | 0x0002 | 0x0004;  // SEAL, SHRINK, GROW
// Creates a non-blocking eventfd.
Fd make_eventfd();
// Sends one message with descriptors. Returns false if the peer has closed the connection.
bool send_with_descriptors(WirePeer& peer, const vgpu_msg_header& header,
                           std::span<const std::byte> payload, std::span<const int> descriptors);

class MemoryPeer {
  public:
    struct Options {
        std::uint64_t size = 4U << 20U;  // bytes
        std::uint32_t queues = 2;
        std::uint32_t vm_id = 1;
        char pool = 'A';
        std::uint8_t priority = VGPU_PRIORITY_MEDIUM;
    };

    // Creates the memory and the descriptors; sends nothing.
    explicit MemoryPeer(const Options& options);
    // Replaces the connection by a new one to `path` and offers the memory on it. Returns the
    // reply, or nullopt if the connection was closed instead.
    std::optional<vgpu_msg_hello_reply> attach(const std::string& path);
    // Takes effect with the next connection.
    void set_vm_id(std::uint32_t vm_id) { options_.vm_id = vm_id; }
    // The individual steps of attach(), and a memory reset.
    void connect(const std::string& path);
    [[nodiscard]] vgpu_msg_hello hello() const;
    bool send_hello(const vgpu_msg_hello& hello, std::span<const int> descriptors);
    bool send_hello_queue(std::uint32_t queue, std::span<const int> descriptors);
    std::optional<vgpu_msg_hello_reply> receive_reply(std::uint32_t type = VGPU_MSG_HELLO_REPLY);
    bool send_reset();

    [[nodiscard]] WirePeer& wire() { return *wire_; }
    void disconnect() { wire_.reset(); }
    [[nodiscard]] const ring::Layout& layout() const { return layout_; }
    [[nodiscard]] std::byte* base() const { return mapping_.data(); }
    [[nodiscard]] vgpu_queue_control& control(std::uint32_t queue = 0) const {
        return *layout_.queue(base(), queue).control;
    }
    [[nodiscard]] ring::Producer& queue(std::uint32_t queue = 0) { return producers_[queue]; }
    [[nodiscard]] int memory() const { return memory_.get(); }
    [[nodiscard]] int doorbell(std::uint32_t queue = 0) const { return doorbells_[queue].get(); }
    [[nodiscard]] int interrupt(std::uint32_t queue = 0) const { return interrupts_[queue].get(); }
    void ring(std::uint32_t queue = 0) const;

    // Resets the queue and waits until it runs. Returns false on time-out or if it stopped.
    bool start(std::uint32_t queue = 0);
    // Pushes a command and publishes it. Returns its index, or nullopt if it was not pushed.
    std::optional<std::uint64_t> submit(const vgpu_record& command,
                                        std::initializer_list<std::uint32_t> params = {},
                                        std::uint32_t queue = 0);
    // Waits for the timeline, yielding the core. Returns false on time-out or on kNever.
    bool wait(std::uint64_t index, std::uint32_t queue = 0);
    // Waits until the queue is in this state. Returns false on time-out.
    bool wait_state(vgpu_queue_state state, std::uint32_t queue = 0);

    // Offset of the n-th reply in the heap (1 KiB each), and the reply stored there.
    [[nodiscard]] std::uint64_t reply_place(std::uint64_t n = 0) const {
        return layout_.heap_offset + 1024 * n;
    }
    [[nodiscard]] std::optional<ring::ReplyView> reply(std::uint64_t n = 0) const;
    // Returns a command whose reply goes to the n-th place.
    [[nodiscard]] vgpu_record command(std::uint32_t opcode, std::uint64_t n = 0) const;
    // Start of the heap's data area, after 64 reply places.
    [[nodiscard]] std::uint64_t data_offset() const { return layout_.heap_offset + 65536; }
    template <typename T>
    [[nodiscard]] std::span<T> words(std::uint64_t offset, std::size_t count) const {
        return {reinterpret_cast<T*>(base() + offset), count};
    }

  private:
    Options options_;
    ring::Layout layout_;
    Fd memory_;
    Mapping mapping_;
    std::vector<Fd> doorbells_;
    std::vector<Fd> interrupts_;
    std::vector<ring::Producer> producers_;
    std::optional<WirePeer> wire_;
};

}  // namespace vgpu::test
