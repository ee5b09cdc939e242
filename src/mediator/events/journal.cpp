// SPDX-License-Identifier: MIT
#include "mediator/events/journal.h"

#define SD_JOURNAL_SUPPRESS_LOCATION  // the line in this file is of no interest
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/fd.h"

namespace vgpu {
namespace {

constexpr std::string_view kMessage = "MESSAGE=";

// Returns "NAME=value" fields, the message first.
LogQueue::Item entry(int priority, std::string_view message, const LogFields& more) {
    LogQueue::Item fields;
    fields.reserve(more.size() + 3);
    fields.push_back(std::string(kMessage).append(message));
    fields.push_back("PRIORITY=" + std::to_string(priority));
    fields.emplace_back("SYSLOG_IDENTIFIER=vgpu-mediator");
    for (const LogField& field : more) {
        fields.push_back(std::string(field.name).append("=").append(field.value));
    }
    return fields;
}

int send_to_journal(std::span<const iovec> fields) {
    return ::sd_journal_sendv(fields.data(), static_cast<int>(fields.size()));
}

void hand_over(const Journal::Send& send, LogQueue::Item& fields) {
    std::vector<iovec> parts;
    parts.reserve(fields.size());
    for (std::string& field : fields) {
        parts.push_back({.iov_base = field.data(), .iov_len = field.size()});
    }
    if (const int result = send(parts); result < 0) {
        static_cast<void>(std::fprintf(stderr,
                                       "vgpu-mediator: %s (the journal rejected this line: %s)\n",
                                       fields.front().c_str() + kMessage.size(),
                                       std::generic_category().message(-result).c_str()));
    }
}

LogQueue::Item missing(std::uint64_t count) {
    return entry(
        LOG_WARNING,
        std::to_string(count) + " lines are missing here: the journal did not accept them in time",
        {});
}

}  // namespace

Journal::Journal() : Journal(send_to_journal, {}) {}

Journal::Journal(Send send, Limits limits)
    : queue_(
          {.write = [send = std::move(send)](LogQueue::Item& fields) { hand_over(send, fields); },
           .missing = missing},
          limits) {}

void Journal::write(int priority, std::string_view message, const LogFields& fields) {
    queue_.push(entry(priority, message, fields));
}

bool is_journal_stream(int fd, const char* journal_stream) {
    struct stat info {};
    if (journal_stream == nullptr || ::fstat(fd, &info) != 0) {
        return false;
    }
    const char* const end = journal_stream + std::strlen(journal_stream);
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    const auto first = std::from_chars(journal_stream, end, device);
    if (first.ec != std::errc() || first.ptr == end || *first.ptr != ':') {
        return false;
    }
    const auto second = std::from_chars(first.ptr + 1, end, inode);
    return second.ec == std::errc() && second.ptr == end && device == info.st_dev &&
           inode == info.st_ino;
}

bool journal_answers(const char* path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::size_t length = std::strlen(path);
    if (length >= sizeof address.sun_path) {
        return false;
    }
    std::memcpy(address.sun_path, path, length);
    const Fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    return fd &&
           ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

}  // namespace vgpu
