// SPDX-License-Identifier: MIT
#include "mediator/journal.h"

#define SD_JOURNAL_SUPPRESS_LOCATION  // the line here is nobody's business
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include <charconv>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <mutex>
#include <system_error>
#include <utility>

#include "base/fd.h"

namespace vgpu {
namespace {

constexpr std::string_view kMessage = "MESSAGE=";

// "NAME=value" each, the message first.
struct Entry {
    std::vector<std::string> fields;
    std::size_t bytes = 0;

    Entry(int priority, std::string_view message, const LogFields& more) {
        add(std::string(kMessage).append(message));
        add("PRIORITY=" + std::to_string(priority));
        add("SYSLOG_IDENTIFIER=vgpu-mediator");
        for (const LogField& field : more) {
            add(std::string(field.name).append("=").append(field.value));
        }
    }
    void add(std::string field) {
        bytes += field.size();
        fields.push_back(std::move(field));
    }
};

int send_to_journal(std::span<const iovec> fields) {
    return ::sd_journal_sendv(fields.data(), static_cast<int>(fields.size()));
}

void hand_over(const Journal::Send& send, Entry& entry) {
    std::vector<iovec> fields;
    fields.reserve(entry.fields.size());
    for (std::string& field : entry.fields) {
        fields.push_back({.iov_base = field.data(), .iov_len = field.size()});
    }
    if (const int result = send(fields); result < 0) {
        static_cast<void>(
            std::fprintf(stderr, "vgpu-mediator: %s (the journal did not take this line: %s)\n",
                         entry.fields.front().c_str() + kMessage.size(),
                         std::generic_category().message(-result).c_str()));
    }
}

}  // namespace

struct Journal::State {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Entry> entries;
    std::size_t bytes = 0;   // of `entries` and of the one that is being sent
    std::uint64_t lost = 0;  // left out and not yet said
    bool stopping = false;   // end when there is nothing left
    bool abandoned = false;  // end at once
    bool finished = false;
    Send send;

    void push(Entry entry) {
        bytes += entry.bytes;
        entries.push_back(std::move(entry));
    }
    void report_lost() {
        if (lost > 0) {
            push(Entry(LOG_WARNING,
                       std::to_string(std::exchange(lost, 0)) +
                           " lines are missing here: the journal did not take them in time",
                       {}));
        }
    }
    void run() {
        std::unique_lock lock(mutex);
        for (;;) {
            changed.wait(lock, [this] { return stopping || !entries.empty(); });
            if (abandoned || entries.empty()) {
                break;
            }
            Entry entry = std::move(entries.front());
            entries.pop_front();
            lock.unlock();
            hand_over(send, entry);
            lock.lock();
            bytes -= entry.bytes;
        }
        finished = true;
        changed.notify_all();
    }
};

Journal::Journal() : Journal(send_to_journal, {}) {}

Journal::Journal(Send send, Limits limits) : limits_(limits), state_(std::make_shared<State>()) {
    state_->send = std::move(send);
    // The signals are the control loop's; and none may interrupt a send.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        thread_ = std::thread([state = state_] { state->run(); });
    } catch (...) {
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        throw;
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Journal::~Journal() {
    std::unique_lock lock(state_->mutex);
    state_->report_lost();
    state_->stopping = true;
    state_->changed.notify_all();
    const bool finished =
        state_->changed.wait_for(lock, limits_.farewell, [this] { return state_->finished; });
    state_->abandoned = true;
    lock.unlock();
    if (finished) {
        thread_.join();
    } else {
        thread_.detach();
    }
}

void Journal::write(int priority, std::string_view message, const LogFields& fields) {
    Entry entry(priority, message, fields);
    const std::lock_guard lock(state_->mutex);
    if (state_->bytes + entry.bytes > limits_.bytes) {
        ++state_->lost;
        return;
    }
    state_->report_lost();
    state_->push(std::move(entry));
    state_->changed.notify_all();
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
