// SPDX-License-Identifier: MIT
#include "cli/vgpuctl/admin_client.h"

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>

namespace vgpu::ctl {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;
using Stream = beast::basic_stream<asio::local::stream_protocol>;

// Upper bound: larger than any response of the API.
constexpr std::uint64_t kMostBody = std::uint64_t{256} * 1024 * 1024;
constexpr std::size_t kPiece = std::size_t{16} * 1024;
// Pauses between attempts to connect while the listener's backlog is full: short, because others
// take a place there as soon as it is free.
constexpr std::chrono::milliseconds kFirstPause{1};
constexpr std::chrono::milliseconds kLongestPause{4};

http::request<http::string_body> make_request(std::string_view method, const std::string& target,
                                              const std::string& body) {
    http::request<http::string_body> request;
    request.version(11);
    request.method_string(beast::string_view(method.data(), method.size()));
    request.target(target);
    request.set(http::field::host, "vgpu");
    request.set(http::field::user_agent, "vgpuctl");
    if (!body.empty()) {
        request.set(http::field::content_type, "application/json");
        request.body() = body;
    }
    request.prepare_payload();
    return request;
}

class Exchange {
  public:
    Exchange(const std::string& socket, std::chrono::milliseconds limit)
        : socket_(socket), limit_(limit) {}

    // Connects and sends the request.
    [[nodiscard]] Result<void> begin(const http::request<http::string_body>& request) {
        // One byte is reserved for the terminating NUL.
        if (socket_.empty() || socket_.size() > 107) {
            return Error{"the path of a Unix socket must be 1 to 107 bytes long, not " +
                             std::to_string(socket_.size()) +
                             ": use another one (--socket, VGPU_ADMIN_SOCKET)",
                         EINVAL};
        }
        stream_.expires_after(limit_);
        if (const error_code error = connect()) {
            return no_mediator(error);
        }
        http::async_write(stream_, request,
                          [this](const error_code& error, std::size_t) { finish(error); });
        if (const error_code error = run()) {
            return broken("send the request", error);
        }
        return {};
    }

    template <typename Parser>
    [[nodiscard]] Result<void> read_header(Parser& parser) {
        http::async_read_header(stream_, buffer_, parser,
                                [this](const error_code& error, std::size_t) { finish(error); });
        if (const error_code error = run()) {
            return broken("read the answer", error);
        }
        return {};
    }
    template <typename Parser>
    [[nodiscard]] Result<void> read_all(Parser& parser) {
        http::async_read(stream_, buffer_, parser,
                         [this](const error_code& error, std::size_t) { finish(error); });
        if (const error_code error = run()) {
            return broken("read the answer", error);
        }
        return {};
    }
    // Reads the next bytes of the body, without a time-out. The error is Beast's or Asio's own.
    template <typename Parser>
    [[nodiscard]] error_code read_some(Parser& parser) {
        stream_.expires_never();
        http::async_read_some(stream_, buffer_, parser,
                              [this](const error_code& error, std::size_t) { finish(error); });
        return run();
    }

    // From now on SIGINT and SIGTERM cancel the operation in flight.
    void end_on_signals() {
        signals_.add(SIGINT);
        signals_.add(SIGTERM);
        signals_.async_wait([this](const error_code& error, int) {
            if (!error) {
                signalled_ = true;
                stream_.cancel();
                pause_.cancel();
            }
        });
    }
    [[nodiscard]] bool signalled() const { return signalled_; }

  private:
    // Tries again while the listener's backlog is full, until the time limit.
    error_code connect() {
        const auto deadline = std::chrono::steady_clock::now() + limit_;
        for (auto pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
            stream_.async_connect(asio::local::stream_protocol::endpoint(socket_),
                                  [this](const error_code& error) { finish(error); });
            const error_code error = run();
            // Asio reports the full backlog of a listener as no_buffer_space.
            if (error != asio::error::no_buffer_space || signalled_ ||
                std::chrono::steady_clock::now() + pause >= deadline) {
                return error;
            }
            pause_.expires_after(pause);
            pause_.async_wait([this](const error_code& ended) { finish(ended); });
            if (const error_code ended = run(); ended || signalled_) {
                return ended ? ended : asio::error::operation_aborted;
            }
        }
    }

    void finish(const error_code& error) { result_ = error; }
    error_code run() {
        result_.reset();
        io_.restart();
        while (!result_) {
            io_.run_one();
        }
        return *result_;
    }

    [[nodiscard]] Error no_mediator(const error_code& error) const {
        return Error{
            "cannot connect to the mediator at " + socket_ + ": " + why_not_connected(error),
            error.value()};
    }
    // Returns the cause and the remedy.
    [[nodiscard]] std::string why_not_connected(const error_code& error) const {
        if (error == beast::error::timeout || error == asio::error::no_buffer_space) {
            return "its socket accepted no connection within " + std::to_string(limit_.count()) +
                   " ms: too many other programs connect to it, or it is hung; check its log, or "
                   "wait longer (--timeout)";
        }
        switch (error.value()) {
            case ENOENT:
                return "no such file. Start vgpu-mediator with this admin socket, or use the one "
                       "in the 'ready' line of its log (--socket, VGPU_ADMIN_SOCKET)";
            case ECONNREFUSED:
                return "no process is listening on it. Start vgpu-mediator";
            case EACCES:
            case EPERM:
                return "permission denied. Join group vgpu, or run as root";
            case EPROTOTYPE:
            case ENOTDIR:
            case ELOOP:
                return error.message() +
                       ". Use the admin socket in the 'ready' line of the mediator's log "
                       "(--socket, VGPU_ADMIN_SOCKET)";
            default:
                return error.message();
        }
    }
    [[nodiscard]] Error broken(std::string_view doing, const error_code& error) const {
        if (error == beast::error::timeout) {
            return Error{"the mediator at " + socket_ + " did not answer within " +
                             std::to_string(limit_.count()) +
                             " ms: it is hung or overloaded; check its log, or raise --timeout",
                         error.value()};
        }
        if (error == http::error::end_of_stream || error == http::error::partial_message ||
            error == asio::error::connection_reset || error == asio::error::broken_pipe ||
            error == asio::error::eof) {
            return Error{"the process listening at " + socket_ +
                             " closed the connection without a response: this is not a mediator's "
                             "admin socket (the socket for devices is a different one), or the "
                             "mediator has just exited",
                         error.value()};
        }
        std::string text = "cannot ";
        text += doing;
        text += " at ";
        text += socket_;
        text += ": ";
        text += error.message();
        if (error.category() == http::make_error_code(http::error::bad_version).category()) {
            text += ": this is not a mediator's admin socket";
        }
        return Error{std::move(text), error.value()};
    }

    std::string socket_;
    std::chrono::milliseconds limit_;
    asio::io_context io_;
    Stream stream_{io_};
    asio::signal_set signals_{io_};
    asio::steady_timer pause_{io_};
    beast::flat_buffer buffer_;
    std::optional<error_code> result_;
    bool signalled_ = false;
};

}  // namespace

Result<Reply> AdminClient::call(std::string_view method, const std::string& target,
                                const std::string& body) const {
    Exchange exchange(socket_, limit_);
    if (auto begun = exchange.begin(make_request(method, target, body)); !begun) {
        return std::move(begun).error();
    }
    http::response_parser<http::string_body> parser;
    parser.body_limit(kMostBody);
    if (auto read = exchange.read_all(parser); !read) {
        return std::move(read).error();
    }
    return Reply{.status = parser.get().result_int(), .body = std::move(parser.get().body())};
}

Result<Reply> AdminClient::follow(const std::string& target,
                                  const std::function<bool(std::string_view)>& on_piece) const {
    Exchange exchange(socket_, limit_);
    exchange.end_on_signals();
    if (auto begun = exchange.begin(make_request("GET", target, {})); !begun) {
        if (exchange.signalled()) {
            return Reply{.status = 200, .body = {}};
        }
        return std::move(begun).error();
    }
    http::response_parser<http::buffer_body> parser;
    parser.body_limit(std::numeric_limits<std::uint64_t>::max());
    if (auto read = exchange.read_header(parser); !read) {
        if (exchange.signalled()) {
            return Reply{.status = 200, .body = {}};
        }
        return std::move(read).error();
    }
    Reply reply{.status = parser.get().result_int(), .body = {}};
    std::array<char, kPiece> piece{};
    while (!parser.is_done()) {
        parser.get().body().data = piece.data();
        parser.get().body().size = piece.size();
        const error_code error = exchange.read_some(parser);
        const std::string_view text(piece.data(), piece.size() - parser.get().body().size);
        if (reply.status != 200) {
            reply.body.append(text);
        } else if (!text.empty() && !on_piece(text)) {
            break;
        }
        if (exchange.signalled() || error == http::error::end_of_stream ||
            error == http::error::partial_message) {
            break;
        }
        if (error && error != http::error::need_buffer) {
            return Error{"the connection to the mediator was lost (" + error.message() +
                             "): later events are missing; run the command again",
                         error.value()};
        }
    }
    return reply;
}

}  // namespace vgpu::ctl
