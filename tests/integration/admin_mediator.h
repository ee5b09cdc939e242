// SPDX-License-Identifier: MIT
//
// AdminMediator: a mediator in the test's own process with its admin API, and HttpPeer, a client
// that can also send what is no HTTP.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "integration/held_backend.h"
#include "integration/test_mediator.h"
#include "mediator/admin/api.h"
#include "mediator/admin/mediator_control.h"
#include "mediator/admin/metrics.h"
#include "mediator/admin/server.h"
#include "support/unix_socket.h"

namespace vgpu::test {

using nlohmann::json;

struct HttpAnswer {
    int status = 0;
    std::string head;
    std::string body;

    [[nodiscard]] json object() const { return json::parse(body, nullptr, false); }
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

    // False if the server has closed.
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
    // The next answer with a Content-Length; status 0 if there is none.
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
    // The next line of a chunked stream that is JSON.
    std::optional<json> next_event() {
        for (;;) {
            const auto end = read_until("\n");
            if (end == std::string::npos) {
                return std::nullopt;
            }
            const std::string line = read_.substr(0, end);
            read_.erase(0, end + 1);
            if (line.starts_with("{")) {
                return json::parse(line);
            }
        }
    }
    // Whether the server closes; what comes before that is dropped.
    bool wait_closed() {
        while (read_more()) {
            read_.clear();
        }
        return closed_;
    }
    [[nodiscard]] int fd() const { return fd_.get(); }

  private:
    explicit HttpPeer(Fd fd) : fd_(std::move(fd)) {
        const timeval limit{.tv_sec = 10, .tv_usec = 0};
        static_cast<void>(::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    }
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

class AdminMediator {
  public:
    struct Options {
        Settings settings;
        AdminServer::Options server;
        std::function<ReloadOutcome()> reload = [] { return ReloadOutcome{}; };
        bool metrics_port = false;
    };
    AdminMediator() : AdminMediator(Options()) {}
    explicit AdminMediator(const Options& options)
        : io_(1),
          metrics_(pool_ids(options.settings)),
          fan_out_({&events, &counters_, &stream_, &metrics_}),
          mediator_(
              std::make_unique<Mediator>(io_, options.settings, backends(hold), fan_out_, clock_)),
          control_({.mediator = *mediator_,
                    .counters = counters_,
                    .events = fan_out_,
                    .clock = clock_,
                    .sockets = {path()},
                    .config_file = "",
                    .only_gpu = 0,
                    .reload = options.reload,
                    .suppressed_lines = [] { return std::uint64_t{0}; }}),
          api_(control_, metrics_),
          server_(std::make_unique<AdminServer>(io_, api_, stream_, clock_, options.server)) {
        mediator_->add_listener(UnixListener::create(path()).value());
        EXPECT_TRUE(server_->listen(UnixListener::create(admin_path()).value()));
        if (options.metrics_port) {
            port = server_->listen_metrics({.host = "127.0.0.1", .port = 0}).value();
        }
        thread_ = std::thread([this] { mediator_->run(); });
    }
    AdminMediator(const AdminMediator&) = delete;
    AdminMediator& operator=(const AdminMediator&) = delete;
    ~AdminMediator() {
        if (thread_.joinable()) {
            boost::asio::post(io_, [this] {
                mediator_->begin_shutdown();
                mediator_->begin_shutdown();
            });
            thread_.join();
        }
        server_.reset();
    }

    [[nodiscard]] std::string path() const { return dir_.file("s"); }
    [[nodiscard]] std::string admin_path() const { return dir_.file("a"); }
    [[nodiscard]] HttpPeer admin() const { return HttpPeer::connect(admin_path()); }
    [[nodiscard]] WirePeer connect(std::uint32_t vm_id, char pool = 'A',
                                   std::uint8_t priority = VGPU_PRIORITY_MEDIUM) const {
        WirePeer peer = WirePeer::connect(path());
        peer.vm_id = vm_id;
        peer.pool = pool;
        peer.priority = priority;
        return peer;
    }
    // Made on the control loop.
    std::string text_of(const Metrics& metrics) {
        std::promise<std::string> text;
        boost::asio::post(io_, [&] { text.set_value(metrics.text(control_)); });
        return text.get_future().get();
    }
    // Returns once run() has returned.
    void join() { thread_.join(); }

    EventRecorder events;
    std::shared_ptr<Hold> hold = std::make_shared<Hold>();
    std::uint16_t port = 0;

  private:
    static std::vector<char> pool_ids(const Settings& settings) {
        std::vector<char> ids;
        for (const PoolSettings& pool : settings.pools) {
            ids.push_back(pool.id);
        }
        return ids;
    }
    static std::vector<std::unique_ptr<Backend>> backends(const std::shared_ptr<Hold>& hold) {
        std::vector<std::unique_ptr<Backend>> made;
        made.push_back(std::make_unique<HeldBackend>(hold));
        return made;
    }

    TempDir dir_;
    SteadyClock clock_;
    boost::asio::io_context io_;
    Counters counters_;
    EventStream stream_;
    Metrics metrics_;
    EventFanOut fan_out_;
    std::unique_ptr<Mediator> mediator_;
    MediatorControl control_;
    AdminApi api_;
    std::unique_ptr<AdminServer> server_;
    std::thread thread_;
};

}  // namespace vgpu::test
