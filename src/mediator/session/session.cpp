// SPDX-License-Identifier: MIT
#include "mediator/session/session.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <cassert>
#include <cerrno>
#include <chrono>
#include <string>
#include <system_error>
#include <utility>

#include "ipc/request.h"

namespace vgpu {

namespace asio = boost::asio;

namespace {

// Responses held behind an earlier request with the same id.
constexpr std::size_t kMostKept = 1024;
// Messages handled per turn. A rejected request costs up to about 3 us.
constexpr std::size_t kMessagesPerTurn = 8;
// A stream written byte by byte costs one turn per few bytes or, if they have accumulated, a read
// of about 2 us per byte. So the first read is limited to the size of a HELLO. If a message takes
// many reads, or a read that ends within one takes long, the next kSlowReads reads are short and
// each follows a pause, which differs between sessions.
constexpr std::size_t kFirstRead = sizeof(vgpu_msg_header) + sizeof(vgpu_msg_hello);
constexpr std::chrono::microseconds kLongRead{40};
constexpr std::chrono::nanoseconds kLongByte{250};
constexpr unsigned kReadsOfMessage = 4;
constexpr unsigned kSlowReads = 64;
constexpr std::size_t kShortRead = 16;
constexpr std::chrono::milliseconds kLeastPause{25};
constexpr std::chrono::milliseconds kPauses{50};  // added, up to this
constexpr std::uint64_t kSpread = 7919;           // a prime
// Descriptors tolerated after the hello.
constexpr std::size_t kMostUnused = 16;

}  // namespace

Session::Session(asio::io_context& io, asio::posix::stream_descriptor descriptor, SessionId id,
                 const PeerCredentials& peer, const Settings& settings, SessionHandler& handler,
                 Disposer::Source disposer)
    : descriptor_(std::move(descriptor)),
      message_timer_(io),
      slow_timer_(io),
      id_(id),
      peer_(peer),
      settings_(settings),
      handler_(handler),
      disposer_(std::move(disposer)) {}

void Session::start() {
    descriptor_.non_blocking(true);
}

bool Session::peer_gone() {
    pollfd entry{.fd = descriptor_.native_handle(), .events = POLLRDHUP, .revents = 0};
    return ::poll(&entry, 1, 0) > 0 && (entry.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

bool Session::has_input() {
    int unread = 0;
    return unhandled_ ||
           (::ioctl(descriptor_.native_handle(), FIONREAD, &unread) == 0 && unread > 0);
}

void Session::read() {
    if (!open_) {
        return;
    }
    if (paced_ || (slow_reads_left_ > 0 && !unhandled_)) {
        slow_timer_.expires_after(
            kLeastPause +
            std::chrono::milliseconds(id_ * kSpread % static_cast<std::uint64_t>(kPauses.count())));
        slow_timer_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
            if (!error) {
                self->continue_turn();
            }
        });
        return;
    }
    continue_turn();
}

void Session::continue_turn() {
    if (!unhandled_) {
        wait_readable();
        return;
    }
    asio::post(descriptor_.get_executor(), [self = shared_from_this()] {
        if (self->open_) {
            self->handle_messages();
        }
    });
}

void Session::wait_readable() {
    if (!open_) {
        return;
    }
    descriptor_.async_wait(asio::posix::descriptor_base::wait_read,
                           [self = shared_from_this()](const boost::system::error_code& error) {
                               if (!error && self->open_) {
                                   self->receive();
                               }
                           });
}

void Session::wait_writable() {
    if (waiting_writable_) {
        return;
    }
    waiting_writable_ = true;
    descriptor_.async_wait(asio::posix::descriptor_base::wait_write,
                           [self = shared_from_this()](const boost::system::error_code& error) {
                               self->waiting_writable_ = false;
                               if (!error && self->open_) {
                                   self->flush();
                               }
                           });
}

void Session::receive() {
    std::span<std::byte> room = reader_.prepare();
    if (slow_reads_left_ > 0) {
        --slow_reads_left_;
        room = room.first(std::min(room.size(), kShortRead));
    } else if (!vm_id_) {
        room = room.first(std::min(room.size(), kFirstRead));
    }
    // Read the clock only for a peer whose reads have ended within a message.
    const auto began = had_partial_ ? Steady::now() : Steady::time_point::max();
    Received received = receive_with_descriptors(descriptor_.native_handle(), room, disposer_);
    // A full buffer takes long, too: what counts is the time per byte.
    long_read_ = had_partial_ &&
                 Steady::now() - began >=
                     std::max<std::chrono::nanoseconds>(kLongRead, received.count * kLongByte);
    ++reads_;
    if (received.count < 0) {
        if (errno == EAGAIN) {
            wait_readable();
        } else {
            close(CloseReason::kTransportError, std::generic_category().message(errno));
        }
        return;
    }
    if (received.count == 0) {
        close(CloseReason::kPeerClosed, reader_.partial()
                                            ? "the peer closed the connection within a message"
                                            : "the peer closed the connection");
        return;
    }
    const auto count = static_cast<std::size_t>(received.count);
    if (!take_descriptors(std::move(received))) {
        return;
    }
    reader_.commit(count);
    handle_messages();
}

bool Session::take_descriptors(Received received) {
    bool taken = !received.too_many;
    if (stage_ == Stage::kSettled) {
        unused_descriptors_ += received.descriptors.size();
        taken = taken && unused_descriptors_ <= kMostUnused;
    } else {
        if (!hello_) {
            hello_ = std::make_unique<HelloReader>();
        }
        if (received.lost) {
            hello_->lose_descriptors();
        }
        taken = taken && hello_->add_descriptors(std::move(received.descriptors));
    }
    if (!taken) {
        close(CloseReason::kProtocolViolation, "more descriptors than a message can carry");
    }
    return taken;
}

void Session::handle_messages() {
    unhandled_ = false;
    std::size_t handled = 0;
    for (; open_; ++handled) {
        if (handled == kMessagesPerTurn) {
            unhandled_ = true;
            break;
        }
        const auto step = reader_.next();
        if (const auto* const message = std::get_if<MessageView>(&step)) {
            reads_ = 0;
            handle_message(*message);
        } else if (const auto* const violation = std::get_if<Violation>(&step)) {
            close(CloseReason::kProtocolViolation, describe(*violation));
        } else {
            break;
        }
    }
    if (!open_) {
        return;
    }
    if (stage_ == Stage::kSettled) {
        hello_.reset();
    }
    // A busy host can make any read slow; reads of whole messages never count.
    had_partial_ = had_partial_ || (!unhandled_ && reader_.partial());
    if ((long_read_ || reads_ > kReadsOfMessage) && !unhandled_ && reader_.partial()) {
        slow_reads_left_ = kSlowReads;
    }
    watch_partial_message(handled > 0);
    handler_.on_idle(*this);
}

void Session::handle_message(const MessageView& message) {
    const vgpu_msg_header& header = message.header;
    if (!vm_id_) {
        vm_id_ = header.vm_id;
        handler_.on_identified(*this);
    } else if (*vm_id_ != header.vm_id) {
        close(CloseReason::kVmIdChanged,
              "the VM id changed within the connection, to " + std::to_string(header.vm_id));
        return;
    }
    if (handle_hello(message)) {
        return;
    }
    switch (header.msg_type) {
        case VGPU_MSG_REQUEST:
            handler_.on_request(*this, header, message.payload);
            break;
        case VGPU_MSG_PING: {
            vgpu_msg_header pong = header;
            pong.msg_type = VGPU_MSG_PONG;
            append_message(output_, pong, {});
            note_output();
            handler_.on_ping(*this);
            break;
        }
        case VGPU_MSG_PONG:
            handler_.on_ping(*this);
            break;
        default:
            close(CloseReason::kProtocolViolation, "message type " +
                                                       std::to_string(header.msg_type) +
                                                       " is only sent by the mediator");
            break;
    }
}

bool Session::handle_hello(const MessageView& message) {
    const std::uint32_t type = message.header.msg_type;
    const auto broken = [this](std::string_view what) {
        close(CloseReason::kProtocolViolation, what);
        return true;
    };
    if (stage_ == Stage::kSettled) {
        if (type == VGPU_MSG_HELLO || type == VGPU_MSG_HELLO_QUEUE) {
            return broken("a HELLO after other messages");
        }
        if (type != VGPU_MSG_SHM_RESET || !has_memory_) {
            return false;
        }
        if (!message.payload.empty()) {
            return broken("a SHM_RESET with a payload");
        }
        handler_.on_shm_reset(*this);
        return true;
    }
    if (stage_ == Stage::kFirst && type != VGPU_MSG_HELLO) {
        stage_ = Stage::kSettled;
        return hello_ && hello_->has_descriptors()
                   ? broken("descriptors with a message that must not carry any")
                   : handle_hello(message);
    }
    if (stage_ != Stage::kFirst && type == VGPU_MSG_PING) {
        return false;
    }
    if (stage_ == Stage::kAnswering || (type != VGPU_MSG_HELLO && type != VGPU_MSG_HELLO_QUEUE)) {
        return broken("a message other than PING before the end of the handshake");
    }
    if (stage_ == Stage::kFirst) {
        stage_ = Stage::kCollecting;
        hello_header_ = message.header;
    }
    switch (hello_->take(message.header, message.payload)) {
        case HelloReader::Step::kMore:
            return true;
        case HelloReader::Step::kBroken:
            return broken(hello_->broken());
        case HelloReader::Step::kComplete:
            break;
    }
    if (hello_->has_descriptors()) {
        return broken("more descriptors than a message can carry");
    }
    stage_ = Stage::kAnswering;
    handler_.on_hello(*this, hello_->finish());
    return true;
}

void Session::answer_hello(vgpu_hello_status status, std::uint64_t generation) {
    if (!open_ || stage_ != Stage::kAnswering) {
        return;
    }
    stage_ = Stage::kSettled;
    has_memory_ = status == VGPU_HELLO_TAKEN;
    send_about_memory(VGPU_MSG_HELLO_REPLY, status, generation);
}

void Session::answer_reset(std::uint64_t generation) {
    if (open_) {
        send_about_memory(VGPU_MSG_SHM_RESET_DONE, VGPU_HELLO_TAKEN, generation);
    }
}

void Session::send_about_memory(std::uint32_t type, vgpu_hello_status status,
                                std::uint64_t generation) {
    vgpu_msg_hello_reply reply{};
    reply.status = status;
    if (status == VGPU_HELLO_TAKEN) {
        reply.layout_version = VGPU_SHM_LAYOUT_VERSION;
        reply.features = VGPU_FEATURE_SHM | VGPU_FEATURE_QUEUES;
        reply.generation = generation;
    }
    vgpu_msg_header header = hello_header_;
    header.msg_type = type;
    const auto bytes = std::as_bytes(std::span(&reply, 1));
    append_message(output_, header, std::array{bytes});
    note_output();
}

void Session::watch_partial_message(bool completed) {
    const bool hello = stage_ == Stage::kCollecting;
    if ((unhandled_ || !reader_.partial()) && !hello) {
        begun_at_.reset();
        return;
    }
    // All messages of a hello share one limit; each other message has its own.
    if (!begun_at_ || (completed && !hello)) {
        begun_at_ = Steady::now();
    }
    if (!timer_armed_) {
        timer_armed_ = true;
        wait_for_message(*begun_at_ + settings_.message_timeout);
    }
}

// A complete message does not cancel the timer: on expiry it finds another message, or none.
void Session::wait_for_message(Steady::time_point until) {
    message_timer_.expires_at(until);
    message_timer_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
        if (error || !self->open_) {
            return;
        }
        if (!self->begun_at_) {
            self->timer_armed_ = false;
            return;
        }
        const auto limit = self->settings_.message_timeout;
        if (const auto due = *self->begun_at_ + limit; due > Steady::now()) {
            self->wait_for_message(due);
            return;
        }
        self->close(CloseReason::kMessageTimeout,
                    "a message was not completed within " + std::to_string(limit.count()) + " ms");
    });
}

Session::Ticket Session::begin_request(const vgpu_msg_header& header) {
    Ticket ticket = free_ticket_;
    if (ticket == kNoTicket) {
        ticket = unanswered_.size();
        unanswered_.emplace_back();
    } else {
        free_ticket_ = unanswered_[ticket].next;
    }
    unanswered_[ticket] = {.header = header, .kept = nullptr};
    SameId& same = by_id_[header.request_id];
    (same.last == kNoTicket ? same.first : unanswered_[same.last].next) = ticket;
    same.last = ticket;
    return ticket;
}

void Session::answer(Ticket ticket, Outcome outcome) {
    if (!open_) {
        return;
    }
    assert(ticket < unanswered_.size());
    const auto same = by_id_.find(unanswered_[ticket].header.request_id);
    assert(same != by_id_.end());
    if (same->second.first != ticket) {
        unanswered_[ticket].kept = std::make_unique<Outcome>(std::move(outcome));
        if (++kept_ > kMostKept) {
            close(CloseReason::kProtocolViolation,
                  "too many requests with an id that is still in use");
        }
        return;
    }
    send_answer(unanswered_[ticket].header, outcome);
    Ticket next = free_ticket(ticket);
    while (next != kNoTicket && unanswered_[next].kept) {
        send_answer(unanswered_[next].header, *unanswered_[next].kept);
        --kept_;
        next = free_ticket(next);
    }
    if (next == kNoTicket) {
        by_id_.erase(same);
    } else {
        same->second.first = next;
    }
}

Session::Ticket Session::free_ticket(Ticket ticket) {
    const Ticket next = unanswered_[ticket].next;
    unanswered_[ticket] = {.header = {}, .kept = nullptr, .next = free_ticket_};
    free_ticket_ = ticket;
    return next;
}

void Session::send_answer(const vgpu_msg_header& header, const Outcome& outcome) {
    // A device that does not know BUSY and QUARANTINED would wait for a response for ever. One that
    // has sent a HELLO knows them.
    const bool sent_hello = hello_header_.msg_type == VGPU_MSG_HELLO;
    if (is_limit(outcome.status) && sent_hello) {
        vgpu_msg_header refusal = header;
        refusal.msg_type =
            outcome.status == VGPU_ERR_QUARANTINED ? VGPU_MSG_QUARANTINED : VGPU_MSG_BUSY;
        append_message(output_, refusal, {});
        note_output();
        return;
    }
    append_response(output_, header, outcome.status, outcome.result_words(), outcome.data,
                    outcome.exec_time_us);
    note_output();
}

void Session::note_output() {
    if (!output_noted_) {
        output_noted_ = true;
        handler_.on_output(*this);
    }
}

void Session::flush() {
    output_noted_ = false;
    if (!open_ || output_.empty() || !send_some()) {
        return;
    }
    if (output_sent_ == output_.size()) {
        output_.clear();
        output_sent_ = 0;
        return;
    }
    output_.erase(output_.begin(), output_.begin() + static_cast<std::ptrdiff_t>(output_sent_));
    output_sent_ = 0;
    if (output_.size() > settings_.max_unsent_bytes) {
        close(CloseReason::kNotReading, "the peer does not read its responses");
        return;
    }
    wait_writable();
}

// Returns false if the session was closed.
bool Session::send_some() {
    while (output_sent_ < output_.size()) {
        const ssize_t count = ::send(descriptor_.native_handle(), output_.data() + output_sent_,
                                     output_.size() - output_sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count >= 0) {
            output_sent_ += static_cast<std::size_t>(count);
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            close(CloseReason::kTransportError, std::generic_category().message(errno));
            return false;
        }
    }
    return true;
}

void Session::close_soon(CloseReason reason, std::string detail) {
    asio::post(descriptor_.get_executor(),
               [self = shared_from_this(), reason, detail = std::move(detail)] {
                   self->close(reason, detail);
               });
}

void Session::close(CloseReason reason, std::string_view detail) {
    if (!open_) {
        return;
    }
    open_ = false;
    message_timer_.cancel();
    slow_timer_.cancel();
    static_cast<void>(close_connection(Fd(descriptor_.release()), disposer_));
    output_.clear();
    output_.shrink_to_fit();
    unanswered_.clear();
    by_id_.clear();
    free_ticket_ = kNoTicket;
    handler_.on_closed(*this, reason, detail);
    hello_.reset();
}

}  // namespace vgpu
