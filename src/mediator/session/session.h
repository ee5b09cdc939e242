// SPDX-License-Identifier: MIT
//
// Session: one connection of a device. It frames input, enforces the rules of the connection (one
// VM id, whole messages in time, responses read), and buffers output. It does not interpret
// requests.
//
// It waits for its socket with the event loop, reads once when there is input, handles a few
// messages, and leaves the rest of the read for its next turn, so that a peer that sends
// continuously cannot starve others. Responses are sent directly. The worst consequence of anything
// that a peer sends is that its connection is closed.
//
// A connection may begin with a hello, which carries descriptors. A few later ones are closed
// unused; more are a protocol violation. Descriptors from a peer are never closed on the control
// loop (ForeignFd).
//
//   first message ── another ────────────────────────────────────────────▶ settled
//        │                                                                    ▲
//        └── HELLO ──▶ collecting ── complete ──▶ answering ── answer_hello() ┘
//
// Responses with different request ids are sent as they arrive. Responses with the same id are sent
// in the order of their requests, even if a later request is rejected while an earlier one waits: a
// device that has given up on a request and reuses its id can then tell the two responses apart.
//
// Control loop only. Held by shared_ptr: a request in flight keeps the object alive, not the
// connection.
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
#include "executor/job.h"
#include "ipc/descriptors.h"
#include "ipc/message.h"
#include "ipc/unix_listener.h"
#include "mediator/config/settings.h"
#include "mediator/events/events.h"
#include "mediator/session/hello.h"
#include "sched/scheduler.h"

namespace vgpu {

class Session;

// Receives the events of a session. The handler may close the session in any of these calls.
class SessionHandler {
  public:
    SessionHandler() = default;
    SessionHandler(const SessionHandler&) = delete;
    SessionHandler& operator=(const SessionHandler&) = delete;
    virtual ~SessionHandler() = default;

    // The first message contained the VM id.
    virtual void on_identified(Session& session) = 0;
    // A REQUEST. `payload` is valid during the call.
    virtual void on_request(Session& session, const vgpu_msg_header& header,
                            std::span<const std::byte> payload) = 0;
    // A PING or PONG, already handled by the session. Reported so that it can be throttled.
    virtual void on_ping(Session& session) = 0;
    // A hello of valid form. The handler calls answer_hello() once, now or later.
    virtual void on_hello(Session& session, OfferedMemory offered) = 0;
    // The device was reset. The handler calls answer_reset() once per reset, now or later.
    // Precondition: the hello was accepted.
    virtual void on_shm_reset(Session& session) = 0;
    // The turn of this session has ended: call read() when nothing is more urgent.
    virtual void on_idle(Session& session) = 0;
    // There is output to flush(). Reported once until it has been flushed.
    virtual void on_output(Session& session) = 0;
    // The session is closed. Called once.
    virtual void on_closed(Session& session, CloseReason reason, std::string_view detail) = 0;
};

class Session : public std::enable_shared_from_this<Session> {
  public:
    // `descriptor` is a connected non-blocking socket whose other end is `peer`. Borrows the rest,
    // which must remain valid while the session is open.
    Session(boost::asio::io_context& io, boost::asio::posix::stream_descriptor descriptor,
            SessionId id, const PeerCredentials& peer, const Settings& settings,
            SessionHandler& handler, Disposer::Source disposer);

    // Makes the socket non-blocking. To be called before the first read().
    void start();
    // Schedules the next turn with the event loop: for messages left from the last read, or when
    // input arrives. To be called once at first and after each on_idle(), on an object held by a
    // shared_ptr. No effect if closed.
    void read();

    [[nodiscard]] SessionId id() const { return id_; }
    [[nodiscard]] const PeerCredentials& peer() const { return peer_; }
    [[nodiscard]] bool open() const { return open_; }
    // Descriptors of this peer, or of its process, that are not closed yet.
    [[nodiscard]] std::size_t unclosed() const { return disposer_.waiting(); }
    [[nodiscard]] std::optional<std::uint32_t> vm_id() const { return vm_id_; }
    // Returns true if the peer has disconnected, even if that has not been read yet.
    [[nodiscard]] bool peer_gone();
    [[nodiscard]] bool has_output() const { return !output_.empty(); }
    // Returns true if there is unhandled input.
    [[nodiscard]] bool has_input();

    // The scheduler's flow of this session; set and used by the handler.
    std::optional<Scheduler::FlowIndex> flow;
    // The peer's process; set and used by the handler. None: processes are not distinguished.
    std::shared_ptr<HoldBack> process;
    // The peer is the file gateway, which acts for VMs; set and used by the handler.
    bool by_files = false;

    // Every request is registered once and then answered once, by the returned ticket. A ticket is
    // reused after its request has been answered. Both calls cost O(1).
    using Ticket = std::uint64_t;
    Ticket begin_request(const vgpu_msg_header& header);
    // Buffers the RESPONSE, or holds it until earlier requests with this id have been answered. No
    // effect if closed.
    void answer(Ticket ticket, Outcome outcome);
    // Buffers a HELLO_REPLY: accepted with this generation, or rejected.
    void answer_hello(vgpu_hello_status status, std::uint64_t generation);
    // Buffers a SHM_RESET_DONE.
    void answer_reset(std::uint64_t generation);
    // Sends buffered output as far as the kernel accepts it; the rest follows when it can.
    void flush();
    // Closes the connection now. No effect if closed.
    void close(CloseReason reason, std::string_view detail);
    // Delays each further turn by a pause.
    void pace() { paced_ = true; }
    // As close(), but from a later handler of the loop, for callers that still use the session.
    void close_soon(CloseReason reason, std::string detail);

  private:
    static constexpr Ticket kNoTicket = UINT64_MAX;
    using Steady = std::chrono::steady_clock;
    enum class Stage : std::uint8_t { kFirst, kCollecting, kAnswering, kSettled };
    struct Unanswered {
        vgpu_msg_header header{};
        std::unique_ptr<Outcome> kept;  // a response held for its turn
        Ticket next = kNoTicket;        // the next request with the same id; in a free entry: the
                                        // next free one
    };
    // The unanswered requests with one id.
    struct SameId {
        Ticket first = kNoTicket;
        Ticket last = kNoTicket;
    };

    // Frees a ticket. Returns the next request with the same id.
    Ticket free_ticket(Ticket ticket);
    void send_answer(const vgpu_msg_header& header, const Outcome& outcome);
    void receive();
    // Takes the descriptors of a read. Returns false if the session was closed for them.
    bool take_descriptors(Received received);
    // Handles a bounded number of messages that have been read.
    void handle_messages();
    // Continues with buffered messages, or waits for input.
    void continue_turn();
    void wait_readable();
    void wait_writable();
    void handle_message(const MessageView& message);
    // Handles messages about the hello. Returns true if the message has been handled.
    bool handle_hello(const MessageView& message);
    void send_about_memory(std::uint32_t type, vgpu_hello_status status, std::uint64_t generation);
    // Limits the time from the first byte of a message to its last. `completed`: a message was
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
    Disposer::Source disposer_;  // of what the peer passes
    MessageReader reader_;
    bool paced_ = false;
    bool unhandled_ = false;              // messages have been read and not handled
    unsigned reads_ = 0;                  // since the last whole message
    bool had_partial_ = false;            // a read has ended within a message
    bool long_read_ = false;              // the last such read was slow
    unsigned slow_reads_left_ = 0;        // short, delayed reads left for a fragmenting peer
    std::size_t unused_descriptors_ = 0;  // received after the hello
    std::vector<Unanswered> unanswered_;  // by ticket, including free entries
    Ticket free_ticket_ = kNoTicket;
    std::unordered_map<std::uint32_t, SameId> by_id_;
    std::size_t kept_ = 0;  // responses held for their turn
    std::vector<std::byte> output_;
    std::size_t output_sent_ = 0;  // bytes at the front of output_ already sent
    std::optional<std::uint32_t> vm_id_;
    Stage stage_ = Stage::kFirst;
    std::unique_ptr<HelloReader> hello_;  // until settled
    vgpu_msg_header hello_header_{};
    bool has_memory_ = false;  // the hello was accepted
    bool open_ = true;
    bool output_noted_ = false;
    bool waiting_writable_ = false;
    std::optional<Steady::time_point> begun_at_;  // start of the incomplete message or hello
    bool timer_armed_ = false;                    // message_timer_ is pending
};

}  // namespace vgpu
