// SPDX-License-Identifier: MIT
#include "child.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <exception>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "support/unix_socket.h"

namespace vgpu::attack {
namespace {

constexpr std::size_t kLargestMessage = 4096;
constexpr char kFailed = '!';

volatile std::sig_atomic_t stop_wanted = 0;

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

[[noreturn]] void live(const std::function<void(const Channel&)>& body, Fd end, pid_t parent) {
    static_cast<void>(std::signal(SIGINT, SIG_IGN));
    static_cast<void>(std::signal(SIGTERM, SIG_DFL));
    static_cast<void>(std::signal(SIGPIPE, SIG_IGN));
    // The parent may have exited before PR_SET_PDEATHSIG took effect.
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || ::getppid() != parent) {
        ::_exit(1);
    }
    const Channel channel(std::move(end));
    try {
        body(channel);
    } catch (const std::exception& error) {
        const std::string text = kFailed + std::string(error.what());
        channel.send(std::as_bytes(std::span(text)).first(std::min(text.size(), kLargestMessage)));
        ::_exit(1);
    }
    ::_exit(0);
}

}  // namespace

void stop_on_signals() {
    struct sigaction action {};
    action.sa_handler = [](int /*number*/) { stop_wanted = 1; };
    // Without SA_RESTART, so that signals interrupt waits.
    static_cast<void>(::sigaction(SIGINT, &action, nullptr));
    static_cast<void>(::sigaction(SIGTERM, &action, nullptr));
}

void throw_if_stopped() {
    if (stop_wanted != 0) {
        throw Stopped{};
    }
}

bool Channel::send(std::span<const std::byte> message) const {
    return ::send(fd_.get(), message.data(), message.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(message.size());
}

std::optional<Channel::Bytes> Channel::receive(
    std::optional<std::chrono::milliseconds> limit) const {
    if (limit) {
        // In short steps: a signal that arrives just before a wait does not interrupt it.
        constexpr std::chrono::milliseconds kStep{100};
        const auto deadline = std::chrono::steady_clock::now() + *limit;
        for (;;) {
            throw_if_stopped();
            const auto now = std::chrono::steady_clock::now();
            if (test::wait_readable(fd_.get(), std::min(deadline, now + kStep))) {
                break;
            }
            if (now >= deadline) {
                return std::nullopt;
            }
        }
    }
    Bytes message(kLargestMessage);
    ssize_t size = 0;
    do {
        size = ::recv(fd_.get(), message.data(), message.size(), 0);
    } while (size < 0 && errno == EINTR);
    message.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    return message;
}

Channel::Bytes encode(const Place& place) {
    const std::string text =
        place.socket + '\n' + place.admin_socket + '\n' + std::to_string(place.metrics_port);
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

Place decode_place(std::span<const std::byte> message) {
    const std::string text = text_of(message);
    Place place;
    std::istringstream lines(text);
    if (!std::getline(lines, place.socket) || !std::getline(lines, place.admin_socket) ||
        !(lines >> place.metrics_port)) {
        throw std::runtime_error("told to end before there was a mediator");
    }
    return place;
}

Child::Child(const std::function<void(const Channel&)>& body) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
        throw std::system_error(errno, std::generic_category(), "socketpair");
    }
    Fd mine(ends[0]);
    Fd other(ends[1]);
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0) {
        throw std::system_error(errno, std::generic_category(), "fork");
    }
    if (pid_ == 0) {
        mine.reset();
        live(body, std::move(other), parent);
    }
    channel_.emplace(std::move(mine));
}

Child::~Child() {
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
}

Channel::Bytes Child::expect(const std::string& what, std::chrono::milliseconds limit) const {
    auto message = channel_->receive(limit);
    if (!message) {
        throw std::runtime_error(what + ": no answer within " + std::to_string(limit.count()) +
                                 " ms");
    }
    if (message->empty()) {
        throw std::runtime_error(what + ": the process has ended");
    }
    if (static_cast<char>(message->front()) == kFailed) {
        throw std::runtime_error(what + ": " + text_of(std::span(*message).subspan(1)));
    }
    return std::move(*message);
}

std::optional<std::string> Child::failure() const {
    const auto message = channel_->receive(std::chrono::milliseconds(0));
    if (!message) {
        return std::nullopt;
    }
    return message->empty() ? "the process has ended" : text_of(std::span(*message).subspan(1));
}

}  // namespace vgpu::attack
