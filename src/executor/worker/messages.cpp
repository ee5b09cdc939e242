// SPDX-License-Identifier: MIT
#include "executor/worker/messages.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

namespace vgpu::worker {
namespace {

// Room for more descriptors than a valid message has, so that surplus ones are closed here.
constexpr std::size_t kMostDescriptors = 4;

std::vector<Fd> descriptors_of(msghdr& header) {
    std::vector<Fd> descriptors;
    for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr;
         part = CMSG_NXTHDR(&header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= part->cmsg_len; at += sizeof(int)) {
            int fd = -1;
            std::memcpy(&fd, reinterpret_cast<const char*>(part) + at, sizeof fd);
            descriptors.emplace_back(fd);
        }
    }
    return descriptors;
}

}  // namespace

void send_wake(int socket) {
    static_cast<void>(::send(socket, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT));
}

int send_region(int socket, RegionId region, int fd) {
    RegionMessage message{.magic = RegionMessage::kMagic, .reserved = 0, .region = region};
    iovec bytes{.iov_base = &message, .iov_len = sizeof message};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr header{};
    header.msg_iov = &bytes;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* const part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(part), &fd, sizeof fd);
    return ::sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? errno : 0;
}

WorkerMessage receive(int socket) {
    RegionMessage message{};
    iovec bytes{.iov_base = &message, .iov_len = sizeof message};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(kMostDescriptors * sizeof(int))> control{};
    msghdr header{};
    header.msg_iov = &bytes;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    const ssize_t got = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    WorkerMessage received;
    if (got <= 0) {
        received.kind = got < 0 && (errno == EAGAIN || errno == EINTR)
                            ? WorkerMessage::Kind::kNothing
                            : WorkerMessage::Kind::kEnd;
        return received;
    }
    std::vector<Fd> descriptors = descriptors_of(header);
    const bool whole = (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
    // The buffer had room for it: this process has reached its descriptor limit.
    const bool lost =
        (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == MSG_CTRUNC && descriptors.empty();
    if (whole && got == 1 && descriptors.empty()) {
        received.kind = WorkerMessage::Kind::kWake;
    } else if (whole && got == sizeof message && message.magic == RegionMessage::kMagic &&
               descriptors.size() == 1) {
        received.kind = WorkerMessage::Kind::kRegion;
        received.region = message.region;
        received.fd = std::move(descriptors.front());
    } else if (lost && got == sizeof message && message.magic == RegionMessage::kMagic) {
        received.kind = WorkerMessage::Kind::kRegion;
        received.region = message.region;
    } else {
        received.kind = WorkerMessage::Kind::kNonsense;
    }
    return received;
}

}  // namespace vgpu::worker
