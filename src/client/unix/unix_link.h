// SPDX-License-Identifier: MIT
//
// UnixLink: connects a host process to a mediator in the role of a device (docs/protocol.md,
// section 15). Creates the shared memory and an eventfd per doorbell and interrupt, and passes them
// to the mediator in the handshake (hello). Falls back to version 1 as a device does: if the
// mediator does not complete the handshake in time, or disconnects, reconnects without one.
//
// The memory and the eventfds live as long as the link. connect() replaces a connection that has
// ended and repeats the handshake. Users hold a connection by shared_ptr, so that it stays valid,
// though ended, when another thread replaces it. All functions are thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/mapping.h"
#include "client/core/transport.h"
#include "client/include/expected.h"
#include "client/queue/queue_port.h"
#include "ring/layout.h"

namespace vgpu::client {

// The mediator's socket and the identity of this process.
struct UnixSettings {
    std::string path;
    std::uint32_t vm_id = 0;
    char pool = 'A';
    std::uint32_t priority = 0;  // enum vgpu_priority
    std::uint64_t shm_size = 0;  // bytes; 0: no handshake
    std::uint32_t queue_count = 0;
    Nanoseconds hello_timeout{0};
};

// One connection. Only ended() may be called by several threads.
struct UnixConnection {
    Fd socket;
    bool answered = false;      // received a message; used only by the thread that sends requests
    bool queues = false;        // the mediator accepted the shared memory
    std::string why_no_queues;  // the reason if not
    [[nodiscard]] bool ended() const;
};

class UnixLink {
  public:
    // Creates memory and eventfds, and connects. Errors: VGPU_ERR_MEDIATOR_UNAVAILABLE,
    // VGPU_E_NO_PERMISSION, VGPU_E_ARGUMENT (path, shm_size or queue_count), VGPU_E_SYSTEM.
    static Expected<std::shared_ptr<UnixLink>> create(const UnixSettings& settings);
    UnixLink(const UnixLink&) = delete;
    UnixLink& operator=(const UnixLink&) = delete;
    ~UnixLink() = default;

    // Returns the current connection, and reconnects if it has ended. Errors as for create().
    Expected<std::shared_ptr<UnixConnection>> connect();
    // Returns the current connection, which may have ended, or null.
    [[nodiscard]] std::shared_ptr<UnixConnection> current();

    [[nodiscard]] const UnixSettings& settings() const { return settings_; }
    // Sets pool and priority of the next requests. Not thread-safe: no other thread uses the link.
    void set_target(char pool, std::uint32_t priority) {
        settings_.pool = pool;
        settings_.priority = priority;
    }
    // Error texts: the mediator closed the connection; the peer violated the protocol.
    [[nodiscard]] std::string why_ended(const UnixConnection& connection) const;
    [[nodiscard]] std::string why_broken() const;
    // Returns a message header with the identity of this process and no payload.
    [[nodiscard]] vgpu_msg_header header(std::uint32_t type, std::uint32_t request_id) const;

    // The functions below, except has_memory(), require shared memory.
    [[nodiscard]] bool has_memory() const { return memory_.data() != nullptr; }
    [[nodiscard]] const ring::Layout& layout() const { return layout_; }
    [[nodiscard]] std::byte* base() const { return memory_.data(); }
    [[nodiscard]] int memory_file() const { return memory_file_.get(); }
    [[nodiscard]] int doorbell(std::uint32_t queue) const { return doorbells_[queue].get(); }
    [[nodiscard]] int interrupt(std::uint32_t queue) const { return interrupts_[queue].get(); }

  private:
    explicit UnixLink(UnixSettings settings) : settings_(std::move(settings)), layout_{} {}
    Expected<void> make_memory();
    Expected<Fd> connect_socket() const;
    Expected<std::shared_ptr<UnixConnection>> make_connection();
    // Performs the handshake. On failure closes the socket and returns null, the cause in `end`.
    enum class HelloEnd : std::uint8_t { kNoAnswer, kClosed, kNonsense };
    [[nodiscard]] std::unique_ptr<UnixConnection> send_hello(Fd socket, HelloEnd& end) const;
    [[nodiscard]] std::string why_no_queues(HelloEnd end) const;
    // Error text: why a running mediator closes a connection ("VM id 7 is in use …").
    [[nodiscard]] std::string refusals() const;

    UnixSettings settings_;
    ring::Layout layout_;
    Fd memory_file_;
    Mapping memory_;
    std::vector<Fd> doorbells_;
    std::vector<Fd> interrupts_;
    std::mutex mutex_;
    std::shared_ptr<UnixConnection> connection_;
};

// The queues of a link with shared memory.
class UnixPort : public QueuePort {
  public:
    explicit UnixPort(std::shared_ptr<UnixLink> link) : link_(std::move(link)) {}

    [[nodiscard]] std::byte* base() const override { return link_->base(); }
    [[nodiscard]] const ring::Layout& layout() const override { return link_->layout(); }
    [[nodiscard]] int claims_file() const override { return link_->memory_file(); }
    void ring_doorbell(std::uint32_t queue) override;
    bool attached() override;
    Expected<void> attach() override;
    std::unique_ptr<InterruptSource> make_interrupt(std::uint32_t queue) override;

  private:
    std::shared_ptr<UnixLink> link_;
};

}  // namespace vgpu::client
