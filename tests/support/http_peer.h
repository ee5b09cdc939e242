// SPDX-License-Identifier: MIT
//
// HttpPeer: a client of the admin API that can also send malformed HTTP.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/fd.h"
#include "support/unix_socket.h"

namespace vgpu::test {

struct HttpAnswer {
    int status = 0;
    std::string head;
    std::string body;

    [[nodiscard]] nlohmann::json object() const {
        return nlohmann::json::parse(body, nullptr, false);
    }
};

class HttpPeer {
  public:
    static HttpPeer connect(const std::string& path) { return HttpPeer(connect_unix(path)); }
    static HttpPeer connect(std::uint16_t port) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
            throw std::system_error(errno, std::generic_category(), "connect");
        }
        return HttpPeer(std::move(fd));
    }

    // Returns false if the server has closed the connection.
    bool send(std::string_view text) {
        while (!text.empty()) {
            const auto sent = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
            if (sent <= 0) {
                return false;
            }
            text.remove_prefix(static_cast<std::size_t>(sent));
        }
        return true;
    }
    bool ask(const std::string& method, const std::string& target,
             const std::optional<std::string>& body = std::nullopt) {
        std::string text = method + " " + target + " HTTP/1.1\r\nHost: vgpu\r\n";
        if (body) {
            text += "Content-Type: application/json\r\nContent-Length: ";
            text += std::to_string(body->size()) + "\r\n";
        }
        text += "\r\n";
        return send(text + body.value_or(""));
    }
    // Returns the next response with a Content-Length; status 0 if there is none.
    HttpAnswer receive() {
        HttpAnswer answer;
        const auto end = read_until("\r\n\r\n");
        if (end == std::string::npos) {
            return answer;
        }
        answer.head = read_.substr(0, end + 2);
        read_.erase(0, end + 4);
        answer.status = static_cast<int>(
            std::strtol(answer.head.c_str() + std::strlen("HTTP/1.1 "), nullptr, 10));
        const auto length = answer.head.find("Content-Length: ");
        const std::size_t size = length == std::string::npos
                                     ? 0
                                     : std::strtoul(answer.head.c_str() + length + 16, nullptr, 10);
        while (read_.size() < size && read_more()) {
        }
        answer.body = read_.substr(0, size);
        read_.erase(0, size);
        return answer;
    }
    HttpAnswer call(const std::string& method, const std::string& target,
                    const std::optional<std::string>& body = std::nullopt) {
        return ask(method, target, body) ? receive() : HttpAnswer{};
    }
    // Returns the next JSON line of a chunked stream.
    std::optional<nlohmann::json> next_event() {
        for (;;) {
            const auto end = read_until("\n");
            if (end == std::string::npos) {
                return std::nullopt;
            }
            const std::string line = read_.substr(0, end);
            read_.erase(0, end + 1);
            if (line.starts_with("{")) {
                return nlohmann::json::parse(line);
            }
        }
    }
    // Returns whether the server closes the connection; discards data received before that.
    bool wait_closed() {
        while (read_more()) {
            read_.clear();
        }
        return closed_;
    }
    [[nodiscard]] int fd() const { return fd_.get(); }
    // Sets the receive time-out; a read that times out counts as the end.
    void limit_receive(std::chrono::milliseconds limit) const {
        const timeval time{.tv_sec = limit.count() / 1000, .tv_usec = limit.count() % 1000 * 1000};
        static_cast<void>(::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    }

  private:
    explicit HttpPeer(Fd fd) : fd_(std::move(fd)) { limit_receive(std::chrono::seconds(10)); }
    bool read_more() {
        std::array<char, 4096> bytes{};
        const auto got = ::recv(fd_.get(), bytes.data(), bytes.size(), 0);
        if (got <= 0) {
            closed_ = got == 0 || errno == ECONNRESET;
            return false;
        }
        read_.append(bytes.data(), static_cast<std::size_t>(got));
        return true;
    }
    std::size_t read_until(const char* text) {
        for (;;) {
            const auto found = read_.find(text);
            if (found != std::string::npos || !read_more()) {
                return found;
            }
        }
    }

    Fd fd_;
    std::string read_;
    bool closed_ = false;
};

}  // namespace vgpu::test
