// SPDX-License-Identifier: MIT
#include "mediator/service.h"

#include <fmt/format.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <utility>

#include "mediator/config/access.h"
#include "mediator/config/config.h"

namespace vgpu {
namespace {

// Time that an exit takes beyond the drain: last responses, log, GPU workers.
constexpr std::chrono::seconds kExitTime{20};

// A status is one line.
std::string one_line(std::string_view text) {
    std::string line(text);
    std::replace(line.begin(), line.end(), '\n', ' ');
    return line;
}

}  // namespace

Result<InheritedSockets> InheritedSockets::create() {
    constexpr int kRemoveVariables = 1;
    const int count = ::sd_listen_fds(kRemoveVariables);
    if (count < 0) {
        return Error::from_errno("cannot take the sockets that systemd passes (LISTEN_FDS)",
                                 -count);
    }
    std::vector<Fd> descriptors;
    descriptors.reserve(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) {
        descriptors.emplace_back(SD_LISTEN_FDS_START + i);
    }
    InheritedSockets inherited;
    for (Fd& descriptor : descriptors) {
        auto socket = UnixListener::adopt(std::move(descriptor));
        if (!socket) {
            return Error{"systemd passes a socket that cannot be used: " + socket.error().message +
                             ": set ListenStream= of the socket unit to an absolute path",
                         socket.error().sys_errno};
        }
        inherited.sockets_.push_back(std::move(socket).value());
    }
    return inherited;
}

Result<UnixListener> InheritedSockets::open(const Wanted& wanted) {
    for (UnixListener& socket : sockets_) {
        if (socket.fd() >= 0 && socket.path() == wanted.path) {
            return std::move(socket);
        }
    }
    auto listener = UnixListener::create(wanted.path, wanted.option, wanted.mode);
    if (listener && !wanted.group.empty()) {
        const auto given = give_to_group(wanted.path, wanted.group);
        if (!given && wanted.group != kDefaultGroup) {
            return given.error();
        }
    }
    return listener;
}

Result<void> InheritedSockets::expect_none_left() const {
    for (const UnixListener& socket : sockets_) {
        if (socket.fd() >= 0) {
            return Error{"systemd listens on " + socket.path() +
                         " for this mediator, which is neither in 'sockets' of [mediator] nor "
                         "'socket' of [admin]: add it there, or disable its socket unit (systemctl "
                         "list-sockets shows it)"};
        }
    }
    return {};
}

ServiceManager::ServiceManager(boost::asio::io_context& io) : timer_(io) {
    std::uint64_t limit_us = 0;
    if (::sd_watchdog_enabled(0, &limit_us) > 0) {
        interval_ = std::chrono::microseconds(limit_us / 3);
    }
    const char* const path = std::getenv("NOTIFY_SOCKET");
    const std::size_t length = path == nullptr ? 0 : std::strlen(path);
    if (length == 0 || length >= sizeof address_.sun_path || (path[0] != '/' && path[0] != '@')) {
        return;
    }
    address_.sun_family = AF_UNIX;
    std::memcpy(address_.sun_path, path, length);
    address_length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
    if (path[0] == '@') {
        address_.sun_path[0] = '\0';  // an abstract address
    }
    socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

void ServiceManager::ready(std::string_view status) {
    send(fmt::format("READY=1\nSTATUS={}", one_line(status)));
    if (!kept_alive_ && interval_.count() > 0) {
        kept_alive_ = true;
        keep_alive();
    }
}

void ServiceManager::reloading() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    const auto now_us = std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec));
    // Type=notify-reload requires the time.
    send(fmt::format("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reloading the configuration",
                     now_us.count()));
}

void ServiceManager::stopping(std::chrono::milliseconds limit) {
    const std::chrono::microseconds longest = limit + kExitTime;
    send(fmt::format("STOPPING=1\nEXTEND_TIMEOUT_USEC={}\nSTATUS=draining: finishing queued work",
                     longest.count()));
}

void ServiceManager::send(const std::string& message) const {
    if (socket_) {
        static_cast<void>(::sendto(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL,
                                   reinterpret_cast<const sockaddr*>(&address_), address_length_));
    }
}

void ServiceManager::keep_alive() {
    send("WATCHDOG=1");
    timer_.expires_after(interval_);
    timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error) {
            keep_alive();
        }
    });
}

}  // namespace vgpu
