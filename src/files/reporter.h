// SPDX-License-Identifier: MIT
//
// Messages of the file gateway for the operator, which the mediator logs. One datagram each: a
// level, then the text.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "sched/token_bucket.h"

namespace vgpu {

// The first byte of a datagram.
enum class FileNotice : char { kInfo = 'I', kWarning = 'W' };

// Sends messages over a socket, without blocking. Thread-safe.
class Reporter {
  public:
    // Borrows the descriptor of a SOCK_SEQPACKET socket.
    explicit Reporter(int socket) : socket_(socket) {}
    // A message that does not fit into the socket's buffer is dropped; the next one that fits is
    // preceded by one with the number of dropped ones.
    void send(FileNotice level, std::string_view text);

  private:
    bool try_send(FileNotice level, std::string_view text) const;

    int socket_;
    std::atomic<std::uint64_t> dropped_{0};
};

// The messages about one VM: at most one a second on average, and the same one once a minute. One
// thread at a time.
class VmReporter {
  public:
    explicit VmReporter(Reporter& reporter);

    void info(const std::string& text);
    void warn(const std::string& text);
    // A warning about a lasting condition.
    void problem(const std::string& text);
    // The condition is over: reports it with this text if there was one.
    void solved(const std::string& text);

  private:
    bool may_send(const std::string& text);

    Reporter& reporter_;
    TokenBucket budget_;
    std::string last_;
    std::chrono::nanoseconds last_at_{0};
    std::uint64_t suppressed_ = 0;
    bool problem_ = false;
};

}  // namespace vgpu
