// SPDX-License-Identifier: MIT
#include "support/memory_peer.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace vgpu::test {
namespace {

constexpr std::chrono::seconds kLimit{20};

// Polls until `done` returns true. Returns false on time-out.
template <typename Done>
bool spin_until(Done done) {
    const auto deadline = std::chrono::steady_clock::now() + kLimit;
    while (!done()) {
        if (std::chrono::steady_clock::now() > deadline) {
            return false;
        }
        ::sched_yield();
    }
    return true;
}

[[noreturn]] void fail(const char* what) {
    throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

Fd make_memory(std::uint64_t size, int seals) {
    Fd memory(::memfd_create("vgpu-test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!memory || ::ftruncate(memory.get(), static_cast<off_t>(size)) != 0 ||
        (seals != 0 && ::fcntl(memory.get(), F_ADD_SEALS, seals) != 0)) {
        fail("memfd");
    }
    return memory;
}

Fd make_eventfd() {
    Fd made(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!made) {
        fail("eventfd");
    }
    return made;
}

bool send_with_descriptors(WirePeer& peer, const vgpu_msg_header& header,
                           std::span<const std::byte> payload, std::span<const int> descriptors) {
    constexpr std::size_t kMost = 64;
    vgpu_msg_header sent = header;
    sent.payload_len = static_cast<std::uint16_t>(payload.size());
    std::array<iovec, 2> parts{iovec{&sent, sizeof sent},
                               iovec{const_cast<std::byte*>(payload.data()), payload.size()}};
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * kMost)> control{};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = payload.empty() ? 1 : 2;
    if (!descriptors.empty()) {
        const std::size_t bytes = sizeof(int) * std::min(descriptors.size(), kMost);
        message.msg_control = control.data();
        message.msg_controllen = CMSG_SPACE(bytes);
        cmsghdr* const rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(bytes);
        std::memcpy(CMSG_DATA(rights), descriptors.data(), bytes);
    }
    return ::sendmsg(peer.fd(), &message, MSG_NOSIGNAL) ==
           static_cast<ssize_t>(sizeof sent + payload.size());
}

MemoryPeer::MemoryPeer(const Options& options)
    : options_(options),
      layout_(ring::Layout::compute(options.size, options.queues).value()),
      memory_(make_memory(options.size, kRightSeals)) {
    auto mapping = Mapping::create(memory_.get(), options.size, PROT_READ | PROT_WRITE);
    if (!mapping) {
        throw std::system_error(mapping.error().sys_errno, std::generic_category(), "mmap");
    }
    mapping_ = std::move(mapping).value();
    for (std::uint32_t i = 0; i < options.queues; ++i) {
        doorbells_.push_back(make_eventfd());
        interrupts_.push_back(make_eventfd());
        producers_.emplace_back(layout_.queue(base(), i));
    }
}

void MemoryPeer::connect(const std::string& path) {
    wire_.emplace(WirePeer::connect(path));
    wire_->vm_id = options_.vm_id;
    wire_->pool = options_.pool;
    wire_->priority = options_.priority;
}

vgpu_msg_hello MemoryPeer::hello() const {
    return {.protocol_version = VGPU_PROTOCOL_VERSION,
            .peer_kind = VGPU_PEER_PROCESS,
            .features = VGPU_FEATURE_SHM | VGPU_FEATURE_QUEUES,
            .shm_size = layout_.size,
            .layout_version = VGPU_SHM_LAYOUT_VERSION,
            .queue_count = layout_.queue_count,
            .reserved = {}};
}

bool MemoryPeer::send_hello(const vgpu_msg_hello& hello, std::span<const int> descriptors) {
    return send_with_descriptors(*wire_, wire_->header(VGPU_MSG_HELLO, 0),
                                 std::as_bytes(std::span(&hello, 1)), descriptors);
}

bool MemoryPeer::send_hello_queue(std::uint32_t queue, std::span<const int> descriptors) {
    const vgpu_msg_hello_queue payload{.queue = queue, .reserved = 0};
    return send_with_descriptors(*wire_, wire_->header(VGPU_MSG_HELLO_QUEUE, 0),
                                 std::as_bytes(std::span(&payload, 1)), descriptors);
}

std::optional<vgpu_msg_hello_reply> MemoryPeer::receive_reply(std::uint32_t type) {
    const auto message = wire_->receive();
    vgpu_msg_hello_reply reply{};
    if (!message || message->header.msg_type != type || message->payload.size() != sizeof reply) {
        return std::nullopt;
    }
    std::memcpy(&reply, message->payload.data(), sizeof reply);
    return reply;
}

bool MemoryPeer::send_reset() {
    return send_with_descriptors(*wire_, wire_->header(VGPU_MSG_SHM_RESET, 0), {}, {});
}

std::optional<vgpu_msg_hello_reply> MemoryPeer::attach(const std::string& path) {
    connect(path);
    send_hello(hello(), std::array{memory_.get()});
    for (std::uint32_t i = 0; i < layout_.queue_count; ++i) {
        send_hello_queue(i, std::array{doorbell(i), interrupt(i)});
    }
    return receive_reply();
}

void MemoryPeer::ring(std::uint32_t queue) const {
    static_cast<void>(::eventfd_write(doorbell(queue), 1));
}

bool MemoryPeer::start(std::uint32_t queue) {
    ring::Producer& producer = producers_[queue];
    if (producer.request_reset()) {
        ring(queue);
    }
    auto state = ring::Reset::kPending;
    return spin_until([&] {
               state = producer.reset_progress();
               return state != ring::Reset::kPending;
           }) &&
           state == ring::Reset::kRunning;
}

std::optional<std::uint64_t> MemoryPeer::submit(const vgpu_record& command,
                                                std::initializer_list<std::uint32_t> params,
                                                std::uint32_t queue) {
    ring::Producer& producer = producers_[queue];
    if (producer.push(command, {params.begin(), params.size()}, {}) != ring::Push::kDone) {
        return std::nullopt;
    }
    const std::uint64_t index = producer.submitted();
    if (producer.publish()) {
        ring(queue);
    }
    return index;
}

bool MemoryPeer::wait(std::uint64_t index, std::uint32_t queue) {
    auto progress = ring::Progress::kPending;
    return spin_until([&] {
               progress = producers_[queue].poll(index);
               return progress != ring::Progress::kPending;
           }) &&
           progress == ring::Progress::kReached;
}

bool MemoryPeer::wait_state(vgpu_queue_state state, std::uint32_t queue) {
    return spin_until(
        [&] { return producers_[queue].status().state == static_cast<std::uint32_t>(state); });
}

std::optional<ring::ReplyView> MemoryPeer::reply(std::uint64_t n) const {
    return ring::read_reply(words<std::byte>(reply_place(n), 1024));
}

vgpu_record MemoryPeer::command(std::uint32_t opcode, std::uint64_t n) const {
    vgpu_record made{};
    made.opcode = opcode;
    made.reply_offset = reply_place(n);
    made.reply_capacity = 1024;
    made.cookie = 1000 + n;
    return made;
}

}  // namespace vgpu::test
