// SPDX-License-Identifier: MIT
#include "round_trips.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

namespace vgpu::bench {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kAnswerLimit{60};
constexpr std::size_t kPage = 4096;
constexpr std::size_t kEchoSize = 64;
constexpr std::uint32_t kPollsPerClock = 256;

[[noreturn]] void fail(const char* what) {
    throw std::system_error(errno, std::generic_category(), what);
}

Fd open_file(const std::string& path, int flags) {
    Fd fd(::open(path.c_str(), flags | O_CLOEXEC, 0666));
    if (!fd) {
        throw std::system_error(errno, std::generic_category(), path);
    }
    return fd;
}

int direct(FileClient::Cache cache) {
    return cache == FileClient::Cache::kAround ? O_DIRECT : 0;
}

// Waits until a read or write may succeed; returns at once when spinning.
void wait_for(int fd, short events, EchoClient::Wait wait) {
    if (wait == EchoClient::Wait::kSpin) {
        return;
    }
    pollfd entry{.fd = fd, .events = events, .revents = 0};
    const int ready = ::poll(&entry, 1, std::chrono::milliseconds(kAnswerLimit).count());
    if (ready == 0) {
        throw std::runtime_error("no response from the host for 60 s");
    }
    if (ready < 0 && errno != EINTR) {
        fail("poll");
    }
}

}  // namespace

FileClient::FileClient(const std::string& directory, std::uint32_t vm, Cache cache)
    : request_(open_file(directory + "/request.txt", O_WRONLY | O_CREAT | direct(cache))),
      response_(open_file(directory + "/response.txt", O_RDWR | O_CREAT | direct(cache))),
      page_(static_cast<char*>(std::aligned_alloc(kPage, kPage))),
      vm_(vm) {
    if (!page_) {
        throw std::bad_alloc();
    }
    std::memset(page_.get(), 0, kPage);
}

void FileClient::prepare() {
    // Refresh the size: an NFS client that believes the file to be empty would not truncate it.
    struct stat now {};
    if (::fstat(response_.get(), &now) != 0 || ::ftruncate(response_.get(), 0) != 0) {
        fail("clearing response.txt");
    }
}

void FileClient::round_trip() {
    const std::uint32_t a = ++number_ * 7;
    const std::uint32_t b = number_ * 1000003;
    const std::string line =
        "A:2:" + std::to_string(vm_) + ':' + std::to_string(a) + ':' + std::to_string(b) + '\n';
    std::memcpy(page_.get(), line.data(), line.size());
    if (::pwrite(request_.get(), page_.get(), line.size(), 0) !=
        static_cast<ssize_t>(line.size())) {
        fail("writing request.txt");
    }
    const auto begin = Clock::now();
    for (std::uint32_t polls = 1;; ++polls) {
        const ssize_t size = ::pread(response_.get(), page_.get(), kPage, 0);
        if (size < 0) {
            fail("reading response.txt");
        }
        // A complete line ends with a newline.
        const std::string_view text(page_.get(), static_cast<std::size_t>(size));
        if (text.ends_with('\n')) {
            // Signed, as the mediator writes it, or unsigned.
            std::int64_t sum = 0;
            const auto parsed = std::from_chars(text.data(), text.data() + text.size(), sum);
            if (parsed.ec != std::errc{} || static_cast<std::uint32_t>(sum) != a + b) {
                throw std::runtime_error("wrong answer: " + std::to_string(a) + " + " +
                                         std::to_string(b) + " came back as " + std::string(text));
            }
            return;
        }
        if (polls % kPollsPerClock == 0 && Clock::now() - begin > kAnswerLimit) {
            throw std::runtime_error("no response from the host for 60 s");
        }
    }
}

EchoClient EchoClient::connect_tcp(const std::string& address, std::uint16_t port, Wait wait) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    if (::inet_pton(AF_INET, address.c_str(), &to.sin_addr) != 1) {
        throw std::runtime_error(address + " is not an IPv4 address");
    }
    Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    if (!fd || ::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) != 0 ||
        ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
        fail("connecting by TCP");
    }
    if (::fcntl(fd.get(), F_SETFL, O_NONBLOCK) != 0) {
        fail("fcntl");
    }
    return {std::move(fd), wait};
}

EchoClient EchoClient::open_port(const std::string& device, Wait wait) {
    return {open_file(device, O_RDWR | O_NONBLOCK), wait};
}

void EchoClient::round_trip() {
    std::array<std::uint64_t, kEchoSize / sizeof(std::uint64_t)> request{};
    request.front() = ++number_;
    request.back() = ~number_;
    auto answer = request;
    answer.fill(0);
    const auto begin = Clock::now();
    std::uint32_t polls = 0;
    const auto carry = [&](auto call, std::size_t size, short events) {
        for (std::size_t done = 0; done < size;) {
            const ssize_t n = call(done);
            if (n > 0) {
                done += static_cast<std::size_t>(n);
            } else if (n == 0) {
                throw std::runtime_error("the host has closed the connection");
            } else if (errno != EAGAIN && errno != EINTR) {
                fail("echo");
            } else {
                wait_for(fd_.get(), events, wait_);
                if (++polls % kPollsPerClock == 0 && Clock::now() - begin > kAnswerLimit) {
                    throw std::runtime_error("no response from the host for 60 s");
                }
            }
        }
    };
    const auto out = std::as_bytes(std::span(request));
    const auto in = std::as_writable_bytes(std::span(answer));
    carry([&](std::size_t at) { return ::write(fd_.get(), out.data() + at, out.size() - at); },
          out.size(), POLLOUT);
    carry([&](std::size_t at) { return ::read(fd_.get(), in.data() + at, in.size() - at); },
          in.size(), POLLIN);
    if (answer != request) {
        throw std::runtime_error("the host echoed different data");
    }
}

}  // namespace vgpu::bench
