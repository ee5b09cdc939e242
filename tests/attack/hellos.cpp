// SPDX-License-Identifier: MIT
#include "hellos.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <span>
#include <utility>

#include "attack.h"
#include "support/unix_socket.h"

namespace vgpu::attack {
namespace {

// Messages on one connection before the next has its turn.
constexpr std::uint64_t kMessagesPerTurn = 16;

// Returns whether the mediator has answered or closed the connection.
bool ended(int fd) {
    std::array<std::byte, 256> dropped{};
    return ::recv(fd, dropped.data(), dropped.size(), MSG_DONTWAIT) >= 0 ||
           (errno != EAGAIN && errno != EINTR);
}

}  // namespace

Fd try_connect(const std::string& path) {
    Fd fd = test::stream_socket();
    const sockaddr_un address = test::unix_address(path);
    if (::fcntl(fd.get(), F_SETFL, O_NONBLOCK) != 0 ||
        ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        fd.reset();
    }
    return fd;
}

Hellos::Hellos(std::string socket, const Options& options)
    : socket_(std::move(socket)), options_(options), model_({.queues = 1}), next_vm_(kFirstOfMany) {
    peers_.resize(options.connections);
}

std::uint64_t Hellos::step() {
    std::uint64_t sent = 0;
    for (Peer& peer : peers_) {
        if (peer.wire.fd() < 0 && !open(peer)) {
            continue;
        }
        sent += send_some(peer);
        if (ended(peer.wire.fd())) {
            peer.wire.close();
        }
    }
    return sent;
}

bool Hellos::open(Peer& peer) {
    const auto now = Clock::now();
    if (now < peer.reopen_at) {
        return false;
    }
    Fd fd = try_connect(socket_);
    if (!fd) {
        return false;
    }
    peer = {.wire = test::WirePeer::adopt(std::move(fd)), .reopen_at = now + options_.pause};
    peer.wire.vm_id = next_vm_++;
    return true;
}

bool Hellos::send_next(Peer& peer) const {
    if (!peer.hello_sent) {
        vgpu_msg_hello hello = model_.hello();
        hello.queue_count = options_.queue_count;
        peer.hello_sent = test::send_with_descriptors(
            peer.wire, peer.wire.header(VGPU_MSG_HELLO, 0), std::as_bytes(std::span(&hello, 1)),
            std::array{model_.memory()});
        return peer.hello_sent;
    }
    const vgpu_msg_hello_queue queue{.queue = peer.queues_sent, .reserved = 0};
    const bool sent = test::send_with_descriptors(
        peer.wire, peer.wire.header(VGPU_MSG_HELLO_QUEUE, 0), std::as_bytes(std::span(&queue, 1)),
        std::array{model_.doorbell(), model_.interrupt()});
    peer.queues_sent += sent ? 1 : 0;
    return sent;
}

std::uint64_t Hellos::send_some(Peer& peer) const {
    std::uint64_t sent = 0;
    while (sent < kMessagesPerTurn && peer.queues_sent < options_.queue_count && send_next(peer)) {
        ++sent;
    }
    return sent;
}

}  // namespace vgpu::attack
