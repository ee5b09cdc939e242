// SPDX-License-Identifier: MIT
#include "client/unix/socket_transport.h"

#include <sys/socket.h>

#include <chrono>
#include <cstring>
#include <string>
#include <utility>

#include "client/core/pause.h"
#include "client/include/vgpu.h"

namespace vgpu::client {
namespace {

// A request or pong is far smaller than a socket buffer. If the buffer is full, the mediator does
// not read, and waiting for it would exceed the caller's time-out.
constexpr Nanoseconds kAtOnce{0};
// Maximum number of other messages to receive after the deadline.
constexpr int kMostAfterDeadline = 64;

}  // namespace

SocketTransport::SocketTransport(std::shared_ptr<UnixLink> link, WaitMode mode)
    : link_(std::move(link)), mode_(mode) {}

Expected<std::uint32_t> SocketTransport::submit(std::span<const std::byte> request) {
    if (request.empty() || request.size() > VGPU_BUF_SIZE) {
        return Failure{
            VGPU_E_ARGUMENT,
            "a request must be 1 to 1024 bytes long, not " + std::to_string(request.size()), 0};
    }
    if (submitted_ && !poll_for_answer(Nanoseconds(0))) {
        return Failure{VGPU_E_BUSY, vgpu_code_text(VGPU_E_BUSY), 0};
    }
    completion_.reset();
    submitted_ = false;
    const auto connection = link_->connect();
    if (!connection) {
        return connection.failure();
    }
    if (connection_ != *connection) {
        connection_ = *connection;
        inbox_ = {};
    }
    ++last_id_;
    submitted_ = true;
    if (!send_message(connection_->socket.get(), link_->header(VGPU_MSG_REQUEST, last_id_), request,
                      {}, kAtOnce)) {
        end_connection(link_->why_ended(*connection_));
    }
    return last_id_;
}

Expected<Completion> SocketTransport::wait(Nanoseconds deadline) {
    if (!submitted_) {
        return Failure{VGPU_E_NOT_SUBMITTED, vgpu_code_text(VGPU_E_NOT_SUBMITTED), 0};
    }
    if (!poll_for_answer(deadline)) {
        return Failure{VGPU_E_WAIT_TIMEOUT, vgpu_code_text(VGPU_E_WAIT_TIMEOUT), 0};
    }
    submitted_ = false;
    Completion taken = std::move(*completion_);
    completion_.reset();
    return taken;
}

Expected<void> SocketTransport::drain(Nanoseconds deadline) {
    if (submitted_ && !poll_for_answer(deadline)) {
        return Failure{VGPU_E_WAIT_TIMEOUT, vgpu_code_text(VGPU_E_WAIT_TIMEOUT), 0};
    }
    submitted_ = false;
    completion_.reset();
    return {};
}

Expected<void> SocketTransport::wait_interrupt(Nanoseconds deadline) {
    if (mode_ == WaitMode::kPoll) {
        return Failure{VGPU_E_NO_INTERRUPT, vgpu_code_text(VGPU_E_NO_INTERRUPT), 0};
    }
    // On a socket, the arrival of the response is the interrupt.
    if (!submitted_ || !poll_for_answer(deadline)) {
        return Failure{VGPU_E_WAIT_TIMEOUT, "no interrupt within the time limit", 0};
    }
    return {};
}

bool SocketTransport::poll_for_answer(Nanoseconds deadline) {
    // In polling mode, do not sleep in the kernel until the socket is readable.
    std::optional<Pause> pause;
    if (mode_ == WaitMode::kPoll) {
        pause.emplace(clock(), std::chrono::microseconds(100));
    }
    bool woken = false;
    int after_deadline = 0;
    while (!completion_) {
        const auto message =
            inbox_.receive(connection_->socket.get(), pause ? Nanoseconds(0) : deadline);
        switch (message.what) {
            case Received::kMessage:
                woken = !pause;
                connection_->answered = true;
                take(message);
                if (!completion_ && steady_now() >= deadline &&
                    ++after_deadline == kMostAfterDeadline) {
                    return false;
                }
                break;
            case Received::kNothing:
                if (!pause || !pause->step(deadline)) {
                    return false;
                }
                break;
            case Received::kEnded:
                end_connection(link_->why_ended(*connection_));
                break;
            case Received::kBroken:
                end_connection(link_->why_broken());
                break;
        }
    }
    interrupts_ += woken ? 1 : 0;
    return true;
}

void SocketTransport::take(const ReceivedMessage& message) {
    const vgpu_msg_header& header = message.header;
    if (header.msg_type == VGPU_MSG_PING) {
        vgpu_msg_header pong = header;
        pong.msg_type = VGPU_MSG_PONG;
        if (!send_message(connection_->socket.get(), pong, {}, {}, kAtOnce)) {
            end_connection(link_->why_ended(*connection_));
        }
        return;
    }
    const bool ours = header.request_id == last_id_;
    vgpu_response fixed{};
    switch (header.msg_type) {
        case VGPU_MSG_RESPONSE:
            if (message.payload.size() < sizeof fixed || header.vm_id != link_->settings().vm_id) {
                break;
            }
            std::memcpy(&fixed, message.payload.data(), sizeof fixed);
            if (ours) {
                end_request(fixed.status > 0xFF ? std::uint32_t{VGPU_ERR_CUDA} : fixed.status,
                            message.payload);
            }
            return;
        case VGPU_MSG_BUSY:
        case VGPU_MSG_QUARANTINED:
            if (ours) {
                end_request(
                    header.msg_type == VGPU_MSG_BUSY ? VGPU_ERR_RATE_LIMITED : VGPU_ERR_QUARANTINED,
                    {});
            }
            return;
        case VGPU_MSG_PONG:
            return;
        default:
            break;
    }
    // A protocol violation: end the connection, as a device does.
    end_connection(link_->why_broken());
}

void SocketTransport::end_connection(std::string why) {
    ::shutdown(connection_->socket.get(), SHUT_RDWR);
    end_request(VGPU_ERR_MEDIATOR_UNAVAILABLE, {}, std::move(why));
}

void SocketTransport::end_request(std::uint32_t error_code, std::span<const std::byte> response,
                                  std::string why) {
    Completion made;
    made.why = std::move(why);
    made.error_code = error_code;
    made.response_untrusted.assign(response.begin(), response.end());
    completion_ = std::move(made);
    timestamp_ = static_cast<std::uint64_t>(steady_now().count());
}

}  // namespace vgpu::client
