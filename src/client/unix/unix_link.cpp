// SPDX-License-Identifier: MIT
#include "client/unix/unix_link.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <span>
#include <system_error>

#include "client/include/vgpu.h"
#include "client/unix/unix_message.h"

namespace vgpu::client {
namespace {

Failure system_failure(const std::string& what, int error) {
    return {VGPU_E_SYSTEM, what + ": " + std::generic_category().message(error), error};
}

const char* refusal_text(std::uint32_t status) {
    switch (status) {
        case VGPU_HELLO_NOT_OFFERED:
            return "queues are disabled in its configuration (queues.enabled)";
        case VGPU_HELLO_BAD_VERSION:
            return "it implements another version of the shared-memory protocol";
        case VGPU_HELLO_BAD_LAYOUT:
            return "it does not accept this size of shared memory (shm_size, vgpu --shm-size) or "
                   "this number of queues";
        case VGPU_HELLO_BAD_MEMORY:
            return "it rejected the shared memory";
        case VGPU_HELLO_BAD_DESCRIPTOR:
            return "it rejected the eventfds";
        case VGPU_HELLO_NO_RESOURCES:
            return "the shared memory would exceed one of its limits (its log names the limit)";
        case VGPU_HELLO_NOT_ALLOWED:
            return "this process is not allowed to use them";
        case VGPU_HELLO_VM_ID_IN_USE:
            return "another connection uses this VM id: choose a unique one (vm_id, vgpu --vm-id)";
        default:
            return "this library does not know the reason";
    }
}

// Checks a hello reply. Returns empty if the shared memory was accepted, else an error text.
std::string judge(const vgpu_msg_hello_reply& reply, const UnixLink& link) {
    if (reply.status != VGPU_HELLO_TAKEN) {
        return std::string("the mediator does not serve queues on this connection: ") +
               refusal_text(reply.status) + "; requests still work";
    }
    const std::uint64_t needed = VGPU_FEATURE_SHM | VGPU_FEATURE_QUEUES;
    if (reply.layout_version != VGPU_SHM_LAYOUT_VERSION || (reply.features & needed) != needed ||
        reply.generation == 0 || link.layout().read_generation(link.base()) != reply.generation) {
        return "the mediator accepted the shared memory, but uses a layout that this library does "
               "not support: install the library that matches the host";
    }
    return {};
}

}  // namespace

bool UnixConnection::ended() const {
    pollfd entry{.fd = socket.get(), .events = POLLRDHUP, .revents = 0};
    return ::poll(&entry, 1, 0) > 0 && (entry.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

Expected<std::shared_ptr<UnixLink>> UnixLink::create(const UnixSettings& settings) {
    std::shared_ptr<UnixLink> link(new UnixLink(settings));
    if (settings.shm_size != 0) {
        if (const auto made = link->make_memory(); !made) {
            return made.failure();
        }
    }
    if (const auto connected = link->connect(); !connected) {
        return connected.failure();
    }
    return link;
}

Expected<void> UnixLink::make_memory() {
    const auto layout = ring::Layout::compute(settings_.shm_size, settings_.queue_count);
    if (!layout) {
        return Failure{VGPU_E_ARGUMENT,
                       "shm_size (vgpu --shm-size) must be 0 or a power of two from 1M to 4G, and "
                       "queue_count 1 to 64 and at most shm_size / 32K",
                       0};
    }
    layout_ = *layout;
    memory_file_.reset(::memfd_create("vgpu-shm", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!memory_file_ || ::ftruncate(memory_file_.get(), static_cast<off_t>(layout_.size)) != 0 ||
        ::fcntl(memory_file_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        return system_failure("cannot create the shared memory", errno);
    }
    auto mapping = Mapping::create(memory_file_.get(), layout_.size, PROT_READ | PROT_WRITE);
    if (!mapping) {
        return system_failure("cannot map the shared memory", mapping.error().sys_errno);
    }
    memory_ = std::move(*mapping);
    for (std::uint32_t queue = 0; queue != layout_.queue_count; ++queue) {
        for (auto* const events : {&doorbells_, &interrupts_}) {
            events->emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
            if (!events->back()) {
                return system_failure("cannot create an eventfd", errno);
            }
        }
    }
    return {};
}

Expected<std::shared_ptr<UnixConnection>> UnixLink::connect() {
    const std::lock_guard lock(mutex_);
    if (connection_ != nullptr && !connection_->ended()) {
        return connection_;
    }
    auto made = make_connection();
    if (made) {
        connection_ = *made;
    }
    return made;
}

std::shared_ptr<UnixConnection> UnixLink::current() {
    const std::lock_guard lock(mutex_);
    return connection_;
}

vgpu_msg_header UnixLink::header(std::uint32_t type, std::uint32_t request_id) const {
    vgpu_msg_header made{};
    made.magic = VGPU_MSG_MAGIC;
    made.msg_type = type;
    made.vm_id = settings_.vm_id;
    made.request_id = request_id;
    made.pool_id = static_cast<std::uint8_t>(settings_.pool);
    made.priority = static_cast<std::uint8_t>(settings_.priority);
    return made;
}

Expected<Fd> UnixLink::connect_socket() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string& path = settings_.path;
    if (path.empty() || path.size() >= sizeof address.sun_path) {
        return Failure{VGPU_E_ARGUMENT,
                       "a socket path must be 1 to " + std::to_string(sizeof address.sun_path - 1) +
                           " bytes long, not " + std::to_string(path.size()),
                       0};
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket) {
        return system_failure("cannot create a socket", errno);
    }
    // connect() blocks while the mediator's backlog is full, and a signal interrupts it.
    constexpr Nanoseconds kShortest = std::chrono::milliseconds(1);
    const auto deadline = steady_now() + settings_.hello_timeout;
    int error = 0;
    do {
        const auto left = std::max(deadline - steady_now(), kShortest);
        const timeval wait{
            .tv_sec = left / std::chrono::seconds(1),
            .tv_usec = left % std::chrono::seconds(1) / std::chrono::microseconds(1)};
        if (::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) != 0) {
            return system_failure("cannot set the connect timeout", errno);
        }
        if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
            0) {
            return socket;
        }
        error = errno;
        if (error == EINTR && steady_now() >= deadline) {
            error = EAGAIN;
        }
    } while (error == EINTR);
    const std::string reason = std::generic_category().message(error);
    if (error == EACCES || error == EPERM) {
        return Failure{
            VGPU_E_NO_PERMISSION,
            "no permission on " + path + " (" + reason +
                "): ask the host's operator for read and write access to the mediator's socket",
            error};
    }
    if (error == EAGAIN) {
        return Failure{VGPU_ERR_MEDIATOR_UNAVAILABLE,
                       "the mediator at " + path +
                           " did not accept the connection in time: too many other programs "
                           "connect to it, or it is hung; retry, and check its log",
                       error};
    }
    if (error == EPROTOTYPE || error == ENOTDIR || error == ELOOP) {
        return Failure{VGPU_ERR_MEDIATOR_UNAVAILABLE,
                       path + " is not a mediator's socket (" + reason +
                           "): use the socket in the 'ready' line of the mediator's log",
                       error};
    }
    return Failure{VGPU_ERR_MEDIATOR_UNAVAILABLE,
                   "no mediator is listening at " + path + " (" + reason +
                       "): start vgpu-mediator with this socket, then retry",
                   error};
}

std::string UnixLink::refusals() const {
    return "Check first whether VM id " + std::to_string(settings_.vm_id) +
           " is in use by another program or VM, and choose a unique one (vm_id, vgpu --vm-id). "
           "Otherwise the mediator's limit of connections is reached";
}

std::string UnixLink::why_ended(const UnixConnection& connection) const {
    if (connection.answered) {
        return "the mediator at " + settings_.path +
               " closed the connection before it responded: it was stopped or restarted, or its "
               "log "
               "has the reason; retry";
    }
    return "the mediator at " + settings_.path +
           " accepted the connection and closed it without a response. " + refusals() +
           "; its log has the reason";
}

std::string UnixLink::why_broken() const {
    return "the process listening at " + settings_.path +
           " does not speak the device protocol: use the first socket in the 'ready' line of the "
           "mediator's log, not its admin socket";
}

std::string UnixLink::why_no_queues(HelloEnd end) const {
    switch (end) {
        case HelloEnd::kClosed:
            return "the mediator closed the connection during the handshake. " + refusals() +
                   ", or it is version 1, which has no queues; its log has the reason";
        case HelloEnd::kNonsense:
            return "the mediator's response to the handshake is invalid: it is version 1, which "
                   "has no queues, or " +
                   settings_.path + " is not its device socket";
        case HelloEnd::kNoAnswer:
            break;
    }
    return "the mediator did not answer the handshake in time: it is version 1, which has no "
           "queues, or it is overloaded; requests still work";
}

Expected<std::shared_ptr<UnixConnection>> UnixLink::make_connection() {
    connection_.reset();
    auto socket = connect_socket();
    if (!socket) {
        return socket.failure();
    }
    HelloEnd end = HelloEnd::kNoAnswer;
    if (has_memory()) {
        if (auto taken = send_hello(std::move(*socket), end)) {
            return std::shared_ptr<UnixConnection>(std::move(taken));
        }
        // The first connection is closed already: the mediator may allow one per VM only.
        socket = connect_socket();
        if (!socket) {
            return socket.failure();
        }
    }
    auto made = std::make_shared<UnixConnection>();
    made->socket = std::move(*socket);
    made->why_no_queues = has_memory() ? why_no_queues(end)
                                       : "this connection has no shared memory: set shm_size (vgpu "
                                         "--shm-size) to a size other than 0";
    return made;
}

std::unique_ptr<UnixConnection> UnixLink::send_hello(Fd socket, HelloEnd& end) const {
    const auto deadline = steady_now() + settings_.hello_timeout;
    vgpu_msg_hello hello{};
    hello.protocol_version = VGPU_PROTOCOL_VERSION;
    hello.peer_kind = VGPU_PEER_PROCESS;
    hello.features = VGPU_FEATURE_SHM | VGPU_FEATURE_QUEUES;
    hello.shm_size = layout_.size;
    hello.layout_version = VGPU_SHM_LAYOUT_VERSION;
    hello.queue_count = layout_.queue_count;
    const std::array memory{memory_file_.get()};
    // A failed send means that the mediator did not read in time, or disconnected.
    const auto unsent = [&] {
        end = steady_now() >= deadline ? HelloEnd::kNoAnswer : HelloEnd::kClosed;
        return nullptr;
    };
    if (!send_message(socket.get(), header(VGPU_MSG_HELLO, 0), std::as_bytes(std::span(&hello, 1)),
                      memory, deadline)) {
        return unsent();
    }
    for (std::uint32_t queue = 0; queue != layout_.queue_count; ++queue) {
        const vgpu_msg_hello_queue one{queue, 0};
        const std::array events{doorbells_[queue].get(), interrupts_[queue].get()};
        if (!send_message(socket.get(), header(VGPU_MSG_HELLO_QUEUE, 0),
                          std::as_bytes(std::span(&one, 1)), events, deadline)) {
            return unsent();
        }
    }
    MessageInbox inbox;
    for (;;) {
        const auto message = inbox.receive(socket.get(), deadline);
        if (message.what != Received::kMessage) {
            end = message.what == Received::kEnded     ? HelloEnd::kClosed
                  : message.what == Received::kNothing ? HelloEnd::kNoAnswer
                                                       : HelloEnd::kNonsense;
            return nullptr;
        }
        if (message.header.msg_type == VGPU_MSG_PING) {
            auto pong = message.header;
            pong.msg_type = VGPU_MSG_PONG;
            if (!send_message(socket.get(), pong, {}, {}, deadline) || steady_now() >= deadline) {
                return unsent();
            }
            continue;
        }
        vgpu_msg_hello_reply reply{};
        if (message.header.msg_type != VGPU_MSG_HELLO_REPLY ||
            message.payload.size() != sizeof reply) {
            end = HelloEnd::kNonsense;
            return nullptr;
        }
        std::memcpy(&reply, message.payload.data(), sizeof reply);
        auto made = std::make_unique<UnixConnection>();
        made->socket = std::move(socket);
        made->answered = true;
        made->why_no_queues = judge(reply, *this);
        made->queues = made->why_no_queues.empty();
        return made;
    }
}

// --- UnixPort
// -------------------------------------------------------------------------------------

namespace {

// A queue's eventfd. A wait also ends when the connection ends.
class EventInterrupt : public InterruptSource {
  public:
    EventInterrupt(std::shared_ptr<UnixLink> link, std::uint32_t queue)
        : link_(std::move(link)), event_(link_->interrupt(queue)) {}

    Expected<void> arm() override { return {}; }

    Expected<bool> wait(Nanoseconds limit) override {
        const auto connection = link_->current();
        std::array<pollfd, 2> entries{{{.fd = event_, .events = POLLIN, .revents = 0},
                                       {.fd = connection ? connection->socket.get() : -1,
                                        .events = POLLRDHUP,
                                        .revents = 0}}};
        const timespec time = to_timespec(limit);
        const int ready = ::ppoll(entries.data(), entries.size(), &time, nullptr);
        if (ready < 0 && errno != EINTR) {
            return system_failure("cannot wait for the interrupt", errno);
        }
        if (ready <= 0) {
            return false;
        }
        std::uint64_t count = 0;
        return ::read(event_, &count, sizeof count) == sizeof count;
    }

  private:
    std::shared_ptr<UnixLink> link_;
    int event_;
};

}  // namespace

void UnixPort::ring_doorbell(std::uint32_t queue) {
    // EAGAIN (counter at 2^64 - 2) is success: a wake-up is already pending.
    (void)::eventfd_write(link_->doorbell(queue), 1);
}

bool UnixPort::attached() {
    const auto connection = link_->current();
    return connection != nullptr && connection->queues && !connection->ended();
}

Expected<void> UnixPort::attach() {
    const auto connection = link_->connect();
    if (!connection) {
        return connection.failure();
    }
    return (*connection)->queues ? Expected<void>() : no_queues((*connection)->why_no_queues);
}

std::unique_ptr<InterruptSource> UnixPort::make_interrupt(std::uint32_t queue) {
    return std::make_unique<EventInterrupt>(link_, queue);
}

}  // namespace vgpu::client
