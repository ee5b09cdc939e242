// SPDX-License-Identifier: MIT
//
// Test doubles: a mediator that the test scripts message by message. Receives hello messages with
// their descriptors and serves the queues of the shared memory like a real mediator: sleeps until a
// doorbell rings, and sends interrupts to clients that sleep.
#pragma once

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/mapping.h"
#include "client/testing/fake_device.h"
#include "client/unix/unix_message.h"
#include "ipc/message.h"
#include "ring/consumer.h"
#include "ring/reply.h"
#include "support/unix_socket.h"
#include "support/wire_peer.h"

namespace vgpu::client::test {

struct MessageWithDescriptors {
    vgpu_msg_header header{};
    std::vector<std::byte> payload;
    std::vector<Fd> descriptors;

    template <typename T>
    [[nodiscard]] T as() const {
        T made{};
        if (payload.size() == sizeof made) {
            std::memcpy(&made, payload.data(), sizeof made);
        }
        return made;
    }
};

// Receives the next message with its descriptors. Returns nullopt at the end of the stream.
inline std::optional<MessageWithDescriptors> receive_with_descriptors(int socket) {
    MessageWithDescriptors made;
    const auto read = [&](void* to, std::size_t length) {
        auto* at = static_cast<std::byte*>(to);
        while (length != 0) {
            if (!vgpu::test::wait_readable(
                    socket, std::chrono::steady_clock::now() + std::chrono::seconds(10))) {
                return false;
            }
            iovec part{at, length};
            alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(16 * sizeof(int))> control{};
            msghdr message{};
            message.msg_iov = &part;
            message.msg_iovlen = 1;
            message.msg_control = control.data();
            message.msg_controllen = control.size();
            const ssize_t n = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
            if (n <= 0) {
                return false;
            }
            for (cmsghdr* one = CMSG_FIRSTHDR(&message); one != nullptr;
                 one = CMSG_NXTHDR(&message, one)) {
                std::vector<int> numbers((one->cmsg_len - CMSG_LEN(0)) / sizeof(int));
                std::memcpy(numbers.data(), CMSG_DATA(one), numbers.size() * sizeof(int));
                for (const int number : numbers) {
                    made.descriptors.emplace_back(number);
                }
            }
            at += n;
            length -= static_cast<std::size_t>(n);
        }
        return true;
    };
    if (!read(&made.header, sizeof made.header)) {
        return std::nullopt;
    }
    made.payload.resize(made.header.payload_len);
    if (!made.payload.empty() && !read(made.payload.data(), made.payload.size())) {
        return std::nullopt;
    }
    return made;
}

struct Hello {
    vgpu_msg_header header{};
    vgpu_msg_hello fixed{};
    Fd memory;
    std::vector<Fd> doorbells;
    std::vector<Fd> interrupts;
    bool in_form = false;
};

inline Hello receive_hello(int socket) {
    Hello hello;
    auto first = receive_with_descriptors(socket);
    if (!first || first->header.msg_type != VGPU_MSG_HELLO || first->descriptors.size() != 1) {
        return hello;
    }
    hello.header = first->header;
    hello.fixed = first->as<vgpu_msg_hello>();
    hello.memory = std::move(first->descriptors[0]);
    for (std::uint32_t queue = 0; queue != hello.fixed.queue_count; ++queue) {
        auto one = receive_with_descriptors(socket);
        if (!one || one->header.msg_type != VGPU_MSG_HELLO_QUEUE || one->descriptors.size() != 2 ||
            one->as<vgpu_msg_hello_queue>().queue != queue) {
            return hello;
        }
        hello.doorbells.push_back(std::move(one->descriptors[0]));
        hello.interrupts.push_back(std::move(one->descriptors[1]));
    }
    hello.in_form = true;
    return hello;
}

// Serves the queues of a hello in a thread, which sleeps while the queues are empty.
class ServedMemory {
  public:
    ServedMemory(Hello hello, std::uint64_t generation)
        : hello_(std::move(hello)),
          layout_(ring::Layout::compute(hello_.fixed.shm_size, hello_.fixed.queue_count).value()),
          memory_(std::move(
              *Mapping::create(hello_.memory.get(), layout_.size, PROT_READ | PROT_WRITE))),
          stop_(::eventfd(0, EFD_CLOEXEC)) {
        for (std::uint32_t queue = 0; queue != layout_.queue_count; ++queue) {
            consumers_.emplace_back(layout_.queue(memory_.data(), queue), layout_);
        }
        layout_.write_header(memory_.data(), generation);
        thread_ = std::thread([this] { serve(); });
    }
    ServedMemory(const ServedMemory&) = delete;
    ServedMemory& operator=(const ServedMemory&) = delete;
    ~ServedMemory() {
        (void)::eventfd_write(stop_.get(), 1);
        thread_.join();
    }

    std::atomic<std::uint64_t> wakes{0};
    std::atomic<std::uint64_t> interrupts{0};

  private:
    void serve() {
        for (;;) {
            bool busy = false;
            for (std::size_t queue = 0; queue != consumers_.size(); ++queue) {
                busy |= take_all(queue);
            }
            if (busy) {
                continue;
            }
            for (auto& consumer : consumers_) {
                busy |= !consumer.prepare_sleep();
            }
            if (!busy && !sleep()) {
                return;
            }
            for (auto& consumer : consumers_) {
                consumer.wake();
            }
        }
    }

    bool take_all(std::size_t queue) {
        ring::Consumer& consumer = consumers_[queue];
        ring::Record record;
        bool busy = false;
        for (;;) {
            bool interrupt = false;
            const ring::Take took = consumer.take(record);
            if (took == ring::Take::kReset) {
                interrupt = consumer.finish_reset();
            } else if (took == ring::Take::kRecord) {
                std::vector<std::uint32_t> results;
                if (record.header().opcode == VGPU_OP_CUDA_KERNEL && record.params().size() == 2) {
                    results = {record.params()[0] + record.params()[1]};
                }
                (void)ring::write_reply(memory_.data(), record.header(), 0, 0, results, {});
                interrupt = consumer.complete(1);
            } else {
                interrupt = consumer.take_interrupt();
            }
            if (interrupt) {
                ++interrupts;
                (void)::eventfd_write(hello_.interrupts[queue].get(), 1);
            }
            if (took != ring::Take::kReset && took != ring::Take::kRecord) {
                return busy;
            }
            busy = true;
        }
    }

    // Returns false if the thread must stop.
    bool sleep() {
        std::vector<pollfd> entries{{stop_.get(), POLLIN, 0}};
        for (const Fd& doorbell : hello_.doorbells) {
            entries.push_back({doorbell.get(), POLLIN, 0});
        }
        (void)::poll(entries.data(), entries.size(), 10'000);
        ++wakes;
        for (std::size_t i = 1; i != entries.size(); ++i) {
            eventfd_t count = 0;
            if (entries[i].revents != 0) {
                (void)::eventfd_read(entries[i].fd, &count);
            }
        }
        return entries[0].revents == 0;
    }

    Hello hello_;
    ring::Layout layout_;
    Mapping memory_;
    Fd stop_;
    std::vector<ring::Consumer> consumers_;
    std::thread thread_;
};

// Sends a message of type `then`, without a payload, in the same write, unless it is 0.
inline void send_hello_reply(vgpu::test::WirePeer& peer, const Hello& hello, std::uint32_t status,
                             std::uint64_t generation, std::uint32_t then = 0) {
    vgpu_msg_hello_reply reply{};
    reply.status = status;
    if (status == 0) {
        reply.layout_version = VGPU_SHM_LAYOUT_VERSION;
        reply.features = hello.fixed.features & (VGPU_FEATURE_SHM | VGPU_FEATURE_QUEUES);
        reply.generation = generation;
    }
    vgpu_msg_header header = hello.header;
    header.msg_type = VGPU_MSG_HELLO_REPLY;
    std::vector<std::byte> bytes;
    append_message(bytes, header, std::array{std::as_bytes(std::span(&reply, 1))});
    if (then != 0) {
        header.msg_type = then;
        append_message(bytes, header, {});
    }
    peer.send_raw({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
}

}  // namespace vgpu::client::test
