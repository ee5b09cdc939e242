// SPDX-License-Identifier: MIT
#include "mediator/mediator.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <utility>

#include "executor/relax.h"

namespace vgpu {

namespace asio = boost::asio;

namespace {

Fd make_eventfd() {
    Fd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!fd) {
        throw std::system_error(errno, std::generic_category(), "eventfd");
    }
    return fd;
}

// For asio, which closes what it is given.
Fd dup_descriptor(int fd) {
    Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!copy) {
        throw std::system_error(errno, std::generic_category(), "dup");
    }
    return copy;
}

// Looks for completions between two looks at the sockets, which cost a system call.
constexpr unsigned kLooksPerPoll = 64;
// While queues are awake, whose commands may take less than that call, sockets are looked at so
// often.
constexpr std::chrono::microseconds kPollEvery{20};
constexpr std::chrono::seconds kAcceptRetry{1};

}  // namespace

Mediator::Mediator(asio::io_context& io, Settings settings,
                   std::vector<std::unique_ptr<Backend>> backends, EventSink& events,
                   const Clock& clock)
    : io_(io),
      settings_(std::move(settings)),
      events_(events),
      wake_fd_(make_eventfd()),
      wake_descriptor_(io, wake_fd_.dup().release()),
      doorbells_(io),
      drain_timer_(io),
      clock_(clock),
      alarm_(io),
      dispatcher_(settings_, std::move(backends), events, clock,
                  [fd = wake_fd_.get()] { ::eventfd_write(fd, 1); }) {
    doorbells_.assign(dup_descriptor(dispatcher_.doorbell_descriptor()).release());
    wait_for_wake();
    for (std::size_t device = 0; device < dispatcher_.device_count(); ++device) {
        if (const int fd = dispatcher_.wake_descriptor(device); fd >= 0) {
            device_wakes_.emplace(device,
                                  asio::posix::stream_descriptor(io, dup_descriptor(fd).release()));
            wait_for_device(device);
        }
    }
}

Mediator::~Mediator() {
    // Sessions refer to this object: none may be left open in a handler that io_ still holds.
    for (const auto& [id, session] : std::exchange(sessions_, {})) {
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
                                           accept_all(listener);
                                       }
                                   });
}

void Mediator::accept_all(Listener& listener) {
    while (listener.socket) {
        Fd fd = listener.socket->accept();
        if (fd) {
            adopt(std::move(fd), listener.socket->path());
            continue;
        }
        if (errno == EAGAIN) {
            wait_for_connection(listener);
            return;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            events_.notice({.text = "cannot take a connection, will try again in 1 s: " +
                                    std::generic_category().message(errno)});
            listener.retry.expires_after(kAcceptRetry);
            listener.retry.async_wait([this, &listener](const boost::system::error_code& error) {
                if (!error) {
                    accept_all(listener);
                }
            });
            return;
        }
        // Anything else concerns the one connection that went before it was taken.
    }
}

void Mediator::adopt(Fd fd, const std::string& name) {
    const SessionId id = next_session_++;
    const auto peer = peer_credentials(fd.get());
    SessionOpened opened{.session = id, .socket = name, .pid = 0, .uid = 0};
    if (peer) {
        opened.pid = peer->pid;
        opened.uid = peer->uid;
    }
    events_.session_opened(opened);
    if (sessions_.size() >= settings_.max_connections) {
        events_.session_closed({.session = id,
                                .vm_id = std::nullopt,
                                .reason = CloseReason::kTooManyConnections,
                                .detail = "there are as many connections as are allowed"});
        return;
    }
    SessionHandler& handler = *this;
    const auto session = std::make_shared<Session>(io_, std::move(fd), id, settings_, handler);
    sessions_.emplace(id, session);
    session->start();
}

bool Mediator::on_identified(Session& session) {
    const std::uint32_t vm_id = session.vm_id().value();
    if (const auto others = sessions_by_vm_.find(vm_id);
        others != sessions_by_vm_.end() && !settings_.allow_duplicate_vm_id) {
        // A device that reconnects may be here before the end of its old connection was read.
        for (const SessionId other : std::vector(others->second)) {
            const auto found = sessions_.find(other);
            if (found != sessions_.end() && found->second->peer_gone()) {
                const auto gone = found->second;
                gone->close(CloseReason::kPeerClosed, "the peer closed");
            }
        }
        if (sessions_by_vm_.contains(vm_id)) {
            session.close(CloseReason::kVmIdInUse,
                          "another connection uses this VM id (allow_duplicate_vm_id is off)");
            return false;
        }
    }
    sessions_by_vm_[vm_id].push_back(session.id());
    dispatcher_.open_flow(session);
    events_.session_identified({.session = session.id(), .vm_id = vm_id});
    return true;
}

void Mediator::on_request(Session& session, const vgpu_msg_header& header,
                          std::span<const std::byte> payload) {
    several_talk_ = several_talk_ || session.id() != last_talker_;
    last_talker_ = session.id();
    dispatcher_.submit(session, header, payload);
}

void Mediator::on_hello(Session& session, OfferedMemory offered) {
    const vgpu_msg_header header = offered.header;
    vgpu_hello_status status = VGPU_HELLO_TAKEN;
    if (!settings_.queues_enabled) {
        status = VGPU_HELLO_NOT_OFFERED;
    } else if (offered.hello.shm_size > settings_.queues_memory_max &&
               offered.hello.shm_size <= VGPU_SHM_SIZE_MAX) {
        status = VGPU_HELLO_NO_RESOURCES;
    } else {
        auto made = GuestMemory::create(std::move(offered));
        if (auto* const memory = std::get_if<std::shared_ptr<GuestMemory>>(&made)) {
            dispatcher_.attach(session, std::move(*memory), header);
            return;
        }
        status = std::get<vgpu_hello_status>(made);
    }
    events_.memory_refused({.session = session.id(), .vm_id = header.vm_id, .status = status});
    session.answer_hello(status, 0);
}

void Mediator::on_shm_reset(Session& session) {
    dispatcher_.reset_queues(session);
}

void Mediator::on_idle(Session& session) {
    to_read_.push_back(session.shared_from_this());
}

void Mediator::on_output(Session& session) {
    to_flush_.push_back(session.shared_from_this());
}

void Mediator::on_closed(Session& session, CloseReason reason, std::string_view detail) {
    if (session.flow) {
        dispatcher_.close_flow(session);
        if (is_fault(reason)) {
            dispatcher_.count_fault(session.vm_id().value());
        }
        const auto entry = sessions_by_vm_.find(session.vm_id().value());
        std::erase(entry->second, session.id());
        if (entry->second.empty()) {
            sessions_by_vm_.erase(entry);
        }
    }
    events_.session_closed(
        {.session = session.id(), .vm_id = session.vm_id(), .reason = reason, .detail = detail});
    sessions_.erase(session.id());
}

void Mediator::wait_for_wake() {
    wake_descriptor_.async_wait(asio::posix::descriptor_base::wait_read,
                                [this](const boost::system::error_code& error) {
                                    if (!error) {
                                        eventfd_t count = 0;
                                        ::eventfd_read(wake_fd_.get(), &count);
                                        wait_for_wake();
                                    }
                                });
}

void Mediator::wait_for_device(std::size_t device) {
    device_wakes_.at(device).async_wait(asio::posix::descriptor_base::wait_read,
                                        [this, device](const boost::system::error_code& error) {
                                            if (!error) {
                                                dispatcher_.on_wake(device);
                                                to_watch_.push_back(device);
                                            }
                                        });
}

void Mediator::flush_sessions() {
    // A flush may close its session, which may not add to the list: index, not iterator.
    for (std::size_t i = 0; i < to_flush_.size(); ++i) {
        to_flush_[i]->flush();
    }
    to_flush_.clear();
    // Answers first: nobody waits for this.
    for (const auto& session : to_read_) {
        session->read();
    }
    to_read_.clear();
}

void Mediator::run() {
    const auto work = asio::make_work_guard(io_);
    while (!finished_) {
        const bool more = dispatcher_.turn();
        flush_sessions();
        if (stopping_) {
            finish_if_drained();
        }
        if (finished_) {
            break;
        }
        if (more || dispatcher_.worth_looking()) {
            bool found = false;
            if (more) {
                dispatcher_.look_at_queues();
            } else {
                found = look();
            }
            // What has been found goes on first: a look at the sockets costs as much as a request.
            if (!found || time_to_poll()) {
                polled_at_ = dispatcher_.now();
                watch();
                io_.poll();
            }
        } else {
            sleep();
            // A doorbell may have rung.
            dispatcher_.look_at_queues();
            // When several VMs talk, all that they have said is read before anything is started, so
            // that priorities decide. When one does, looking for others would cost it a system
            // call.
            if (std::exchange(several_talk_, false)) {
                io_.poll();
            }
        }
    }
}

bool Mediator::time_to_poll() const {
    return dispatcher_.now() - polled_at_ >= kPollEvery;
}

bool Mediator::look() {
    const bool completions = dispatcher_.running();
    const bool queues = dispatcher_.queues_awake();
    if (!queues && !completions) {
        return false;
    }
    for (unsigned looks = 0; queues ? !time_to_poll() : looks < kLooksPerPoll; ++looks) {
        if ((completions && dispatcher_.has_completions()) ||
            (queues && dispatcher_.look_at_queues())) {
            return true;
        }
        if (queues && !dispatcher_.queues_awake()) {
            return false;
        }
        relax_processor();
    }
    return false;
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

// What is readable until it has been looked at is waited for anew before the loop looks or sleeps.
void Mediator::watch() {
    for (const std::size_t device : std::exchange(to_watch_, {})) {
        wait_for_device(device);
    }
    if (std::exchange(watch_doorbells_, false)) {
        wait_for_doorbells();
    }
}

void Mediator::set_alarm() {
    const auto due = dispatcher_.next_due();
    // An alarm that is set and comes earlier does no harm: this is looked at again then.
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
    set_alarm();
    watch();
    dispatcher_.set_control_waiting(true);
    if (!dispatcher_.has_completions()) {
        io_.run_one();
    }
    dispatcher_.set_control_waiting(false);
}

void Mediator::apply(const Settings& settings) {
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
        give_up("the mediator was told to stop at once");
        return;
    }
    stopping_ = true;
    for (const auto& listener : listeners_) {
        // The object stays: a handler that refers to it may be waiting for its turn.
        listener->retry.cancel();
        listener->descriptor.close();
        listener->socket.reset();
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
    const bool unsent = std::any_of(sessions_.begin(), sessions_.end(),
                                    [](const auto& entry) { return entry.second->has_output(); });
    if (!given_up_ && (!dispatcher_.idle() || unsent)) {
        return;
    }
    finished_ = true;
    drain_timer_.cancel();
    while (!sessions_.empty()) {
        const auto session = sessions_.begin()->second;
        session->close(CloseReason::kShutdown, "the mediator stops");
    }
}

}  // namespace vgpu
