// SPDX-License-Identifier: MIT
//
// Child: a forked process of this program and a channel to it. The destructor kills it by process
// id; if this program ends in any other way, the kernel kills it.
//
// Children are forked before any thread is started and then wait for a command, because a fork of a
// multithreaded process is limited to little more than system calls.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "attack.h"
#include "base/fd.h"

namespace vgpu::attack {

// Makes SIGINT and SIGTERM no longer end this process; waits for a child throw Stopped instead.
void stop_on_signals();
// Throws Stopped after such a signal.
void throw_if_stopped();
struct Stopped {};

// One end of a message-based channel.
class Channel {
  public:
    using Bytes = std::vector<std::byte>;

    explicit Channel(Fd fd) : fd_(std::move(fd)) {}

    // Returns false if the other end is closed.
    bool send(std::span<const std::byte> message) const;
    // Returns the next message; empty if the other end is closed or sends an empty one; nullopt on
    // time-out. Without a limit, waits until the other end closes.
    [[nodiscard]] std::optional<Bytes> receive(
        std::optional<std::chrono::milliseconds> limit = std::nullopt) const;

  private:
    Fd fd_;
};

// Encodes a Place as a message.
Channel::Bytes encode(const Place& place);
Place decode_place(std::span<const std::byte> message);

class Child {
  public:
    // Forks. The child runs `body` and exits when it returns. If it throws, the child sends the
    // error text, prefixed with '!', and exits. Throws std::system_error.
    explicit Child(const std::function<void(const Channel&)>& body);
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child();

    [[nodiscard]] const Channel& channel() const { return *channel_; }
    // Returns the next message. Throws std::runtime_error if the child failed, exited, or timed
    // out: `what` names the expected action for the error text.
    [[nodiscard]] Channel::Bytes expect(const std::string& what,
                                        std::chrono::milliseconds limit) const;
    // Returns why the child has ended; nullopt while it runs.
    [[nodiscard]] std::optional<std::string> failure() const;

  private:
    pid_t pid_ = -1;
    std::optional<Channel> channel_;
};

}  // namespace vgpu::attack
