// SPDX-License-Identifier: MIT
//
// The system's journal (systemd-journald.service(8)) as a place for entries with fields.
//
// sd_journal_sendv(3) may block: it sends on a blocking datagram socket, so it waits as long as the
// journal's queue is full (net.unix.max_dgram_qlen entries) or its own send buffer is (8 MiB, or
// what net.core.wmem_max leaves of it). There is no limit of time, and a journal that has been
// stopped with a full queue never takes anything. An entry that is too large for a datagram goes as
// a sealed memfd, which waits for the same queue. So a LogQueue calls it.
#pragma once

#include <sys/uio.h>

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mediator/events/log_queue.h"

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
    using Limits = LogQueue::Limits;

    // Sends to the system's journal.
    Journal();
    Journal(Send send, Limits limits);
    // Queues one entry; never waits for the journal. `priority` is one of syslog(3), 0 to 7. A
    // message or value may hold any byte: one with a newline is sent with its length before it, so
    // it can end neither its field nor the entry. An entry that the journal refuses goes to
    // standard error. (While there is no socket at kJournalSocket, libsystemd drops entries and
    // says nothing; systemd keeps that socket while the journal restarts.)
    void write(int priority, std::string_view message, const LogFields& fields);

  private:
    LogQueue queue_;
};

// Whether the descriptor is the stream to the journal that `journal_stream`, the value of the
// environment variable JOURNAL_STREAM, names as "DEVICE:INODE" (systemd.exec(5)). nullptr: it is
// not set.
bool is_journal_stream(int fd, const char* journal_stream);

// Whether somebody listens at the journal's socket. Does not wait.
bool journal_answers(const char* path = kJournalSocket);

}  // namespace vgpu
