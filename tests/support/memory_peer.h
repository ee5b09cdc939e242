// SPDX-License-Identifier: MIT
//
// MemoryPeer: a device with shared memory, played by a test: memory file, eventfds, hello, and the
// guest's end of each queue. Like WirePeer it is built of raw system calls, so that it can say what
// no correct device would.
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

// A memory file of this size with these seals (fcntl's F_SEAL_*). Throws std::system_error.
Fd make_memory(std::uint64_t size, int seals);
inline constexpr int kRightSeals = 0x0001 | 0x0002 | 0x0004;  // SEAL, SHRINK, GROW
// A non-blocking eventfd.
Fd make_eventfd();
// Sends one message with descriptors. False if the peer has closed.
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

    // Memory and descriptors, nothing sent.
    explicit MemoryPeer(const Options& options);
    // Offers the memory on a new connection to `path`, in place of the one there was. The reply;
    // nothing if the connection was closed instead.
    std::optional<vgpu_msg_hello_reply> attach(const std::string& path);
    // From the next connection on.
    void set_vm_id(std::uint32_t vm_id) { options_.vm_id = vm_id; }
    // The pieces of it.
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

    // Resets the queue and waits until it runs. False at the limit, or if it stopped.
    bool start(std::uint32_t queue = 0);
    // Pushes a command and publishes it. Its index; nothing if it does not fit now.
    std::optional<std::uint64_t> submit(const vgpu_record& command,
                                        std::initializer_list<std::uint32_t> params = {},
                                        std::uint32_t queue = 0);
    // Waits for the timeline by spinning and yielding. False at the limit, or if it never comes.
    bool wait(std::uint64_t index, std::uint32_t queue = 0);
    // Waits until the queue is in this state. False at the limit.
    bool wait_state(vgpu_queue_state state, std::uint32_t queue = 0);

    // A place in the heap for the n-th reply, 1 KiB each; and what stands there.
    [[nodiscard]] std::uint64_t reply_place(std::uint64_t n = 0) const {
        return layout_.heap_offset + 1024 * n;
    }
    [[nodiscard]] std::optional<ring::ReplyView> reply(std::uint64_t n = 0) const;
    // A command with a reply at the n-th place.
    [[nodiscard]] vgpu_record command(std::uint32_t opcode, std::uint64_t n = 0) const;
    // Heap for data, after the places of 64 replies.
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
