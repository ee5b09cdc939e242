// SPDX-License-Identifier: MIT
#include "mediator/session.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
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

// Answers kept back behind an earlier request with the same id.
constexpr std::size_t kMostKept = 1024;

}  // namespace

Session::Session(asio::io_context& io, Fd fd, SessionId id, const Settings& settings,
                 SessionHandler& handler)
    : descriptor_(io, fd.release()),
      message_timer_(io),
      id_(id),
      settings_(settings),
      handler_(handler) {}

void Session::start() {
    descriptor_.non_blocking(true);
    read();
}

bool Session::peer_gone() {
    pollfd entry{.fd = descriptor_.native_handle(), .events = POLLRDHUP, .revents = 0};
    return ::poll(&entry, 1, 0) > 0 && (entry.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void Session::read() {
    if (!open_) {
        return;
    }
    const std::span<std::byte> room = reader_.prepare();
    descriptor_.async_read_some(
        asio::buffer(room.data(), room.size()),
        [self = shared_from_this()](const boost::system::error_code& error, std::size_t count) {
            if (self->open_) {
                self->on_read(error, count);
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

void Session::on_read(const boost::system::error_code& error, std::size_t count) {
    if (error == asio::error::eof) {
        close(CloseReason::kPeerClosed,
              reader_.partial() ? "the peer closed within a message" : "the peer closed");
        return;
    }
    if (error) {
        close(CloseReason::kTransportError, error.message());
        return;
    }
    reader_.commit(count);
    while (open_) {
        const auto step = reader_.next();
        if (const auto* const message = std::get_if<MessageView>(&step)) {
            handle_message(*message);
        } else if (const auto* const violation = std::get_if<Violation>(&step)) {
            close(CloseReason::kProtocolViolation, describe(*violation));
        } else {
            break;
        }
    }
    if (open_) {
        watch_partial_message();
        handler_.on_idle(*this);
    }
}

void Session::handle_message(const MessageView& message) {
    const vgpu_msg_header& header = message.header;
    if (!vm_id_) {
        vm_id_ = header.vm_id;
        if (!handler_.on_identified(*this)) {
            return;
        }
    } else if (*vm_id_ != header.vm_id) {
        close(CloseReason::kVmIdChanged,
              "the VM id changed within the connection, to " + std::to_string(header.vm_id));
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
            break;
        }
        case VGPU_MSG_PONG:
            break;
        default:
            close(CloseReason::kProtocolViolation, "message type " +
                                                       std::to_string(header.msg_type) +
                                                       " goes from mediator to device only");
            break;
    }
}

void Session::watch_partial_message() {
    if (!reader_.partial()) {
        if (timer_armed_) {
            timer_armed_ = false;
            message_timer_.cancel();
        }
        return;
    }
    if (timer_armed_) {
        return;
    }
    timer_armed_ = true;
    message_timer_.expires_after(settings_.message_timeout);
    message_timer_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
        // A handler that was under way when its timer was set anew comes too early: not for it.
        const bool due = self->message_timer_.expiry() <= std::chrono::steady_clock::now();
        if (!error && self->open_ && self->timer_armed_ && due) {
            const auto limit = self->settings_.message_timeout.count();
            self->close(CloseReason::kMessageTimeout, "a message was begun and not completed in " +
                                                          std::to_string(limit) + " ms");
        }
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
                  "too many requests bear an id that is still in use");
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
    if (is_limit(outcome.status)) {
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
        close(CloseReason::kNotReading, "the peer does not read its answers");
        return;
    }
    wait_writable();
}

// False if the session was closed.
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

void Session::close(CloseReason reason, std::string_view detail) {
    if (!open_) {
        return;
    }
    open_ = false;
    message_timer_.cancel();
    boost::system::error_code ignored;
    descriptor_.close(ignored);
    output_.clear();
    output_.shrink_to_fit();
    unanswered_.clear();
    by_id_.clear();
    free_ticket_ = kNoTicket;
    handler_.on_closed(*this, reason, detail);
}

}  // namespace vgpu
