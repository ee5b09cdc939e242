// SPDX-License-Identifier: MIT
#include "fuzz/liar.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <chrono>

#include "fuzz/check.h"
#include "ring/shared_memory.h"
#include "support/unix_socket.h"

namespace vgpu::fuzz {
namespace {

using Memory = ring::SharedMemory;

// How long a step waits for the program.
constexpr int kPatienceMs = 3;
// An endless flood would block the program's call forever: stop in time for the check of its
// duration.
constexpr std::chrono::seconds kFloodFor{4};
constexpr int kBacklog = 2;

template <typename T>
std::span<const std::uint8_t> bytes_of(const T& value) {
    return {reinterpret_cast<const std::uint8_t*>(&value), sizeof value};
}

}  // namespace

Liar::Liar()
    : path_(dir_.file("s")),
      listener_(test::listen_unix(path_, kBacklog)),
      stop_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      thread_([this] { run(); }) {}

Liar::~Liar() {
    stop();
    {
        const std::lock_guard lock(mutex_);
        state_ = State::kEnd;
    }
    changed_.notify_all();
    thread_.join();
}

void Liar::start(Input script) {
    script_ = script;
    {
        const std::lock_guard lock(mutex_);
        state_ = State::kRunning;
    }
    changed_.notify_all();
}

void Liar::stop() {
    static_cast<void>(::eventfd_write(stop_.get(), 1));
    std::unique_lock lock(mutex_);
    check(changed_.wait_for(lock, kHang, [this] { return state_ == State::kIdle; }),
          "the fuzzer's own mediator hangs");
    eventfd_t count = 0;
    static_cast<void>(::eventfd_read(stop_.get(), &count));
}

void Liar::settle() {
    std::unique_lock lock(mutex_);
    static_cast<void>(changed_.wait_for(lock, std::chrono::milliseconds(kPatienceMs),
                                        [this] { return state_ != State::kRunning; }));
}

void Liar::run() {
    for (;;) {
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [this] { return state_ != State::kIdle; });
            if (state_ == State::kEnd) {
                return;
            }
        }
        accept();
        while (!script_.empty() && !stopped()) {
            step();
        }
        {
            const std::lock_guard lock(mutex_);
            state_ = State::kQuiet;
        }
        changed_.notify_all();
        pollfd entry{.fd = stop_.get(), .events = POLLIN, .revents = 0};
        static_cast<void>(::poll(&entry, 1, -1));
        close_all();
        {
            const std::lock_guard lock(mutex_);
            state_ = State::kIdle;
        }
        changed_.notify_all();
    }
}

bool Liar::stopped() const {
    pollfd entry{.fd = stop_.get(), .events = POLLIN, .revents = 0};
    return ::poll(&entry, 1, 0) > 0;
}

bool Liar::wait_readable(int fd) const {
    std::array<pollfd, 2> entries{{{.fd = stop_.get(), .events = POLLIN, .revents = 0},
                                   {.fd = fd, .events = POLLIN, .revents = 0}}};
    return ::poll(entries.data(), entries.size(), kPatienceMs) > 0 && entries[0].revents == 0;
}

void Liar::step() {
    const std::uint8_t what = script_.byte();
    switch (what & 15U) {
        case 0:
            receive();
            break;
        case 1:
        case 2:
            send_hello_reply();
            break;
        case 3:
        case 4:
            send_response();
            break;
        case 5:
            send_any();
            break;
        case 6:
            send(script_.block(script_.byte()));
            break;
        case 7:
            connection_.reset();
            break;
        case 8:
            accept();
            break;
        case 9:
            flood();
            break;
        case 10:
        case 11:
            poke();
            break;
        case 12:
            serve();
            break;
        case 13:
            write_reply();
            break;
        case 14:
            if (!events_.empty()) {
                static_cast<void>(::eventfd_write(events_[script_.below(events_.size())].get(), 1));
            }
            break;
        default:
            if (what == 0xFF) {
                fill_backlog();
            } else if (layout_) {
                layout_->write_header(mapping_.data(), 1 + script_.byte());
            }
            break;
    }
}

void Liar::accept() {
    if (!wait_readable(listener_.get())) {
        return;
    }
    connection_.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

// Reads once, at most one complete message: the program's messages are well-formed.
void Liar::receive() {
    if (!connection_ || !wait_readable(connection_.get())) {
        return;
    }
    std::array<std::uint8_t, sizeof(vgpu_msg_header) + VGPU_BUF_SIZE> bytes{};
    iovec part{bytes.data(), bytes.size()};
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(2 * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t got = ::recvmsg(connection_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got <= 0) {
        return;
    }
    std::vector<Fd> descriptors;
    for (cmsghdr* one = CMSG_FIRSTHDR(&message); one != nullptr; one = CMSG_NXTHDR(&message, one)) {
        for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= one->cmsg_len; at += sizeof(int)) {
            int number = -1;
            std::memcpy(&number, reinterpret_cast<std::byte*>(one) + at, sizeof number);
            descriptors.emplace_back(number);
        }
    }
    vgpu_msg_header header{};
    std::memcpy(&header, bytes.data(), std::min<std::size_t>(sizeof header, bytes.size()));
    last_id_ = header.request_id;
    if (header.msg_type == VGPU_MSG_HELLO && descriptors.size() == 1) {
        take_memory(std::move(descriptors.front()));
    }
    for (Fd& one : descriptors) {
        if (one) {
            events_.push_back(std::move(one));
        }
    }
}

void Liar::take_memory(Fd memory) {
    struct stat status {};
    if (::fstat(memory.get(), &status) != 0) {
        return;
    }
    events_.clear();
    const auto size = static_cast<std::uint64_t>(status.st_size);
    auto mapping = Mapping::create(memory.get(), size, PROT_READ | PROT_WRITE);
    // One or two queues, as the fuzzer opens devices.
    layout_ = ring::Layout::compute(size, 1 + static_cast<std::uint32_t>(script_.below(2)));
    check(mapping.has_value() && layout_, "the program offers memory of a wrong size");
    mapping_ = std::move(mapping).value();
    memory_ = std::move(memory);
    layout_->write_header(mapping_.data(), 1);
}

void Liar::send(std::span<const std::uint8_t> bytes) const {
    if (connection_) {
        static_cast<void>(
            ::send(connection_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
    }
}

void Liar::send_message(std::uint32_t type, std::uint32_t id,
                        std::span<const std::uint8_t> payload) {
    vgpu_msg_header header{};
    header.magic = VGPU_MSG_MAGIC;
    header.msg_type = type;
    header.vm_id = kVmId;
    header.request_id = id;
    header.payload_len = static_cast<std::uint16_t>(payload.size());
    std::vector<std::uint8_t> bytes(sizeof header + payload.size());
    std::memcpy(bytes.data(), &header, sizeof header);
    std::copy(payload.begin(), payload.end(), bytes.begin() + sizeof header);
    send(bytes);
}

void Liar::send_response() {
    vgpu_response fixed{};
    const std::uint8_t shape = script_.byte();
    fixed.version = (shape & 1U) != 0 ? script_.word() : VGPU_PROTOCOL_VERSION;
    fixed.status = (shape & 2U) != 0 ? script_.word() : 0;
    const std::size_t results = script_.below(16);
    const auto data = script_.block(script_.byte());
    fixed.result_count = (shape & 4U) != 0 ? script_.word() : static_cast<std::uint32_t>(results);
    fixed.data_offset =
        (shape & 8U) != 0 ? script_.word() : static_cast<std::uint32_t>(sizeof fixed + 4 * results);
    fixed.data_length =
        (shape & 16U) != 0 ? script_.word() : static_cast<std::uint32_t>(data.size());
    std::vector<std::uint8_t> payload(sizeof fixed + 4 * results + data.size());
    std::memcpy(payload.data(), &fixed, sizeof fixed);
    std::copy(data.begin(), data.end(), payload.end() - static_cast<long>(data.size()));
    send_message(VGPU_MSG_RESPONSE, last_id_ + (shape >> 6U), payload);
}

void Liar::send_any() {
    const std::uint32_t type = script_.byte();
    const std::uint32_t id = last_id_ + script_.byte() % 3;
    send_message(type, id, script_.block(script_.byte()));
}

void Liar::send_hello_reply() {
    vgpu_msg_hello_reply reply{};
    reply.layout_version = VGPU_SHM_LAYOUT_VERSION;
    reply.features = VGPU_FEATURE_SHM | VGPU_FEATURE_QUEUES;
    reply.generation = 1;
    const std::uint8_t shape = script_.byte();
    if (shape >= 128) {
        const std::uint32_t word = script_.word();
        std::memcpy(reinterpret_cast<std::uint8_t*>(&reply) + std::size_t{4} * (shape % 8), &word,
                    sizeof word);
    }
    send_message(VGPU_MSG_HELLO_REPLY, 0, bytes_of(reply));
}

// Sends messages that the program must answer or skip while it waits.
void Liar::flood() {
    const std::uint8_t shape = script_.byte();
    const std::uint32_t type = (shape & 1U) != 0   ? std::uint32_t{VGPU_MSG_PING}
                               : (shape & 2U) != 0 ? std::uint32_t{VGPU_MSG_PONG}
                                                   : std::uint32_t{VGPU_MSG_RESPONSE};
    const std::vector<std::uint8_t> payload(type == VGPU_MSG_RESPONSE ? sizeof(vgpu_response) : 0);
    const bool reads = (shape & 4U) != 0;
    const bool endless = (shape & 0xF0U) == 0xF0U;
    const auto end = Clock::now() + kFloodFor;
    for (unsigned left = 1U + shape; left != 0 && !stopped() && Clock::now() < end;
         left -= endless ? 0 : 1) {
        pollfd entry{.fd = connection_.get(), .events = POLLOUT, .revents = 0};
        if (::poll(&entry, 1, kPatienceMs) < 0 || (entry.revents & (POLLHUP | POLLERR)) != 0) {
            return;
        }
        send_message(type, last_id_ + 77, payload);
        if (reads) {
            std::array<std::byte, 4096> scrap{};
            static_cast<void>(::recv(connection_.get(), scrap.data(), scrap.size(), MSG_DONTWAIT));
        }
    }
}

// Stores to any word of the header, of a control block, or of the heap.
void Liar::poke() {
    if (!layout_) {
        return;
    }
    const std::uint8_t shape = script_.byte();
    const std::uint32_t queue = shape % layout_->queue_count;
    static constexpr std::array<std::uint64_t, 9> kWords{0, 8, 128, 256, 384, 512, 640, 648, 656};
    std::uint64_t at = 0;
    switch (shape >> 6U) {
        case 0:
            at = script_.byte() % sizeof(vgpu_shm_header);
            break;
        case 1:
            at = layout_->heap_offset + script_.number<std::uint16_t>();
            break;
        default:
            at = layout_->control_offset(queue) + script_.one_of(kWords);
            break;
    }
    Memory::store_release(*reinterpret_cast<std::uint64_t*>(mapping_.data() + at / 8 * 8),
                          script_.value());
}

// Stores what a correct mediator would have written by now.
void Liar::serve() {
    if (!layout_) {
        return;
    }
    const std::uint8_t shape = script_.byte();
    for (std::uint32_t queue = 0; queue < layout_->queue_count; ++queue) {
        vgpu_queue_control& control = *layout_->queue(mapping_.data(), queue).control;
        const std::uint64_t tail = Memory::load_acquire(control.tail);
        Memory::store_relaxed(control.head, tail);
        Memory::store_relaxed(control.completed,
                              Memory::load_relaxed(control.completed) + shape % 64);
        Memory::store_release(control.state, std::uint32_t{VGPU_QUEUE_RUNNING});
        Memory::store_release(control.reset_ack, Memory::load_acquire(control.reset_request));
    }
    for (const Fd& event : events_) {
        static_cast<void>(::eventfd_write(event.get(), 1));
    }
}

// Stores a reply at the start of the heap, where the library's first reply is placed.
void Liar::write_reply() {
    if (!layout_) {
        return;
    }
    vgpu_queue_reply reply{};
    const std::uint8_t shape = script_.byte();
    reply.cookie = script_.byte() % 4;
    reply.status = (shape & 1U) != 0 ? script_.word() : 0;
    reply.result_count = script_.word();
    reply.data_length = script_.word();
    reply.size = (shape & 2U) != 0
                     ? script_.word()
                     : static_cast<std::uint32_t>(sizeof reply + 4ULL * reply.result_count +
                                                  reply.data_length);
    std::array<std::uint64_t, sizeof reply / 8> words{};
    std::memcpy(words.data(), &reply, sizeof reply);
    std::uint64_t at = layout_->heap_offset + 64ULL * (shape >> 4U);
    for (const std::uint64_t word : words) {
        Memory::store_release(*reinterpret_cast<std::uint64_t*>(mapping_.data() + at), word);
        at += sizeof word;
    }
}

// Stops accepting connections.
void Liar::fill_backlog() {
    const sockaddr_un address = test::unix_address(path_);
    for (int left = kBacklog + 2; left != 0; --left) {
        Fd one(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (!one || ::connect(one.get(), reinterpret_cast<const sockaddr*>(&address),
                              sizeof address) != 0) {
            return;
        }
        crowd_.push_back(std::move(one));
    }
    script_ = Input(nullptr, 0);
}

void Liar::close_all() {
    connection_.reset();
    crowd_.clear();
    events_.clear();
    memory_.reset();
    mapping_ = Mapping();
    layout_.reset();
    last_id_ = 0;
    // Close pending connections.
    for (;;) {
        pollfd entry{.fd = listener_.get(), .events = POLLIN, .revents = 0};
        if (::poll(&entry, 1, 0) <= 0) {
            return;
        }
        const Fd late(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    }
}

}  // namespace vgpu::fuzz
