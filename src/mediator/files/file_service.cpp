// SPDX-License-Identifier: MIT
#include "mediator/files/file_service.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include "base/fd.h"
#include "files/reporter.h"

namespace vgpu {
namespace {

constexpr std::chrono::milliseconds kFirstPause{100};
constexpr std::chrono::milliseconds kLongestPause{10000};
// A process that ran for this long is started again at once.
constexpr std::chrono::seconds kGoodRun{30};
// Time for the last messages.
constexpr std::chrono::milliseconds kPatience{2000};
// Between looks for the exit status of a process that has closed its end.
constexpr std::chrono::milliseconds kReapPause{20};
// A turn of the control loop.
constexpr int kMessagesPerTurn = 16;
constexpr std::size_t kMostMessage = 1024;

}  // namespace

FileService::FileService(boost::asio::io_context& io, EventSink& events,
                         std::vector<std::string> arguments, OnProcess on_process)
    : events_(events),
      arguments_(std::move(arguments)),
      on_process_(std::move(on_process)),
      socket_(io),
      timer_(io) {}

void FileService::start() {
    if (stopping_) {
        return;
    }
    if (const auto started = try_to_start(); !started) {
        events_.on_event(Notice{.text = started.error().message});
        start_later();
    }
}

Result<void> FileService::try_to_start() {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0) {
        return Error::from_errno("cannot start the file gateway", errno);
    }
    const Fd theirs(ends[1]);
    Fd own(ends[0]);
    boost::system::error_code error;
    socket_.assign(own.get(), error);
    if (error) {
        return Error{"cannot start the file gateway: " + error.message(), error.value()};
    }
    static_cast<void>(own.release());
    auto started = ChildProcess::start(
        {.program = "/proc/self/exe", .name = "vgpu-file-gateway", .arguments = arguments_},
        {theirs.get()});
    if (!started) {
        socket_.close();
        return started.error();
    }
    started_at_ = std::chrono::steady_clock::now();
    process_.emplace(std::move(started).value());
    on_process_(process_->pid());
    wait_for_message();
    return {};
}

void FileService::begin_shutdown() {
    stopping_ = true;
    timer_.cancel();
    if (socket_.is_open()) {
        static_cast<void>(::shutdown(socket_.native_handle(), SHUT_WR));
    }
}

void FileService::wait_for_message() {
    socket_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                       [this](const boost::system::error_code& error) {
                           if (error) {
                               return;
                           }
                           if (take_messages()) {
                               wait_for_message();
                           } else {
                               socket_.close();
                               on_ended();
                           }
                       });
}

bool FileService::take_messages() {
    std::array<char, kMostMessage> bytes{};
    for (int i = 0; i < kMessagesPerTurn; ++i) {
        const ssize_t size =
            ::recv(socket_.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT);
        if (size < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        if (size == 0) {
            return false;
        }
        const std::string_view message(bytes.data(), static_cast<std::size_t>(size));
        events_.on_event(Notice{.text = message.substr(1),
                                .warning = message[0] != static_cast<char>(FileNotice::kInfo)});
    }
    return true;
}

void FileService::on_ended() {
    if (!process_->reap()) {
        timer_.expires_after(kReapPause);
        timer_.async_wait([this](const boost::system::error_code& error) {
            if (!error) {
                on_ended();
            }
        });
        return;
    }
    on_process_(0);
    if (!stopping_) {
        events_.on_event(Notice{.text = "the file gateway " + process_->how_it_ended() +
                                        ", and is started again"});
        start_later();
    }
    process_.reset();
}

void FileService::start_later() {
    const auto started = std::exchange(started_at_, std::nullopt);
    const bool lasted = started && std::chrono::steady_clock::now() - *started >= kGoodRun;
    pause_ = lasted ? kFirstPause : std::clamp(pause_ * 2, kFirstPause, kLongestPause);
    timer_.expires_after(pause_);
    timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error) {
            start();
        }
    });
}

void FileService::finish() {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (socket_.is_open()) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        pollfd wait{.fd = socket_.native_handle(), .events = POLLIN, .revents = 0};
        if (left.count() <= 0 || ::poll(&wait, 1, static_cast<int>(left.count())) <= 0 ||
            !take_messages()) {
            return;
        }
    }
}

}  // namespace vgpu
