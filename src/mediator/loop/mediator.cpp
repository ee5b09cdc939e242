// SPDX-License-Identifier: MIT
#include "mediator/loop/mediator.h"

#include <sys/prctl.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <system_error>
#include <utility>

#include "base/relax.h"
#include "ipc/request.h"

namespace vgpu {

namespace asio = boost::asio;

namespace {

// For asio, which takes ownership of its descriptors.
Fd dup_descriptor(int fd) {
    Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!copy) {
        throw std::system_error(errno, std::generic_category(), "dup");
    }
    return copy;
}

// Polls of completions between two polls of events, which cost a system call.
constexpr unsigned kPollsPerEventPoll = 64;
// Interval between event slices while queues are awake: one command may take less than that call.
constexpr std::chrono::microseconds kEventsEvery{20};
// Length of an event slice, if enough events are ready.
constexpr std::chrono::microseconds kEventSlice{20};
// The same where several peers send requests and no queue is awake.
constexpr std::chrono::microseconds kLongEventSlice{100};
constexpr std::chrono::seconds kAcceptRetry{1};
// Rate and burst of accepted connections. One of a process that connects too often is closed at
// once, which costs about 5 us. One that is served costs about 20 us and counts as several. So does
// one with unread bytes when it is closed, which in addition costs another core some 100 us.
constexpr double kAcceptsPerSecond = 10'000;
constexpr double kAcceptBurst = 1280;
constexpr double kAcceptsPerServed = 5;
constexpr double kAcceptsPerUnread = 10;
constexpr std::chrono::milliseconds kAcceptPause{1};
// A process is not read, and may not connect, while more of its descriptors wait to be closed:
// closing them blocks. Of all processes: none that has one of them may connect.
constexpr std::size_t kMostUnclosed = 256;
constexpr std::size_t kMostUnclosedOfAll = 4096;
constexpr std::chrono::milliseconds kUnclosedPause{10};
// Threads that close them, and how many of these one process can occupy.
constexpr Disposer::Limits kForeignLimits{.threads = 16, .threads_per_source = 2};
// Connections kept open at a time although their VM id is in use.
constexpr std::size_t kMostRefused = 64;
// VMs whose requests through files are counted.
constexpr std::size_t kMostFileUsers = 16384;
// Time limit for sending the last responses once nothing else is left to do.
constexpr std::chrono::milliseconds kLastAnswers{200};

}  // namespace

Mediator::Mediator(asio::io_context& io, Settings settings,
                   std::vector<std::unique_ptr<Backend>> backends, EventSink& events,
                   const Clock& clock)
    : foreign_(kForeignLimits),
      io_(io),
      settings_(std::move(settings)),
      events_(events),
      shortages_(events),
      doorbells_(io),
      processes_(foreign_),
      accepts_(kAcceptsPerSecond, kAcceptBurst, clock.now()),
      drain_timer_(io),
      clock_(clock),
      alarm_(io),
      dispatcher_(settings_, std::move(backends), events, clock) {
    doorbells_.assign(dup_descriptor(dispatcher_.doorbells().descriptor()).release());
    if (settings_.queues_enabled && !dispatcher_.interrupter().works()) {
        events_.on_event(
            Notice{.text = "shared memory is not served, because guests cannot be interrupted "
                           "without asynchronous I/O: raise fs.aio-max-nr, or allow io_setup(2)"});
    }
    device_wakes_.reserve(dispatcher_.devices().size());
    for (std::size_t device = 0; device < dispatcher_.devices().size(); ++device) {
        const int fd = dispatcher_.devices()[device].executor->wake_descriptor();
        device_wakes_.emplace_back(io, dup_descriptor(fd).release());
        wait_for_device(device);
    }
}

Mediator::~Mediator() {
    // Sessions refer to this object: none may stay open in a handler that io_ still holds.
    while (!sessions_.empty()) {
        const auto session = sessions_.begin()->second;
        session->close(CloseReason::kShutdown, "the mediator stops");
    }
}

void Mediator::add_listener(UnixListener listener) {
    const int fd = dup_descriptor(listener.fd()).release();
    listeners_.push_back(
        std::make_unique<Listener>(Listener{.socket = std::move(listener),
                                            .descriptor = asio::posix::stream_descriptor(io_, fd),
                                            .retry = asio::steady_timer(io_)}));
    wait_for_connection(*listeners_.back());
}

void Mediator::wait_for_connection(Listener& listener) {
    listener.descriptor.async_wait(asio::posix::descriptor_base::wait_read,
                                   [this, &listener](const boost::system::error_code& error) {
                                       if (!error) {
                                           accept_one(listener);
                                       }
                                   });
}

void Mediator::accept_one(Listener& listener) {
    if (!listener.socket) {
        return;
    }
    if (!accepts_.take(dispatcher_.now())) {
        accept_later(listener, kAcceptPause);
        return;
    }
    Fd fd = listener.socket->accept();
    if (fd) {
        adopt(std::move(fd), listener.socket->path());
    } else if (const auto shortage = accept_shortage(errno)) {
        shortages_.report("connections wait, and are tried for again each second: " + *shortage,
                          dispatcher_.now());
        accept_later(listener, kAcceptRetry);
        return;
    }
    // None was pending, more may be, or one disconnected before it was accepted.
    wait_for_connection(listener);
}

void Mediator::accept_later(Listener& listener, std::chrono::milliseconds pause) {
    listener.retry.expires_after(pause);
    listener.retry.async_wait([this, &listener](const boost::system::error_code& error) {
        if (!error) {
            accept_one(listener);
        }
    });
}

bool Mediator::connects_too_often(Processes::Process& process, pid_t pid) {
    const auto now = dispatcher_.now();
    const bool overdrawn = process.hold.connections_overdrawn(now);
    process.hold.count_connection(now);
    if (overdrawn) {
        shortages_.report(
            "process connects too often",
            "process " + std::to_string(pid) +
                " opens over 100 connections a second; further ones are closed at once",
            now);
    }
    return overdrawn;
}

void Mediator::adopt(Fd fd, const std::string& name) {
    const auto peer = peer_credentials(fd.get());
    const pid_t pid = peer ? peer->pid : 0;
    const bool by_files = pid > 0 && pid == file_gateway_;
    std::shared_ptr<Processes::Process> process;
    if (settings_.max_connections_per_process > 0 && pid > 0 && !by_files) {
        process = processes_.of(pid, settings_.max_connections_per_process, dispatcher_.now());
    }
    const Disposer::Source disposer = process ? process->disposer : foreign_.source();
    const auto charge = [&](double accepts) {
        accepts_.charge(dispatcher_.now(), kAcceptBurst, accepts - 1);
    };
    if (process && connects_too_often(*process, pid)) {
        if (close_connection(std::move(fd), disposer)) {
            charge(kAcceptsPerUnread);
        }
        return;
    }
    charge(kAcceptsPerServed);
    const SessionId id = next_session_++;
    events_.on_event(
        SessionOpened{.session = id, .socket = name, .pid = pid, .uid = peer ? peer->uid : 0});
    const auto turn_away = [&](CloseReason reason, std::string_view detail) {
        events_.on_event(SessionClosed{
            .session = id, .vm_id = std::nullopt, .reason = reason, .detail = detail});
        if (close_connection(std::move(fd), disposer)) {
            charge(kAcceptsPerUnread - kAcceptsPerServed + 1);
        }
    };
    // The gateway limits its own connections: they take no device's place.
    if (!by_files && sessions_.size() - file_sessions_ >= settings_.max_connections) {
        turn_away(CloseReason::kTooManyConnections, "there are as many connections as are allowed");
        return;
    }
    const std::string who = "process " + std::to_string(pid);
    if (process && process->connections >= settings_.max_connections_per_process) {
        turn_away(CloseReason::kTooManyConnections,
                  who + " has as many connections as one process may have");
        return;
    }
    const std::size_t most_unclosed = foreign_.waiting() > kMostUnclosedOfAll ? 0 : kMostUnclosed;
    if (process && disposer.waiting() > most_unclosed) {
        turn_away(CloseReason::kTooManyConnections,
                  who + " has passed more descriptors than could be closed so far");
        return;
    }
    asio::posix::stream_descriptor descriptor(io_);
    boost::system::error_code error;
    descriptor.assign(fd.get(), error);
    if (error) {
        shortages_.report("cannot wait for a connection, and closes it: " + error.message(),
                          dispatcher_.now());
        turn_away(CloseReason::kTransportError,
                  "the host lacks something to serve it; see the log");
        return;
    }
    static_cast<void>(fd.release());
    SessionHandler& handler = *this;
    const auto session =
        std::make_shared<Session>(io_, std::move(descriptor), id, peer ? *peer : PeerCredentials{},
                                  settings_, handler, disposer);
    session->by_files = by_files;
    file_sessions_ += by_files ? 1 : 0;
    if (process) {
        ++process->connections;
        session->process = {process, &process->hold};
    }
    sessions_.emplace(id, session);
    session->start();
    read_when_due(session);
}

bool Mediator::has_device(std::uint32_t vm_id) const {
    const auto found = sessions_by_vm_.find(vm_id);
    return found != sessions_by_vm_.end() &&
           std::any_of(found->second.begin(), found->second.end(),
                       [this](SessionId id) { return !sessions_.at(id)->by_files; });
}

void Mediator::charge_process(std::uint32_t vm_id) {
    std::shared_ptr<HoldBack> process;
    for (const SessionId id : sessions_by_vm_.at(vm_id)) {
        const Session& session = *sessions_.at(id);
        if (!session.by_files) {
            process = session.process;
        }
    }
    dispatcher_.set_process(vm_id, std::move(process));
}

void Mediator::close_old_files(std::uint32_t vm_id) {
    const auto found = sessions_by_vm_.find(vm_id);
    for (const SessionId id :
         found == sessions_by_vm_.end() ? std::vector<SessionId>{} : std::vector(found->second)) {
        const auto old = sessions_.at(id);
        if (old->by_files) {
            old->close(CloseReason::kPeerClosed, "the file gateway has connected again");
        }
    }
}

std::uint64_t Mediator::file_requests_of(std::uint32_t vm_id) const {
    const auto found = file_requests_.find(vm_id);
    return found == file_requests_.end() ? 0 : found->second;
}

void Mediator::on_identified(Session& session) {
    const std::uint32_t vm_id = session.vm_id().value();
    const auto& user = settings_.vm(vm_id).user;
    // The file gateway acts for VMs of any user: the folder of a request is what identifies the VM.
    if (user ? !session.by_files && *user != session.peer().uid : settings_.registered_vms_only) {
        answer_with_error(session, CloseReason::kVmNotAllowed);
        return;
    }
    if (session.by_files) {
        close_old_files(vm_id);
    } else if (!settings_.allow_duplicate_vm_id && has_device(vm_id)) {
        // A device may reconnect before the end of its old connection has been read.
        for (const SessionId other : std::vector(sessions_by_vm_.at(vm_id))) {
            const auto found = sessions_.find(other);
            if (found != sessions_.end() && found->second->peer_gone()) {
                const auto gone = found->second;
                gone->close(CloseReason::kPeerClosed, "the peer closed");
            }
        }
        if (has_device(vm_id)) {
            answer_with_error(session, CloseReason::kVmIdInUse);
            return;
        }
    }
    sessions_by_vm_[vm_id].push_back(session.id());
    dispatcher_.open_flow(session);
    charge_process(vm_id);
    events_.on_event(SessionIdentified{.session = session.id(), .vm_id = vm_id});
}

void Mediator::answer_with_error(Session& session, CloseReason reason) {
    // A few of them get the reason, at a slow pace; more would cost the others' time.
    if (refused_.size() >= kMostRefused) {
        session.close_soon(reason, reason == CloseReason::kVmIdInUse
                                       ? "another connection has this VM id, and too many are "
                                         "waiting for it"
                                       : "its user may not use this VM id");
    }
    session.pace();
    refused_.emplace(session.id(), Refused{.reason = reason});
}

// Answers each request of a peer that may not use its VM id now with this error. The peer is closed
// once an id in use is free, so that it reconnects.
void Mediator::refuse(Session& session, const vgpu_msg_header& header,
                      std::span<const std::byte> payload) {
    Refused& refused = refused_.at(session.id());
    const std::string id = std::to_string(header.vm_id);
    const std::string message =
        refused.reason == CloseReason::kVmIdInUse
            ? "another connection to the mediator has VM id " + id +
                  ": give each VM, and each program on the host, an id of its own (vm_id, vgpu "
                  "--vm-id)"
            : "user " + std::to_string(session.peer().uid) + " of the host may not use VM id " +
                  id +
                  ": the mediator's configuration registers it for another user, or not at "
                  "all ([[vm]] user)";
    const Session::Ticket ticket = session.begin_request(header);
    // Logged once: the other connection uses the same budget of log lines.
    if (!std::exchange(refused.told, true)) {
        const RequestInfo info{.session = session.id(),
                               .vm_id = header.vm_id,
                               .request_id = header.request_id,
                               .pool = header.pool_id,
                               .priority = header.priority,
                               .opcode = opcode_of(payload)};
        events_.on_event(RequestRefused{
            .request = info, .status = VGPU_ERR_MEDIATOR_UNAVAILABLE, .message = message});
    }
    session.answer(ticket, Outcome::failure(VGPU_ERR_MEDIATOR_UNAVAILABLE, message));
}

void Mediator::close_refused(std::uint32_t vm_id) {
    for (const auto& [id, refused] : refused_) {
        const auto session = sessions_.find(id);
        if (refused.reason == CloseReason::kVmIdInUse && session != sessions_.end() &&
            session->second->vm_id() == vm_id) {
            session->second->close_soon(CloseReason::kVmIdInUse,
                                        "the VM id that another connection had is free now");
        }
    }
}

void Mediator::on_request(Session& session, const vgpu_msg_header& header,
                          std::span<const std::byte> payload) {
    dispatcher_.begin_work();
    if (!session.flow) {
        refuse(session, header, payload);
        return;
    }
    if (session.by_files &&
        (file_requests_.size() < kMostFileUsers || file_requests_.contains(header.vm_id))) {
        ++file_requests_[header.vm_id];
    }
    several_talk_ = several_talk_ || session.id() != last_talker_;
    last_talker_ = session.id();
    dispatcher_.submit(session, header, payload);
}

void Mediator::on_hello(Session& session, OfferedMemory offered) {
    static_cast<void>(dispatcher_.now());  // sleep() counts from here on
    const vgpu_msg_header header = offered.header;
    vgpu_hello_status status = VGPU_HELLO_TAKEN;
    if (!session.flow) {
        status = refused_.at(session.id()).reason == CloseReason::kVmIdInUse
                     ? VGPU_HELLO_VM_ID_IN_USE
                     : VGPU_HELLO_NOT_ALLOWED;
    } else if (!settings_.queues_enabled) {
        status = VGPU_HELLO_NOT_OFFERED;
    } else if (!dispatcher_.guard().allows(header.vm_id, session.peer().uid)) {
        status = VGPU_HELLO_NOT_ALLOWED;
    } else if (!dispatcher_.interrupter().works() ||
               (offered.hello.shm_size > settings_.queues_memory_max &&
                offered.hello.shm_size <= VGPU_SHM_SIZE_MAX)) {
        status = VGPU_HELLO_NO_RESOURCES;
    } else {
        auto made = dispatcher_.guard().watch_mapping(
            session, header.vm_id, memories_.waiting() > 0,
            [&] { return GuestMemory::create(std::move(offered), memories_.source()); });
        if (made) {
            dispatcher_.memories().attach(session, *std::move(made), header);
            return;
        }
        const GuestMemory::Refusal& refusal = made.error();
        status = refusal.status;
        if (!refusal.shortage.empty()) {
            shortages_.report("shared memory is not served: " + refusal.shortage,
                              dispatcher_.now());
        }
    }
    events_.on_event(
        MemoryRefused{.session = session.id(), .vm_id = header.vm_id, .status = status});
    session.answer_hello(status, 0);
}

void Mediator::on_ping(Session& session) {
    if (session.flow) {
        dispatcher_.count_ping(session.vm_id().value());
    } else if (session.process) {
        session.process->count_refusal(dispatcher_.now());
    }
}

void Mediator::on_shm_reset(Session& session) {
    dispatcher_.memories().reset(session);
}

void Mediator::on_idle(Session& session) {
    to_read_.push_back(session.shared_from_this());
}

void Mediator::on_output(Session& session) {
    to_flush_.push_back(session.shared_from_this());
}

void Mediator::on_closed(Session& session, CloseReason reason, std::string_view detail) {
    const bool identified = session.flow.has_value();
    if (identified) {
        dispatcher_.close_flow(session);
        if (is_fault(reason)) {
            dispatcher_.count_fault(session.vm_id().value());
        }
        const std::uint32_t vm_id = session.vm_id().value();
        const auto entry = sessions_by_vm_.find(vm_id);
        std::erase(entry->second, session.id());
        if (entry->second.empty()) {
            sessions_by_vm_.erase(entry);
        } else {
            charge_process(vm_id);
        }
        if (!has_device(vm_id)) {
            close_refused(vm_id);
        }
    }
    events_.on_event(SessionClosed{.session = session.id(),
                                   .vm_id = session.vm_id(),
                                   .identified = identified,
                                   .reason = reason,
                                   .detail = detail});
    refused_.erase(session.id());
    file_sessions_ -= session.by_files ? 1 : 0;
    if (session.process) {
        processes_.closed(session.peer().pid);
    }
    sessions_.erase(session.id());
}

void Mediator::wait_for_device(std::size_t device) {
    device_wakes_.at(device).async_wait(asio::posix::descriptor_base::wait_read,
                                        [this, device](const boost::system::error_code& error) {
                                            if (!error) {
                                                dispatcher_.devices()[device].executor->on_wake();
                                                to_watch_.push_back(device);
                                            }
                                        });
}

void Mediator::flush_sessions() {
    // A flush may close its session, which may append to the list: index, not iterator.
    for (std::size_t i = 0; i < to_flush_.size(); ++i) {
        to_flush_[i]->flush();
    }
    flushes_ += to_flush_.size();
    to_flush_.clear();
    // Responses first: no peer waits for this.
    for (auto& session : to_read_) {
        read_when_due(std::move(session));
    }
    to_read_.clear();
}

void Mediator::read_when_due(std::shared_ptr<Session> session) {
    if (!session->open()) {
        return;
    }
    std::chrono::nanoseconds until{0};
    if (session->flow) {
        until = dispatcher_.held_until(session->vm_id().value());
    } else if (session->process) {
        until = session->process->until();
    }
    if (session->unclosed() > kMostUnclosed) {
        if (session->peer_gone()) {
            session->close(CloseReason::kPeerClosed, "the peer closed");
            return;
        }
        until = std::max(until, dispatcher_.now() + kUnclosedPause);
    }
    if (until > dispatcher_.now()) {
        // Only connections of a throttled process take turns: a throttled VM does not wait for the
        // other VMs of its process.
        const bool of_process = session->process && until == session->process->until();
        held_.emplace(of_process ? session->process->reserve_turn(until) : until,
                      std::move(session));
    } else {
        session->read();
    }
}

void Mediator::release_held() {
    while (!held_.empty() && held_.begin()->first <= dispatcher_.now()) {
        // It may have been throttled again, but then until a future time, so that the loop ends.
        read_when_due(std::move(held_.extract(held_.begin()).mapped()));
    }
}

void Mediator::run() {
    const auto work = asio::make_work_guard(io_);
    dispatcher_.guard().start();
    dispatcher_.begin_work();
    latency_.slept(dispatcher_.now());
    // Do not extend naps by the kernel's default timer slack of 50 us.
    ::prctl(PR_SET_TIMERSLACK, 1UL);
    while (!finished_) {
        // The cached time was read after the last unit of work, or is unset.
        const bool more = dispatcher_.turn();
        polled(LoopSource::kCompletions);
        flush_sessions();
        if (!held_.empty()) {
            release_held();
        }
        if (stopping_) {
            finish_if_drained();
        }
        if (finished_) {
            break;
        }
        if (more || events_left_ || dispatcher_.worth_polling()) {
            bool found = false;
            if (more) {
                dispatcher_.poll_queues();
            } else {
                found = poll();
            }
            polled(LoopSource::kQueues);
            // Work that was found comes first, and a loop about to sleep polls events in sleep(): a
            // poll of them costs as much as a request.
            const bool polls_on = more || events_left_ || dispatcher_.worth_polling();
            if ((!found && polls_on) || time_for_events()) {
                serve_events();
                give_way();
            }
        } else {
            sleep();
            // A doorbell may have rung.
            dispatcher_.poll_queues();
            // If several VMs send requests, read them all before starting any, so that priorities
            // decide. If one does, polling for others would cost it a system call.
            if (std::exchange(several_talk_, false)) {
                serve_events();
            }
        }
    }
    dispatcher_.guard().stop();
}

bool Mediator::time_for_events() const {
    return dispatcher_.now() - served_at_ >= kEventsEvery;
}

bool Mediator::poll() {
    const bool completions = dispatcher_.running();
    const bool queues = dispatcher_.queues_awake();
    if (!queues && !completions) {
        return false;
    }
    unsigned polls = 0;
    do {
        if ((completions && dispatcher_.devices().has_completions()) ||
            (queues && dispatcher_.poll_queues())) {
            return true;
        }
        if (queues && !dispatcher_.queues_awake()) {
            return false;
        }
        relax_processor();
        ++polls;
    } while (queues ? !time_for_events() : polls < kPollsPerEventPoll);
    return false;
}

void Mediator::give_way() {
    if (give_way_.due(woken(), dispatcher_.now())) {
        const timespec nap{.tv_sec = 0, .tv_nsec = std::chrono::nanoseconds(GiveWay::kNap).count()};
        ::nanosleep(&nap, nullptr);
        dispatcher_.begin_work();
    }
}

void Mediator::serve_events() {
    watch();
    served_at_ = dispatcher_.now();
    const auto end = served_at_ + (dispatcher_.queues_awake() ? kEventSlice : kLongEventSlice);
    do {
        dispatcher_.begin_work();
        if (io_.poll_one() == 0) {
            events_left_ = false;
            polled(LoopSource::kEvents);
            return;
        }
    } while (dispatcher_.now() < end);
    dispatcher_.begin_work();
    events_left_ = true;
    if (!round_marked_) {
        // Everything that is ready by now is served before this handler.
        round_marked_ = true;
        asio::post(io_, [this] {
            round_marked_ = false;
            polled(LoopSource::kEvents);
        });
    }
    // Wake queues without waiting for the rest of the round.
    dispatcher_.on_doorbells();
}

void Mediator::wait_for_doorbells() {
    doorbells_.async_wait(asio::posix::descriptor_base::wait_read,
                          [this](const boost::system::error_code& error) {
                              if (!error) {
                                  watch_doorbells_ = true;
                                  dispatcher_.on_doorbells();
                              }
                          });
}

// Re-arms level-triggered descriptors before polling or blocking.
void Mediator::watch() {
    for (const std::size_t device : std::exchange(to_watch_, {})) {
        wait_for_device(device);
    }
    if (std::exchange(watch_doorbells_, false)) {
        wait_for_doorbells();
    }
}

void Mediator::set_alarm() {
    auto due = dispatcher_.next_due();
    if (!held_.empty()) {
        due = std::min(due.value_or(held_.begin()->first), held_.begin()->first);
    }
    // An earlier pending alarm does no harm: the due time is checked again when it expires.
    if (!due || (alarm_at_ && *alarm_at_ <= *due)) {
        return;
    }
    alarm_at_ = due;
    alarm_.expires_after(std::chrono::ceil<std::chrono::microseconds>(*due - clock_.now()));
    alarm_.async_wait([this](const boost::system::error_code& error) {
        if (!error) {
            alarm_at_.reset();
        }
    });
}

void Mediator::sleep() {
    // The time before the sleep counts for every source, whatever the cause.
    dispatcher_.begin_work();
    for (const LoopSource source :
         {LoopSource::kEvents, LoopSource::kQueues, LoopSource::kCompletions}) {
        polled(source);
    }
    set_alarm();
    watch();
    dispatcher_.devices().set_control_waiting(true);
    bool blocked = false;
    if (!dispatcher_.devices().has_completions()) {
        give_way_.sleeping(woken(), dispatcher_.now());
        // The handler runs after the sleep, so the time must be read again.
        dispatcher_.begin_wait();
        io_.run_one();
        blocked = give_way_.slept();
    } else {
        dispatcher_.begin_wait();
    }
    dispatcher_.devices().set_control_waiting(false);
    // The loop is awake from the handler's first use of the time on.
    latency_.slept(dispatcher_.woke_at());
    dispatcher_.begin_work();
    if (!blocked) {
        give_way();
    }
}

void Mediator::apply(const Settings& settings) {
    if (settings.max_connections_per_process == 0) {
        // Takes effect at once. A limit that is set again holds for new connections.
        for (const auto& [id, session] : sessions_) {
            if (std::exchange(session->process, nullptr)) {
                processes_.closed(session->peer().pid);
            }
            if (session->flow) {
                dispatcher_.set_process(session->vm_id().value(), nullptr);
            }
        }
    }
    settings_ = settings;
    dispatcher_.apply_settings();
}

std::size_t Mediator::connections_of(std::uint32_t vm_id) const {
    const auto found = sessions_by_vm_.find(vm_id);
    return found == sessions_by_vm_.end() ? 0 : found->second.size();
}

std::vector<std::uint32_t> Mediator::connected_vms() const {
    std::vector<std::uint32_t> ids;
    ids.reserve(sessions_by_vm_.size());
    for (const auto& [vm_id, sessions] : sessions_by_vm_) {
        ids.push_back(vm_id);
    }
    return ids;
}

void Mediator::begin_shutdown() {
    if (stopping_) {
        give_up("the mediator was asked to stop at once");
        return;
    }
    stopping_ = true;
    for (const auto& listener : listeners_) {
        // Keep the object: a pending handler may refer to it.
        listener->retry.cancel();
        listener->descriptor.close();
        if (listener->socket) {
            // Connections not accepted yet may carry descriptors.
            foreign_.source().dispose(std::make_shared<Fd>(listener->socket->close_path()));
            listener->socket.reset();
        }
    }
    dispatcher_.refuse_new();
    drain_timer_.expires_after(settings_.drain_timeout);
    drain_timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error) {
            give_up("the mediator stops and did not get to it in time");
        }
    });
}

void Mediator::give_up(std::string_view why) {
    if (!given_up_) {
        given_up_ = true;
        dispatcher_.give_up(why);
    }
}

void Mediator::finish_if_drained() {
    if (!given_up_ && !dispatcher_.idle()) {
        return;
    }
    const auto busy = [](const auto& entry) {
        return entry.second->has_output() || entry.second->has_input();
    };
    if (!given_up_ && std::any_of(sessions_.begin(), sessions_.end(), busy)) {
        // Do not wait longer for peers to read responses or to stop sending.
        if (!drained_at_) {
            drained_at_ = dispatcher_.now();
            drain_timer_.expires_after(
                std::min<std::chrono::milliseconds>(kLastAnswers, settings_.drain_timeout));
            drain_timer_.async_wait([](const boost::system::error_code& /*error*/) {});
        }
        if (dispatcher_.now() - *drained_at_ < kLastAnswers) {
            return;
        }
    }
    finished_ = true;
    drain_timer_.cancel();
    while (!sessions_.empty()) {
        const auto session = sessions_.begin()->second;
        session->close(CloseReason::kShutdown, "the mediator stops");
    }
}

}  // namespace vgpu
