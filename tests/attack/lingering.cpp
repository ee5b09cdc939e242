// SPDX-License-Identifier: MIT
#include "lingering.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <system_error>
#include <thread>
#include <utility>

namespace vgpu::attack {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kLingerSeconds = 10;
// Closing the peer ends the wait of the other side.
constexpr std::chrono::seconds kPeerLife{kLingerSeconds + 2};
constexpr std::size_t kMostPeers = 512;

[[noreturn]] void fail(const char* what) {
    throw std::system_error(errno, std::generic_category(), what);
}

void set_linger(int fd, int seconds) {
    const linger option{.l_onoff = 1, .l_linger = seconds};
    if (::setsockopt(fd, SOL_SOCKET, SO_LINGER, &option, sizeof option) != 0) {
        fail("SO_LINGER");
    }
}

void set_size(int fd, int option) {
    constexpr int kSmallest = 1;  // the kernel raises it to its minimum
    static_cast<void>(::setsockopt(fd, SOL_SOCKET, option, &kSmallest, sizeof kSmallest));
}

sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = port;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

}  // namespace

Lingering::Lingering() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    set_size(listener_.get(), SO_RCVBUF);
    if (::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
        ::listen(listener_.get(), 16) != 0 ||
        ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
        fail("a TCP listener");
    }
    port_ = address.sin_port;
}

Fd Lingering::make() {
    drop_old_peers();
    Fd made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    set_size(made.get(), SO_SNDBUF);
    const sockaddr_in address = loopback(port_);
    if (::connect(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        fail("connect");
    }
    Fd peer(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!peer) {
        fail("accept");
    }
    peers_.push_back({.fd = std::move(peer), .made = Clock::now()});
    const std::array<std::byte, 4096> data{};
    while (::send(made.get(), data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
    }
    set_linger(made.get(), kLingerSeconds);
    return made;
}

void Lingering::drop_old_peers() {
    if (peers_.size() >= kMostPeers) {
        std::this_thread::sleep_until(peers_.front().made + kPeerLife);
    }
    while (!peers_.empty() && peers_.front().made + kPeerLife <= Clock::now()) {
        forget(peers_.front().fd);
        peers_.pop_front();
    }
}

void Lingering::forget(Fd& fd) {
    set_linger(fd.get(), 0);
    fd.reset();
}

void close_elsewhere(Fd fd) {
    std::thread([closed = std::move(fd)]() mutable { closed.reset(); }).detach();
}

}  // namespace vgpu::attack
