// SPDX-License-Identifier: MIT
//
// Building blocks of the session fuzzer: a connection with its shared memory, descriptors of all
// kinds, and non-blocking sends.
#pragma once

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "base/fd.h"
#include "base/mapping.h"
#include "fuzz/input.h"
#include "ring/layout.h"
#include "ring/producer.h"
#include "vgpu_protocol.h"

namespace vgpu::fuzz {

inline constexpr std::size_t kMostDescriptors = 40;
inline constexpr std::uint64_t kMemorySize = VGPU_SHM_SIZE_MIN;
inline constexpr int kRightSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW;

// A connection and its shared memory.
struct Connection {
    Fd socket;
    std::uint32_t vm_id = 0;
    std::uint8_t pool = 'A';
    std::uint8_t priority = VGPU_PRIORITY_MEDIUM;
    Fd memory;
    Mapping mapping;
    std::optional<ring::Layout> layout;
    std::vector<Fd> events;  // doorbell and interrupt of each queue
    std::vector<ring::Producer> producers;
};

inline Fd make_memory(std::uint64_t size, int seals) {
    Fd memory(::memfd_create("vgpu-fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!memory || ::ftruncate(memory.get(), static_cast<off_t>(size)) != 0) {
        return {};
    }
    static_cast<void>(::fcntl(memory.get(), F_ADD_SEALS, seals));
    return memory;
}

inline Fd make_descriptor(Input& input) {
    switch (input.below(12)) {
        case 0:
            return make_memory(kMemorySize, kRightSeals);
        case 1:
            return make_memory(kMemorySize, static_cast<int>(input.below(32)));
        case 2:
            return make_memory(input.value() % (std::uint64_t{8} << 20U), kRightSeals);
        case 3:
            return Fd(::eventfd(0, EFD_CLOEXEC));
        case 4:
            return Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE));
        case 5: {
            std::array<int, 2> ends{};
            if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
                return {};
            }
            const bool first = input.flag();
            ::close(ends[first ? 1 : 0]);
            return Fd(ends[first ? 0 : 1]);
        }
        case 6: {
            std::array<int, 2> ends{};
            if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
                return {};
            }
            ::close(ends[1]);
            return Fd(ends[0]);
        }
        case 7:
            return Fd(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
        case 8:
            return Fd(::open("/dev/null", O_RDWR | O_CLOEXEC));
        case 9:
            return Fd(::open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));
        default:
            return Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    }
}

// Sends as much as the socket accepts without blocking.
inline void send_bytes(Connection& to, std::span<const std::uint8_t> bytes,
                       std::span<const int> descriptors = {}) {
    if (!to.socket || bytes.empty()) {
        return;
    }
    iovec part{const_cast<std::uint8_t*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * kMostDescriptors)> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!descriptors.empty()) {
        message.msg_control = control.data();
        message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
        cmsghdr* const rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(descriptors.size_bytes());
        std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size_bytes());
    }
    static_cast<void>(::sendmsg(to.socket.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT));
}

inline void send_message(Connection& to, std::uint32_t type, std::uint32_t id,
                         std::span<const std::uint8_t> payload,
                         std::span<const int> descriptors = {}) {
    vgpu_msg_header header{};
    header.magic = VGPU_MSG_MAGIC;
    header.msg_type = type;
    header.vm_id = to.vm_id;
    header.request_id = id;
    header.pool_id = to.pool;
    header.priority = to.priority;
    header.payload_len = static_cast<std::uint16_t>(payload.size());
    std::vector<std::uint8_t> bytes(sizeof header + payload.size());
    std::memcpy(bytes.data(), &header, sizeof header);
    if (!payload.empty()) {
        std::memcpy(bytes.data() + sizeof header, payload.data(), payload.size());
    }
    send_bytes(to, bytes, descriptors);
}

}  // namespace vgpu::fuzz
