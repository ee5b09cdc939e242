// SPDX-License-Identifier: MIT
//
// The system's journal (systemd-journald.service(8)) as a log target with structured fields.
//
// sd_journal_sendv(3) may block: it sends on a blocking datagram socket, so it waits while the
// journal's queue is full (net.unix.max_dgram_qlen entries) or its own send buffer is (8 MiB, or
// less if net.core.wmem_max limits it). There is no time-out, and a journal that was stopped with a
// full queue never accepts anything. An entry too large for a datagram is sent as a sealed memfd,
// which waits for the same queue. Therefore a LogQueue calls it.
#pragma once

#include <sys/uio.h>

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mediator/events/log_queue.h"

namespace vgpu {

// Destination of sd_journal_sendv().
inline constexpr const char* kJournalSocket = "/run/systemd/journal/socket";

struct LogField {
    std::string_view name;  // capital letters, digits and '_', beginning with a letter; a literal
    std::string value;
};
using LogFields = std::vector<LogField>;

class Journal {
  public:
    // Sends an entry of "NAME=value" fields: 0, or a negative errno. May block. Called on one
    // thread, one call at a time. After the destructor no call starts; a blocked one may continue.
    using Send = std::function<int(std::span<const iovec>)>;
    using Limits = LogQueue::Limits;

    // Sends to the system's journal.
    Journal();
    Journal(Send send, Limits limits);
    // Queues one entry; never waits for the journal. `priority` is a level of syslog(3), 0 to 7. A
    // message or value may contain any byte: one with a newline is sent with its length before it,
    // so it can terminate neither its field nor the entry. An entry that the journal rejects goes
    // to standard error. (While there is no socket at kJournalSocket, libsystemd drops entries
    // silently; systemd keeps that socket while the journal restarts.)
    void write(int priority, std::string_view message, const LogFields& fields);

  private:
    LogQueue queue_;
};

// Returns whether the descriptor is the stream to the journal that `journal_stream`, the value of
// the environment variable JOURNAL_STREAM, names as "DEVICE:INODE" (systemd.exec(5)). False for
// nullptr: it is not set.
bool is_journal_stream(int fd, const char* journal_stream);

// Returns whether a process listens on the journal's socket. Does not block.
bool journal_answers(const char* path = kJournalSocket);

}  // namespace vgpu
