// SPDX-License-Identifier: MIT
#include "mediator/admin/server.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/chunk_encode.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/serializer.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <cerrno>
#include <cmath>
#include <deque>
#include <optional>
#include <utility>

#include "mediator/events/shortages.h"
#include "sched/token_bucket.h"
#include "sched/vm_limits.h"

namespace vgpu {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;

namespace {

using Protocol = asio::generic::stream_protocol;
using Stream = beast::basic_stream<Protocol>;

constexpr std::uint64_t kBodyLimit = std::uint64_t{64} * 1024;
constexpr std::uint32_t kHeaderLimit = std::uint32_t{8} * 1024;
constexpr std::chrono::milliseconds kPause{1};
// Minimum charge for a response: reading the request and writing also cost time.
constexpr std::chrono::microseconds kLeastCharge{100};
constexpr std::chrono::seconds kAcceptRetry{1};
// Until the next attempt if the limit of accepted connections is reached.
constexpr std::chrono::milliseconds kAcceptPause{1};
// One that is served counts as this many that are only closed.
constexpr double kAcceptsPerServed = 5;
// As many as are accepted within half a second. A scraper in a longer line would rather time out.
constexpr int kMetricsBacklog = 256;
// A new client keeps its slot for this long: it is about to send a request.
constexpr std::chrono::milliseconds kGrace{100};
constexpr std::chrono::milliseconds kRoomPause{10};
// Concurrent connections of users who are only rejected.
constexpr std::size_t kMostStrangers = 4;
// A client that does not take its response for this long can be replaced, like an idle one.
constexpr std::chrono::seconds kSlow{1};

std::string_view view(beast::string_view text) {
    return {text.data(), text.size()};
}

// Returns whether the client has closed the connection, or its sending side, before it sent
// anything.
bool has_left(int fd) {
    char byte = 0;
    const auto got = ::recv(fd, &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

}  // namespace

// State of the server that connections use; `closed` notifies them that the server is destroyed.
struct AdminServer::Shared {
    Shared(asio::io_context& with_io, AdminApi& with_api, EventStream& with_events,
           const Clock& with_clock, Options with_options)
        : io(with_io),
          api(with_api),
          events(with_events),
          clock(with_clock),
          options(std::move(with_options)),
          budget(options.answer_time, options.answer_window, clock.now()),
          compose_pause(io) {
        if (options.notices != nullptr) {
            shortages.emplace(*options.notices);
        }
    }

    asio::io_context& io;
    AdminApi& api;
    EventStream& events;
    const Clock& clock;
    Options options;
    GpuTimeBudget budget;  // of this thread's time, not a GPU's
    std::optional<Shortages> shortages;
    std::vector<std::weak_ptr<Connection>> connections;
    std::size_t streams = 0;
    bool closed = false;

    // Connections whose response body is composed in steps, in FIFO order: composing them in turns
    // would delay the first until the last is complete. Those of operators go first.
    struct Composing {
        std::deque<std::shared_ptr<Connection>> operators;
        std::deque<std::shared_ptr<Connection>> scrapers;

        [[nodiscard]] bool empty() const { return operators.empty() && scrapers.empty(); }
        // Precondition: not empty.
        std::deque<std::shared_ptr<Connection>>& first() {
            return operators.empty() ? scrapers : operators;
        }
        void clear() {
            operators.clear();
            scrapers.clear();
        }
    };
    Composing composing;
    // The last response to a scraper. It also answers the scrapers that asked before it was begun:
    // their number does not delay any of them.
    std::optional<AdminAnswer> scraped;
    std::chrono::nanoseconds scrape_begun{0};
    bool compose_posted = false;
    asio::steady_timer compose_pause;
    // Charges the time since `begin` to the budget.
    void charge_since(std::chrono::nanoseconds begin) {
        const auto end = clock.now();
        budget.charge(std::max<std::chrono::nanoseconds>(end - begin, kLeastCharge), end);
    }
    // Posts the next step.
    static void compose_later(const std::shared_ptr<Shared>& shared);
    static void compose(const std::shared_ptr<Shared>& shared);
};

// One listener and the number of its open connections.
class AdminServer::Door : public std::enable_shared_from_this<Door> {
  public:
    Door(std::shared_ptr<Shared> shared, std::optional<UnixListener> socket, Fd fd,
         bool metrics_only)
        : shared_(std::move(shared)),
          socket_(std::move(socket)),
          fd_(std::move(fd)),
          descriptor_(shared_->io, fd_.get()),
          retry_(shared_->io),
          metrics_only_(metrics_only),
          rate_(metrics_only ? shared_->options.metrics_accepts : shared_->options.socket_accepts),
          accepts_(rate_.per_second * kAcceptsPerServed, rate_.burst * kAcceptsPerServed,
                   shared_->clock.now()),
          stranger_accepts_(shared_->options.stranger_accepts.per_second,
                            shared_->options.stranger_accepts.burst, shared_->clock.now()) {}
    Door(const Door&) = delete;
    Door& operator=(const Door&) = delete;
    ~Door() { descriptor_.release(); }

    void wait();
    void close() {
        retry_.cancel();
        descriptor_.cancel();
    }
    void connection_closed(bool allowed) { --(allowed ? open_ : strangers_); }
    [[nodiscard]] bool metrics_only() const { return metrics_only_; }

  private:
    struct Client {
        Fd fd;
        std::optional<uid_t> uid;
        bool allowed = false;
    };

    void accept();
    // The accepted connection was of a client that wants to be served.
    void admit(Client client);
    void report(const std::string& kind, const std::string& what);
    // Starts the client's connection; closes it if the client is not allowed and there is no slot.
    void serve(Client client);
    void accept_later(std::chrono::milliseconds pause);
    // Closes a connection that waits for its client, either of the allowed clients or of the
    // others. Picks the user with the most connections, and of these the one that has waited
    // longest. Returns false if there is none.
    bool make_room(bool allowed);

    std::shared_ptr<Shared> shared_;
    std::optional<UnixListener> socket_;  // owns the socket file
    Fd fd_;
    asio::posix::stream_descriptor descriptor_;  // borrows fd_
    asio::steady_timer retry_;
    bool metrics_only_;
    Rate rate_;
    TokenBucket accepts_;
    TokenBucket stranger_accepts_;
    std::size_t open_ = 0;
    std::size_t strangers_ = 0;      // not counted in open_
    std::optional<Client> waiting_;  // for a slot
};

// One client. Reads a request, answers it, and repeats; after a request for events it only streams
// events and watches for a disconnect.
class AdminServer::Connection : public std::enable_shared_from_this<Connection> {
  public:
    // `uid` is the client's, if the kernel reports it.
    Connection(std::shared_ptr<Shared> shared, std::shared_ptr<Door> door, Protocol::socket socket,
               std::optional<uid_t> uid, bool allowed)
        : shared_(std::move(shared)),
          door_(std::move(door)),
          stream_(std::move(socket)),
          pause_(shared_->io),
          uid_(uid),
          allowed_(allowed),
          waits_since_(shared_->clock.now()) {}
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection() {
        if (reader_) {
            --shared_->streams;
        }
        door_->connection_closed(allowed_);
    }

    void read();
    void close() {
        closed_ = true;
        pause_.cancel();
        stream_.close();
    }
    [[nodiscard]] const Door& door() const { return *door_; }
    [[nodiscard]] std::optional<uid_t> uid() const { return uid_; }
    [[nodiscard]] bool allowed() const { return allowed_; }
    // Returns since when it has waited for its client, if another client may take its slot.
    [[nodiscard]] std::optional<std::chrono::nanoseconds> waits_since() const {
        const auto waits = shared_->clock.now() - waits_since_;
        const bool silent = reading_ && (waits >= kGrace || !allowed_);
        // A scraper whose response is being composed waits for the server.
        const bool slow = response_ || (unfinished_ && !door_->metrics_only());
        return !closed_ && !reader_ && (silent || (slow && waits >= kSlow))
                   ? std::optional(waits_since_)
                   : std::nullopt;
    }

  private:
    friend struct AdminServer::Shared;
    void on_request(const error_code& error);
    void answer_in_turn();
    void answer();
    // Writes more of an answer's body, and sends it when it is complete. Returns whether there is
    // more to write. Precondition: unfinished_.
    bool write_more();
    // Returns false if the connection was closed by either side.
    bool wants_answer();
    void send(AdminAnswer answer, bool keep_alive);
    void stream_events(const AdminAnswer& answer);
    void write_events();
    void watch_for_end();

    std::shared_ptr<Shared> shared_;
    std::shared_ptr<Door> door_;
    Stream stream_;
    asio::steady_timer pause_;
    std::optional<uid_t> uid_;
    bool allowed_;
    bool closed_ = false;
    bool reading_ = false;                  // a request
    std::chrono::nanoseconds waits_since_;  // for a request, or to send the response
    beast::flat_buffer buffer_;
    std::optional<http::request_parser<http::string_body>> parser_;
    std::optional<http::response<http::string_body>> response_;
    std::function<void()> then_;
    std::optional<AdminAnswer> unfinished_;  // its body

    std::shared_ptr<EventReader> reader_;
    std::optional<http::response<http::empty_body>> head_;
    std::optional<http::response_serializer<http::empty_body>> serializer_;
    std::string lines_;
    bool writing_ = false;
    bool due_ = false;
    std::array<char, 64> unread_{};
};

void AdminServer::Door::wait() {
    descriptor_.async_wait(asio::posix::descriptor_base::wait_read,
                           [self = shared_from_this()](const error_code& error) {
                               if (!error && !self->shared_->closed) {
                                   self->accept();
                               }
                           });
}

void AdminServer::Door::accept_later(std::chrono::milliseconds pause) {
    retry_.expires_after(pause);
    retry_.async_wait([self = shared_from_this()](const error_code& error) {
        if (error || self->shared_->closed) {
            return;
        }
        if (!self->waiting_) {
            self->accept();
        } else if (self->open_ < self->shared_->options.max_connections || self->make_room(true)) {
            self->serve(*std::exchange(self->waiting_, std::nullopt));
            self->wait();
        } else {
            self->accept_later(kRoomPause);
        }
    });
}

bool AdminServer::Door::make_room(bool allowed) {
    const auto open_of = [&](const Connection& one) {
        return std::count_if(shared_->connections.begin(), shared_->connections.end(),
                             [&](const auto& weak) {
                                 const auto other = weak.lock();
                                 return other && &other->door() == this &&
                                        other->allowed() == allowed && other->uid() == one.uid();
                             });
    };
    std::shared_ptr<Connection> chosen;
    for (const auto& weak : shared_->connections) {
        const auto one = weak.lock();
        if (!one || &one->door() != this || one->allowed() != allowed || !one->waits_since()) {
            continue;
        }
        if (!chosen || std::pair(-open_of(*one), *one->waits_since()) <
                           std::pair(-open_of(*chosen), *chosen->waits_since())) {
            chosen = one;
        }
    }
    if (chosen) {
        chosen->close();
    }
    return chosen != nullptr;
}

void AdminServer::Door::report(const std::string& kind, const std::string& what) {
    if (shared_->shortages) {
        shared_->shortages->report(kind, what, shared_->clock.now());
    }
}

// Accepts one connection per turn.
void AdminServer::Door::accept() {
    if (!accepts_.take(shared_->clock.now())) {
        const std::string name = metrics_only_ ? "the metrics port" : "the admin socket";
        report(name, "clients connect to " + name + " without pause: it serves " +
                         std::to_string(std::lround(rate_.per_second)) +
                         " connections a second, further ones wait (" +
                         (metrics_only_ ? "ss -tnp" : "ss -xp") + " shows whose they are)");
        accept_later(kAcceptPause);
        return;
    }
    Fd fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) {
        if (const auto shortage = accept_shortage(errno)) {
            const std::string what =
                "cannot accept admin connections, retrying every second: " + *shortage;
            report(what, what);
            accept_later(kAcceptRetry);
        } else {
            wait();
        }
        return;
    }
    if (has_left(fd.get())) {
        wait();
        return;
    }
    admit({.fd = std::move(fd), .uid = std::nullopt, .allowed = true});
}

// The client's identity is checked before anything else.
void AdminServer::Door::admit(Client client) {
    const auto now = shared_->clock.now();
    if (!metrics_only_) {
        if (const auto peer = peer_credentials(client.fd.get())) {
            client.uid = peer->uid;
        }
        client.allowed = client.uid && may_administer(*client.uid, shared_->options.allowed_users);
    }
    if (!client.allowed && !stranger_accepts_.take(now)) {
        report("users who may not use the admin API",
               "users who may not use the admin API connect to its socket without pause: further "
               "connections of theirs are closed at once");
        wait();
        return;
    }
    accepts_.charge(now, kAcceptsPerServed, kAcceptsPerServed - 1);
    if (client.allowed && open_ >= shared_->options.max_connections && !make_room(true)) {
        // No client has been idle long enough: this one waits, and so do those behind it.
        waiting_ = std::move(client);
        accept_later(kRoomPause);
        return;
    }
    serve(std::move(client));
    wait();
}

void AdminServer::Door::serve(Client client) {
    if (!client.allowed && strangers_ >= kMostStrangers && !make_room(false)) {
        return;
    }
    Protocol::socket socket(shared_->io);
    error_code error;
    socket.assign(metrics_only_ ? Protocol(AF_INET, 0) : Protocol(AF_UNIX, 0), client.fd.get(),
                  error);
    if (error) {
        return;
    }
    static_cast<void>(client.fd.release());
    ++(client.allowed ? open_ : strangers_);
    auto connection = std::make_shared<Connection>(shared_, shared_from_this(), std::move(socket),
                                                   client.uid, client.allowed);
    std::erase_if(shared_->connections, [](const auto& weak) { return weak.expired(); });
    shared_->connections.push_back(connection);
    connection->read();
}

void AdminServer::Connection::read() {
    if (shared_->closed) {
        return;
    }
    reading_ = true;
    waits_since_ = shared_->clock.now();
    parser_.emplace();
    parser_->body_limit(kBodyLimit);
    parser_->header_limit(kHeaderLimit);
    stream_.expires_after(shared_->options.idle_timeout);
    http::async_read(stream_, buffer_, *parser_,
                     [self = shared_from_this()](const error_code& error, std::size_t /*bytes*/) {
                         self->on_request(error);
                     });
}

void AdminServer::Connection::on_request(const error_code& error) {
    reading_ = false;
    if (shared_->closed) {
        return;
    }
    if (!error) {
        answer_in_turn();
        return;
    }
    if (error == http::error::body_limit) {
        send(admin_error(413, "too_large", "the body exceeds 64 KiB"), false);
    } else if (error == http::error::header_limit) {
        send(admin_error(431, "too_large", "the header exceeds 8 KiB"), false);
    } else if (error.category() == make_error_code(http::error::bad_method).category() &&
               error != http::error::end_of_stream && error != http::error::partial_message) {
        send(admin_error(400, "bad_request", "this is not an HTTP/1.1 request: " + error.message()),
             false);
    }
    // Otherwise the client disconnected or timed out.
}

void AdminServer::Connection::answer_in_turn() {
    if (shared_->closed) {
        return;
    }
    const auto begin = shared_->clock.now();
    if (shared_->budget.allows(begin)) {
        answer();
        shared_->charge_since(begin);
        return;
    }
    pause_.expires_after(kPause);
    pause_.async_wait([self = shared_from_this()](const error_code& error) {
        if (!error) {
            self->answer_in_turn();
        }
    });
}

void AdminServer::Connection::answer() {
    const auto& request = parser_->get();
    if (!allowed_) {
        send(admin_error(403, "forbidden",
                         "this user is not allowed to use the admin API: add it to allowed_users "
                         "under [admin]"),
             false);
        return;
    }
    const AdminRequest asked{.method = view(request.method_string()),
                             .target = view(request.target()),
                             .content_type = view(request[http::field::content_type]),
                             .body = request.body()};
    AdminAnswer answer = door_->metrics_only() ? shared_->api.answer_metrics_only(asked)
                                               : shared_->api.answer(asked);
    if (answer.more) {
        unfinished_ = std::move(answer);
        waits_since_ = shared_->clock.now();
        (door_->metrics_only() ? shared_->composing.scrapers : shared_->composing.operators)
            .push_back(shared_from_this());
        Shared::compose_later(shared_);
    } else if (!answer.stream) {
        send(std::move(answer), request.keep_alive());
    } else if (shared_->streams >= shared_->options.max_streams) {
        send(admin_error(503, "too_many_streams", "the limit of event streams is reached"),
             request.keep_alive());
    } else {
        stream_events(answer);
    }
}

bool AdminServer::Connection::write_more() {
    const bool scraper = door_->metrics_only();
    const bool keep_alive = parser_->get().keep_alive();
    if (scraper && unfinished_->body.empty()) {
        if (shared_->scraped && waits_since_ <= shared_->scrape_begun) {
            unfinished_.reset();
            send(*shared_->scraped, keep_alive);
            return false;
        }
        shared_->scrape_begun = shared_->clock.now();
        shared_->scraped.reset();
    }
    if (unfinished_->more(unfinished_->body)) {
        return true;
    }
    AdminAnswer answer = *std::exchange(unfinished_, std::nullopt);
    answer.more = nullptr;
    if (scraper) {
        shared_->scraped = answer;
    }
    send(std::move(answer), keep_alive);
    return false;
}

bool AdminServer::Connection::wants_answer() {
    if (closed_ || !stream_.socket().is_open()) {
        return false;
    }
    // A client that has only closed its sending side still reads.
    pollfd entry{.fd = stream_.socket().native_handle(), .events = 0, .revents = 0};
    return ::poll(&entry, 1, 0) <= 0 || (entry.revents & (POLLHUP | POLLERR)) == 0;
}

void AdminServer::Shared::compose_later(const std::shared_ptr<Shared>& shared) {
    if (!std::exchange(shared->compose_posted, true)) {
        asio::post(shared->io, [shared] { compose(shared); });
    }
}

void AdminServer::Shared::compose(const std::shared_ptr<Shared>& shared) {
    shared->compose_posted = false;
    if (shared->closed) {
        shared->composing.clear();
        return;
    }
    while (!shared->composing.empty() && !shared->composing.first().front()->wants_answer()) {
        shared->composing.first().pop_front();
    }
    if (shared->composing.empty()) {
        return;
    }
    const auto begin = shared->clock.now();
    if (!shared->budget.allows(begin)) {
        shared->compose_posted = true;
        shared->compose_pause.expires_after(kPause);
        shared->compose_pause.async_wait([shared](const error_code& error) {
            if (!error) {
                compose(shared);
            }
        });
        return;
    }
    auto& first = shared->composing.first();
    if (!first.front()->write_more()) {
        first.pop_front();
    }
    if (shared->composing.scrapers.empty()) {
        shared->scraped.reset();
    }
    shared->charge_since(begin);
    if (!shared->composing.empty()) {
        compose_later(shared);
    }
}

void AdminServer::Connection::send(AdminAnswer answer, bool keep_alive) {
    response_.emplace();
    response_->version(11);
    response_->result(answer.status);
    response_->set(http::field::content_type, answer.content_type);
    response_->set(http::field::cache_control, "no-store");
    if (!answer.allow.empty()) {
        response_->set(http::field::allow, answer.allow);
    }
    response_->keep_alive(keep_alive);
    response_->body() = std::move(answer.body);
    response_->prepare_payload();
    waits_since_ = shared_->clock.now();
    then_ = std::move(answer.then);
    stream_.expires_after(shared_->options.idle_timeout);
    http::async_write(
        stream_, *response_,
        [self = shared_from_this(), keep_alive](const error_code& error, std::size_t /*bytes*/) {
            if (self->shared_->closed) {
                return;
            }
            self->response_.reset();
            if (const auto then = std::exchange(self->then_, nullptr)) {
                then();
            }
            if (!error && keep_alive) {
                self->read();
            }
        });
}

void AdminServer::Connection::stream_events(const AdminAnswer& answer) {
    ++shared_->streams;
    reader_ = shared_->events.subscribe(*answer.stream, shared_->options.event_bytes,
                                        [weak = weak_from_this()] {
                                            const auto self = weak.lock();
                                            if (self && !self->writing_ && !self->due_) {
                                                self->due_ = true;
                                                asio::post(self->shared_->io, [self] {
                                                    self->due_ = false;
                                                    self->write_events();
                                                });
                                            }
                                        });
    head_.emplace();
    head_->version(11);
    head_->result(http::status::ok);
    head_->set(http::field::content_type, answer.content_type);
    head_->set(http::field::cache_control, "no-store");
    head_->chunked(true);
    serializer_.emplace(*head_);
    writing_ = true;
    stream_.expires_never();
    http::async_write_header(
        stream_, *serializer_,
        [self = shared_from_this()](const error_code& error, std::size_t /*bytes*/) {
            self->writing_ = false;
            if (!error && !self->shared_->closed) {
                self->write_events();
            }
        });
    watch_for_end();
}

void AdminServer::Connection::write_events() {
    if (writing_ || shared_->closed || !stream_.socket().is_open() || !reader_->take(lines_)) {
        return;
    }
    writing_ = true;
    asio::async_write(stream_, http::make_chunk(asio::buffer(lines_)),
                      [self = shared_from_this()](const error_code& error, std::size_t /*bytes*/) {
                          self->writing_ = false;
                          if (!error) {
                              self->write_events();
                          }
                      });
}

void AdminServer::Connection::watch_for_end() {
    stream_.async_read_some(
        asio::buffer(unread_),
        [self = shared_from_this()](const error_code& /*error*/, std::size_t /*bytes*/) {
            // The client disconnected, or sent more data, which is not allowed.
            self->close();
        });
}

AdminServer::AdminServer(asio::io_context& io, AdminApi& api, EventStream& events,
                         const Clock& clock, Options options)
    : shared_(std::make_shared<Shared>(io, api, events, clock, std::move(options))) {}

// Asio declares that cancel() may throw; on a timer it never does.
// NOLINTNEXTLINE(bugprone-exception-escape)
AdminServer::~AdminServer() {
    shared_->closed = true;
    for (const auto& door : doors_) {
        door->close();
    }
    for (const auto& weak : std::exchange(shared_->connections, {})) {
        if (const auto connection = weak.lock()) {
            connection->close();
        }
    }
    // Break the reference cycle between the shared state and these connections.
    shared_->composing.clear();
    shared_->compose_pause.cancel();
}

Result<void> AdminServer::listen(UnixListener listener) {
    Fd fd(::fcntl(listener.fd(), F_DUPFD_CLOEXEC, 0));
    if (!fd) {
        return Error::from_errno("cannot listen for admin connections", errno);
    }
    doors_.push_back(std::make_shared<Door>(shared_, std::move(listener), std::move(fd), false));
    doors_.back()->wait();
    return {};
}

Result<std::uint16_t> AdminServer::listen_metrics(const LoopbackAddress& address) {
    const std::string what =
        "cannot listen for metrics at " + address.host + " port " + std::to_string(address.port);
    error_code error;
    const auto host = asio::ip::make_address(address.host, error);
    if (error || !host.is_loopback()) {
        return Error{what + ": the address is not a loopback address of this machine"};
    }
    const asio::ip::tcp::endpoint endpoint(host, address.port);
    Fd fd(::socket(endpoint.protocol().family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int on = 1;
    if (!fd || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        ::bind(fd.get(), endpoint.data(), static_cast<socklen_t>(endpoint.size())) != 0 ||
        ::listen(fd.get(), kMetricsBacklog) != 0) {
        return Error::from_errno(what, errno);
    }
    asio::ip::tcp::endpoint got;
    auto size = static_cast<socklen_t>(got.capacity());
    if (::getsockname(fd.get(), got.data(), &size) != 0) {
        return Error::from_errno(what, errno);
    }
    got.resize(size);
    doors_.push_back(std::make_shared<Door>(shared_, std::nullopt, std::move(fd), true));
    doors_.back()->wait();
    return got.port();
}

std::size_t AdminServer::connections() const {
    return static_cast<std::size_t>(
        std::count_if(shared_->connections.begin(), shared_->connections.end(),
                      [](const auto& weak) { return !weak.expired(); }));
}

}  // namespace vgpu
