// SPDX-License-Identifier: MIT
#include "client/unix/unix_message.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <variant>

namespace vgpu::client {
namespace {

constexpr std::size_t kMostDescriptors = 2;

// Waits until the socket is readable or writable. Returns false at the deadline or on error.
bool wait_for(int socket, short events, Nanoseconds deadline) {
    pollfd entry{.fd = socket, .events = events, .revents = 0};
    for (;;) {
        const timespec left =
            to_timespec(deadline == kNever ? std::chrono::hours(24) : deadline - steady_now());
        const int ready = ::ppoll(&entry, 1, &left, nullptr);
        if (ready > 0) {
            return true;
        }
        if (ready == 0 || errno != EINTR) {
            return false;
        }
    }
}

}  // namespace

Nanoseconds steady_now() {
    return std::chrono::duration_cast<Nanoseconds>(
        std::chrono::steady_clock::now().time_since_epoch());
}

timespec to_timespec(Nanoseconds time) {
    const auto count =
        std::clamp(time, Nanoseconds(0), Nanoseconds(std::chrono::hours(24))).count();
    return {static_cast<time_t>(count / 1'000'000'000), static_cast<long>(count % 1'000'000'000)};
}

bool send_message(int socket, vgpu_msg_header header, std::span<const std::byte> payload,
                  std::span<const int> descriptors, Nanoseconds deadline) {
    std::array<std::byte, sizeof header + VGPU_MSG_MAX_PAYLOAD> bytes;
    header.payload_len = static_cast<std::uint16_t>(payload.size());
    std::memcpy(bytes.data(), &header, sizeof header);
    if (!payload.empty()) {
        std::memcpy(bytes.data() + sizeof header, payload.data(), payload.size());
    }
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMostDescriptors * sizeof(int))> control{};
    std::size_t sent = 0;
    const std::size_t total = sizeof header + payload.size();
    while (sent != total) {
        iovec part{bytes.data() + sent, total - sent};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        if (sent == 0 && !descriptors.empty()) {
            message.msg_control = control.data();
            message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
            cmsghdr* const first = CMSG_FIRSTHDR(&message);
            first->cmsg_level = SOL_SOCKET;
            first->cmsg_type = SCM_RIGHTS;
            first->cmsg_len = CMSG_LEN(descriptors.size_bytes());
            std::memcpy(CMSG_DATA(first), descriptors.data(), descriptors.size_bytes());
        }
        const ssize_t n = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            sent += static_cast<std::size_t>(n);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (!wait_for(socket, POLLOUT, deadline)) {
                return false;
            }
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

ReceivedMessage MessageInbox::receive(int socket, Nanoseconds deadline) {
    ReceivedMessage message;
    for (;;) {
        const auto next = reader_.next();
        if (const auto* const complete = std::get_if<MessageView>(&next)) {
            message.what = Received::kMessage;
            message.header = complete->header;
            message.payload = complete->payload;
            return message;
        }
        if (std::holds_alternative<Violation>(next)) {
            message.what = Received::kBroken;
            return message;
        }
        // What follows this message stays in the socket, for the next inbox.
        const auto room = reader_.prepare().first(reader_.missing());
        const ssize_t n = ::recv(socket, room.data(), room.size(), MSG_DONTWAIT);
        if (n > 0) {
            reader_.commit(static_cast<std::size_t>(n));
        } else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
            message.what = Received::kEnded;
            return message;
        } else if (errno != EINTR && !wait_for(socket, POLLIN, deadline)) {
            return message;
        }
    }
}

}  // namespace vgpu::client
