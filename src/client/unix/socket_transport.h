// SPDX-License-Identifier: MIT
//
// SocketTransport: version 1 requests of a host process, one at a time, over a UnixLink's
// connection. Completes a request in the same cases and with the same codes as a device.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "client/core/register_transport.h"
#include "client/core/transport.h"
#include "client/unix/unix_link.h"
#include "client/unix/unix_message.h"

namespace vgpu::client {

class SocketTransport : public Transport {
  public:
    SocketTransport(std::shared_ptr<UnixLink> link, WaitMode mode);

    // VGPU_ERR_MEDIATOR_UNAVAILABLE if the connection has ended and reconnecting fails.
    Expected<std::uint32_t> submit(std::span<const std::byte> request) override;
    Expected<Completion> wait(Nanoseconds deadline) override;
    Expected<void> drain(Nanoseconds deadline) override;
    Expected<void> wait_interrupt(Nanoseconds deadline) override;
    [[nodiscard]] std::uint32_t last_request_id() const override { return last_id_; }
    Clock& clock() override { return system_clock(); }
    std::uint64_t timestamp() override { return timestamp_; }
    [[nodiscard]] std::uint64_t interrupt_count() const override { return interrupts_; }
    [[nodiscard]] bool has_interrupt() const override { return mode_ != WaitMode::kPoll; }
    RegisterWindow* registers() override { return nullptr; }

  private:
    // Receives messages until the request completes. Returns false at the deadline.
    [[nodiscard]] bool poll_for_answer(Nanoseconds deadline);
    // Shuts down the connection and fails the request with this error text.
    void end_connection(std::string why);
    void end_request(std::uint32_t error_code, std::span<const std::byte> response,
                     std::string why = {});
    void take(const ReceivedMessage& message);

    std::shared_ptr<UnixLink> link_;
    WaitMode mode_;
    std::shared_ptr<UnixConnection> connection_;  // carries the request
    MessageInbox inbox_;                          // of connection_
    std::optional<Completion> completion_;
    bool submitted_ = false;  // and the completion not fetched
    std::uint32_t last_id_ = 0;
    std::uint64_t timestamp_ = 0;
    std::uint64_t interrupts_ = 0;
};

}  // namespace vgpu::client
