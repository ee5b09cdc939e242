// SPDX-License-Identifier: MIT
//
// Session: one connection of a device. It frames what comes in, holds the peer to the rules that
// concern the connection (one VM id, whole messages in time, answers read), and buffers what goes
// out. What a request means is not its business.
//
// It waits for its socket with the event loop, reads once when there is something, handles a few
// messages, and leaves the rest of what it has read for its next turn: a peer that sends without
// pause keeps no other waiting. Answers are sent directly. Whatever the peer sends, the worst it
// can get is this connection closed.
//
// A connection may begin with a hello, which brings descriptors. A few that come later are closed
// unused; more of them are a violation of the protocol. Nothing that a peer has passed is closed on
// the control loop (ForeignFd).
//
//   first message ── another ────────────────────────────────────────────▶ settled
//        │                                                                    ▲
//        └── HELLO ──▶ collecting ── complete ──▶ answering ── answer_hello() ┘
//
// Answers with different request ids go out as they come. Answers with the same id go out in the
// order of their requests, also where a later request is refused while an earlier one waits: a
// device that has given up on a request and uses its id again tells the two answers apart by that.
//
// Control loop only. Held by shared_ptr: a request in flight keeps the object, not the connection.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/system/error_code.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/fd.h"
#include "executor/operation.h"
#include "ipc/descriptors.h"
#include "ipc/message.h"
#include "ipc/unix_listener.h"
#include "mediator/config/settings.h"
#include "mediator/events/events.h"
#include "mediator/session/hello.h"
#include "sched/scheduler.h"

namespace vgpu {

class Session;

// What a session reports to. The handler may close the session from within any of these.
class SessionHandler {
  public:
    SessionHandler() = default;
    SessionHandler(const SessionHandler&) = delete;
    SessionHandler& operator=(const SessionHandler&) = delete;
    virtual ~SessionHandler() = default;

    // The first message told the VM id.
    virtual void on_identified(Session& session) = 0;
    // A REQUEST. `payload` is valid during the call.
    virtual void on_request(Session& session, const vgpu_msg_header& header,
                            std::span<const std::byte> payload) = 0;
    // A hello that is right in form. The handler calls answer_hello(), now or later, once.
    virtual void on_hello(Session& session, OfferedMemory offered) = 0;
    // The device was reset. The handler calls answer_reset(), now or later, once for each.
    // Precondition: the hello was taken.
    virtual void on_shm_reset(Session& session) = 0;
    // The turn of this session has ended: read() when there is nothing more urgent to do.
    virtual void on_idle(Session& session) = 0;
    // There is something to flush(). Said once until it has been flushed.
    virtual void on_output(Session& session) = 0;
    // The session is closed. Called once.
    virtual void on_closed(Session& session, CloseReason reason, std::string_view detail) = 0;
};

class Session : public std::enable_shared_from_this<Session> {
  public:
    // `descriptor` is a connected non-blocking socket, whose other end is `peer`. Borrows the rest:
    // all outlive the session's open time.
    Session(boost::asio::io_context& io, boost::asio::posix::stream_descriptor descriptor,
            SessionId id, const PeerCredentials& peer, const Settings& settings,
            SessionHandler& handler, Disposer& disposer);

    // Makes the socket non-blocking. The first read() comes after it.
    void start();
    // Has another turn with the event loop, once there is something to handle: what is left of the
    // last read, or what comes. Once at first and after each on_idle(), of an object that a
    // shared_ptr holds. Nothing if closed.
    void read();

    [[nodiscard]] SessionId id() const { return id_; }
    [[nodiscard]] const PeerCredentials& peer() const { return peer_; }
    [[nodiscard]] bool open() const { return open_; }
    [[nodiscard]] std::optional<std::uint32_t> vm_id() const { return vm_id_; }
    // Whether the peer has hung up, even if that has not been read yet.
    [[nodiscard]] bool peer_gone();
    [[nodiscard]] bool has_output() const { return !output_.empty(); }
    // Whether something has come that has not been handled.
    [[nodiscard]] bool has_input();

    // The scheduler's flow of this session; the handler's to set and use.
    std::optional<Scheduler::FlowIndex> flow;
    // Of the process at the other end; the handler's to set and use. None: it is not told apart.
    std::shared_ptr<HoldBack> process;

    // Every request that came is begun once and then answered once, by the ticket this returns. A
    // ticket is used again once its request has been answered. Both cost O(1).
    using Ticket = std::uint64_t;
    Ticket begin_request(const vgpu_msg_header& header);
    // Buffers the RESPONSE, or keeps it until earlier requests with this id have theirs. Nothing if
    // closed.
    void answer(Ticket ticket, Outcome outcome);
    // HELLO_REPLY: taken with this generation, or refused.
    void answer_hello(vgpu_hello_status status, std::uint64_t generation);
    // SHM_RESET_DONE.
    void answer_reset(std::uint64_t generation);
    // Sends what is buffered, as far as the kernel takes it now; the rest follows by itself.
    void flush();
    // Closes the connection now. Nothing if it is closed.
    void close(CloseReason reason, std::string_view detail);
    // From now on each turn comes after a pause.
    void pace() { paced_ = true; }
    // The same in a later step of the loop, for a caller in the middle of something.
    void close_soon(CloseReason reason, std::string detail);

  private:
    static constexpr Ticket kNoTicket = UINT64_MAX;
    using Steady = std::chrono::steady_clock;
    enum class Stage : std::uint8_t { kFirst, kCollecting, kAnswering, kSettled };
    struct Unanswered {
        vgpu_msg_header header{};
        std::unique_ptr<Outcome> kept;  // an answer that waits for its turn
        Ticket next = kNoTicket;        // the next request with the same id; of a free place: the
                                        // next free one
    };
    // The unanswered requests with one id.
    struct SameId {
        Ticket first = kNoTicket;
        Ticket last = kNoTicket;
    };

    // Gives the next request with the same id.
    Ticket free_ticket(Ticket ticket);
    void send_answer(const vgpu_msg_header& header, const Outcome& outcome);
    void receive();
    // Takes what came with a read. False if the session was closed for it.
    bool take_descriptors(Received received);
    // Handles messages that have been read, up to a bound.
    void handle_messages();
    // With what has been read, or comes.
    void go_on();
    void wait_readable();
    void wait_writable();
    void handle_message(const MessageView& message);
    // What belongs to the hello. True: the message has been dealt with.
    bool handle_hello(const MessageView& message);
    void send_about_memory(std::uint32_t type, vgpu_hello_status status, std::uint64_t generation);
    // Limits the time that a message may take from its first byte to its last. `completed`: one was
    // completed since the last call.
    void watch_partial_message(bool completed);
    void wait_for_message(Steady::time_point until);
    void note_output();
    bool send_some();

    boost::asio::posix::stream_descriptor descriptor_;
    boost::asio::steady_timer message_timer_;
    boost::asio::steady_timer slow_timer_;
    SessionId id_;
    PeerCredentials peer_;
    const Settings& settings_;
    SessionHandler& handler_;
    Disposer& disposer_;
    MessageReader reader_;
    bool paced_ = false;
    bool unhandled_ = false;              // messages have been read and not handled
    unsigned reads_ = 0;                  // since the last whole message
    bool had_partial_ = false;            // a read has ended within a message
    bool long_read_ = false;              // the last of them took long
    unsigned slow_reads_left_ = 0;        // the peer has sent its messages in too many pieces
    std::size_t unused_descriptors_ = 0;  // that came after the hello
    std::vector<Unanswered> unanswered_;  // by ticket, free places among them
    Ticket free_ticket_ = kNoTicket;
    std::unordered_map<std::uint32_t, SameId> by_id_;
    std::size_t kept_ = 0;  // answers that wait for their turn
    std::vector<std::byte> output_;
    std::size_t output_sent_ = 0;  // bytes at the front of output_ already sent
    std::optional<std::uint32_t> vm_id_;
    Stage stage_ = Stage::kFirst;
    std::unique_ptr<HelloReader> hello_;  // until settled
    vgpu_msg_header hello_header_{};
    bool has_memory_ = false;  // the hello was taken
    bool open_ = true;
    bool output_noted_ = false;
    bool waiting_writable_ = false;
    std::optional<Steady::time_point> begun_at_;  // the message, or hello, that is not complete
    bool timer_armed_ = false;                    // message_timer_ is waited for
};

}  // namespace vgpu
