// SPDX-License-Identifier: MIT
//
// UnixLink: a process of the host in the place of a device (docs/protocol.md, section 15). It makes
// the shared memory and an eventfd for each doorbell and interrupt, offers them to a mediator in
// the hello, and falls back to version 1 as a device does: a mediator that does not answer the
// hello in time, or hangs up on it, is connected to once more without one.
//
// The memory and the eventfds live as long as the link; connections come and go. A connection that
// has ended is made again when somebody needs one (connect()), with a hello again. Whoever uses a
// connection holds it by a shared_ptr, so one that is replaced by another thread stays valid, and
// ended, for him. All functions may be called by any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/mapping.h"
#include "client/core/transport.h"
#include "client/include/outcome.h"
#include "client/queue/queue_port.h"
#include "ring/layout.h"

namespace vgpu::client {

// What a process is to the mediator.
struct UnixSettings {
    std::string path;
    std::uint32_t vm_id = 0;
    char pool = 'A';
    std::uint32_t priority = 0;  // enum vgpu_priority
    std::uint64_t shm_size = 0;  // bytes; 0: no hello at all
    std::uint32_t queue_count = 0;
    Nanoseconds hello_timeout{0};
};

// One connection. Only the socket's end is ever looked at from several threads.
struct UnixConnection {
    Fd socket;
    bool answered = false;      // a message has come on it; for the thread that sends requests
    bool queues = false;        // the mediator has taken the memory
    std::string why_no_queues;  // else: why
    [[nodiscard]] bool ended() const;
};

class UnixLink {
  public:
    // Makes memory and eventfds and connects. VGPU_ERR_MEDIATOR_UNAVAILABLE, VGPU_E_NO_PERMISSION,
    // VGPU_E_ARGUMENT (size and queues do not go together), VGPU_E_SYSTEM.
    static Outcome<std::shared_ptr<UnixLink>> create(const UnixSettings& settings);
    UnixLink(const UnixLink&) = delete;
    UnixLink& operator=(const UnixLink&) = delete;
    ~UnixLink() = default;

    // The connection there is, made again if it has ended. VGPU_ERR_MEDIATOR_UNAVAILABLE and the
    // others of create().
    Outcome<std::shared_ptr<UnixConnection>> connect();
    // The connection there is, or was.
    [[nodiscard]] std::shared_ptr<UnixConnection> current();

    [[nodiscard]] const UnixSettings& settings() const { return settings_; }
    // What to tell of a connection that the mediator has closed, and of one on which something came
    // that is no message of the protocol.
    [[nodiscard]] std::string why_ended(const UnixConnection& connection) const;
    [[nodiscard]] std::string why_broken() const;
    // A header for a message of this process, without a payload.
    [[nodiscard]] vgpu_msg_header header(std::uint32_t type, std::uint32_t request_id) const;

    // Without shared memory there is none of these.
    [[nodiscard]] bool has_memory() const { return memory_.data() != nullptr; }
    [[nodiscard]] const ring::Layout& layout() const { return layout_; }
    [[nodiscard]] std::byte* base() const { return memory_.data(); }
    [[nodiscard]] int memory_file() const { return memory_file_.get(); }
    [[nodiscard]] int doorbell(std::uint32_t queue) const { return doorbells_[queue].get(); }
    [[nodiscard]] int interrupt(std::uint32_t queue) const { return interrupts_[queue].get(); }

  private:
    explicit UnixLink(UnixSettings settings) : settings_(std::move(settings)), layout_{} {}
    Outcome<void> make_memory();
    Outcome<Fd> connect_socket() const;
    Outcome<std::shared_ptr<UnixConnection>> make_connection();
    // Nothing: the hello came to nothing, and the connection with it; `end` says how.
    enum class HelloEnd : std::uint8_t { kNoAnswer, kClosed, kNonsense };
    [[nodiscard]] std::unique_ptr<UnixConnection> say_hello(Fd socket, HelloEnd& end) const;
    [[nodiscard]] std::string why_no_queues(HelloEnd end) const;
    // "VM id 7 is in use …": why a mediator that runs closes a connection.
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

// The queues of a link with memory.
class UnixPort : public QueuePort {
  public:
    explicit UnixPort(std::shared_ptr<UnixLink> link) : link_(std::move(link)) {}

    [[nodiscard]] std::byte* base() const override { return link_->base(); }
    [[nodiscard]] const ring::Layout& layout() const override { return link_->layout(); }
    [[nodiscard]] int claims_file() const override { return link_->memory_file(); }
    void ring_doorbell(std::uint32_t queue) override;
    bool attached() override;
    Outcome<void> attach() override;
    std::unique_ptr<InterruptSource> make_interrupt(std::uint32_t queue) override;

  private:
    std::shared_ptr<UnixLink> link_;
};

}  // namespace vgpu::client
