// SPDX-License-Identifier: MIT
//
// The system's journal (systemd-journald.service(8)) as a place for entries with fields.
//
//   any thread --> write() --> queue, at most Limits::bytes --> own thread --> sd_journal_sendv(3)
//
// The thread is there because sd_journal_sendv() may block: it sends on a blocking datagram socket,
// so it waits as long as the journal's queue is full (net.unix.max_dgram_qlen entries) or its own
// send buffer is (8 MiB, or what net.core.wmem_max leaves of it). There is no limit of time, and a
// journal that has been stopped with a full queue never takes anything. An entry that is too large
// for a datagram goes as a sealed memfd, which waits for the same queue. So nobody who has other
// work to do may call it. write() takes a mutex that is held for a few pointer operations and never
// during a system call; what does not fit into the queue is left out and counted.
#pragma once

#include <sys/uio.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace vgpu {

// Where sd_journal_sendv() sends to.
inline constexpr const char* kJournalSocket = "/run/systemd/journal/socket";

struct LogField {
    std::string_view name;  // capital letters, digits and '_', beginning with a letter; a literal
    std::string value;
};
using LogFields = std::vector<LogField>;

class Journal {
  public:
    // Hands an entry over, one "NAME=value" each: 0, or a negative errno. May block; is called on
    // one thread, one call at a time, and not after the destructor unless it hung then.
    using Send = std::function<int(std::span<const iovec>)>;
    struct Limits {
        std::size_t bytes = std::size_t{1} << 20U;  // waiting
        std::chrono::milliseconds farewell{1000};   // of the destructor
    };

    // Sends to the system's journal.
    Journal();
    Journal(Send send, Limits limits);
    Journal(const Journal&) = delete;
    Journal& operator=(const Journal&) = delete;
    // Waits for what has been written to be handed over, at most Limits::farewell.
    ~Journal();

    // Queues one entry; never waits for the journal. `priority` is one of syslog(3), 0 to 7. A
    // message or value may hold any byte: one with a newline is sent with its length before it, so
    // it can end neither its field nor the entry. An entry that the journal refuses goes to
    // standard error. (While there is no socket at kJournalSocket, libsystemd drops entries and
    // says nothing; systemd keeps that socket while the journal restarts.)
    void write(int priority, std::string_view message, const LogFields& fields);

  private:
    struct State;

    const Limits limits_;
    std::shared_ptr<State> state_;  // the thread's, too: it may outlive this object by one send()
    std::thread thread_;
};

// Whether the descriptor is the stream to the journal that `journal_stream`, the value of the
// environment variable JOURNAL_STREAM, names as "DEVICE:INODE" (systemd.exec(5)). nullptr: it is
// not set.
bool is_journal_stream(int fd, const char* journal_stream);

// Whether somebody listens at the journal's socket. Does not wait.
bool journal_answers(const char* path = kJournalSocket);

}  // namespace vgpu
