// SPDX-License-Identifier: MIT
#include "vm/event_reader.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <stdexcept>

#include "support/unix_socket.h"

namespace vgpu::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kSubscribeLimit = std::chrono::seconds(20);
// Poll interval for stop() while no data arrives.
constexpr auto kPollInterval = std::chrono::milliseconds(100);
// Upper bound for reading after stop(), for a stream that does not pause.
constexpr auto kRest = std::chrono::seconds(1);
constexpr const char* kRequest =
    "GET /v1/events?type=request_accepted,request_started,request_dropped HTTP/1.1\r\n"
    "Host: vgpu\r\n\r\n";

}  // namespace

EventReader::EventReader(const std::string& admin_socket, OrderCheck& check)
    : check_(check), socket_(connect_unix(admin_socket)) {
    const std::string_view request = kRequest;
    if (::send(socket_.get(), request.data(), request.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(request.size())) {
        throw std::runtime_error("the admin socket does not take a request");
    }
    read_head();
    thread_ = std::thread([this] { follow(); });
}

void EventReader::stop() {
    stopping_ = true;
    if (thread_.joinable()) {
        thread_.join();
    }
}

bool EventReader::receive() {
    std::array<char, 65536> piece{};
    const ssize_t n = ::recv(socket_.get(), piece.data(), piece.size(), 0);
    if (n > 0) {
        buffer_.append(piece.data(), static_cast<std::size_t>(n));
    }
    return n > 0 || (n < 0 && errno == EINTR);
}

void EventReader::read_head() {
    const auto deadline = Clock::now() + kSubscribeLimit;
    auto end = std::string::npos;
    while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
        if (!wait_readable(socket_.get(), deadline) || !receive()) {
            throw std::runtime_error("the admin socket does not answer");
        }
    }
    if (!buffer_.starts_with("HTTP/1.1 200")) {
        throw std::runtime_error("no event stream: " + buffer_.substr(0, buffer_.find('\r')));
    }
    buffer_.erase(0, end + 4);
}

void EventReader::follow() {
    auto end = Clock::time_point::max();
    while (Clock::now() < end) {
        take_chunks();
        // Data available at stop() is still read.
        const bool last = stopping_;
        if (last && end == Clock::time_point::max()) {
            end = Clock::now() + kRest;
        }
        if (wait_readable(socket_.get(), Clock::now() + kPollInterval)) {
            if (!receive()) {
                return;
            }
        } else if (last) {
            return;
        }
    }
}

void EventReader::take_chunks() {
    std::size_t at = 0;
    for (;;) {
        const auto line_end = buffer_.find("\r\n", at);
        if (line_end == std::string::npos) {
            break;
        }
        const std::size_t size = std::strtoul(buffer_.c_str() + at, nullptr, 16);
        const std::size_t begin = line_end + 2;
        if (buffer_.size() < begin + size + 2) {
            break;
        }
        take_lines(std::string_view(buffer_).substr(begin, size));
        at = begin + size + 2;
    }
    buffer_.erase(0, at);
}

void EventReader::take_lines(std::string_view piece) {
    for (;;) {
        const auto end = piece.find('\n');
        if (end == std::string_view::npos) {
            line_ += piece;
            return;
        }
        if (line_.empty()) {
            check_.line(piece.substr(0, end));
        } else {
            line_ += piece.substr(0, end);
            check_.line(line_);
            line_.clear();
        }
        piece.remove_prefix(end + 1);
    }
}

}  // namespace vgpu::test
