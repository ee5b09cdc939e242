// SPDX-License-Identifier: MIT
#include "peers.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "socket_io.h"

namespace vgpu::bench {

namespace {

[[noreturn]] void fail(const char* what) {
    throw std::system_error(errno, std::generic_category(), what);
}

// Serves one connection at a time: there is one guest.
[[noreturn]] void serve_echo(int listener, bool tcp) {
    for (;;) {
        const Fd peer(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
        if (!peer) {
            if (errno == EINTR || errno == ECONNABORTED) {
                continue;
            }
            fail("accept");
        }
        const int on = 1;
        if (tcp && ::setsockopt(peer.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
            fail("TCP_NODELAY");
        }
        std::array<std::byte, 65536> buffer{};
        ssize_t size = 0;
        while ((size = ::recv(peer.get(), buffer.data(), buffer.size(), 0)) > 0 &&
               send_all(peer.get(), std::span(buffer).first(static_cast<std::size_t>(size)))) {
        }
    }
}

void say_listening(const std::string& where) {
    static_cast<void>(std::printf("listening on %s\n", where.c_str()));
    static_cast<void>(std::fflush(stdout));
}

std::string read_line(const std::filesystem::path& path) {
    std::ifstream file(path);
    std::string line;
    // A line without a newline is incomplete.
    return std::getline(file, line) && !file.eof() ? line : std::string();
}

}  // namespace

std::string answer_line(const std::string& request) {
    std::vector<std::string_view> fields;
    for (std::string_view rest = request;;) {
        const auto colon = rest.find(':');
        fields.push_back(rest.substr(0, colon));
        if (colon == std::string_view::npos) {
            break;
        }
        rest.remove_prefix(colon + 1);
    }
    std::array<std::uint32_t, 2> numbers{};
    if (fields.size() != 5) {
        return {};
    }
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        const std::string_view text = fields[3 + i];
        const auto [end, error] =
            std::from_chars(text.data(), text.data() + text.size(), numbers[i]);
        if (error != std::errc{} || end != text.data() + text.size()) {
            return {};
        }
    }
    return std::to_string(numbers[0] + numbers[1]) + '\n';
}

std::size_t FileServer::poll() const {
    std::size_t answered = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
        const auto name = entry.path().filename().string();
        if (!name.starts_with("vm") || !entry.is_directory()) {
            continue;
        }
        const auto path = entry.path() / "request.txt";
        const std::string request = read_line(path);
        if (request.empty()) {
            continue;
        }
        const std::string answer = answer_line(request);
        std::error_code gone;
        std::filesystem::resize_file(path, 0, gone);
        if (!answer.empty()) {
            std::ofstream(entry.path() / "response.txt") << answer;
            ++answered;
        }
    }
    return answered;
}

void FileServer::serve(std::chrono::milliseconds interval) const {
    say_listening(directory_);
    for (;;) {
        poll();
        std::this_thread::sleep_for(interval);
    }
}

void serve_tcp_echo(std::uint16_t port) {
    const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    if (!listener || ::bind(listener.get(), any, size) != 0 || ::listen(listener.get(), 1) != 0 ||
        ::getsockname(listener.get(), any, &size) != 0) {
        fail("listening by TCP");
    }
    say_listening(std::to_string(ntohs(address.sin_port)));
    serve_echo(listener.get(), true);
}

void serve_unix_echo(const std::string& path) {
    const Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        throw std::runtime_error("the path is too long for a Unix socket: " + path);
    }
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    if (!listener ||
        ::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener.get(), 1) != 0) {
        fail("listening on a Unix socket");
    }
    say_listening(path);
    serve_echo(listener.get(), false);
}

}  // namespace vgpu::bench
