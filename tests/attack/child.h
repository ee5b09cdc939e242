// SPDX-License-Identifier: MIT
//
// Child: a forked process of this program and a channel to it. It is killed by its process id with
// the object, and by the kernel if this program ends in any other way.
//
// Children are forked before any thread is started and then wait for an order, because a forked
// copy of a process with threads may use little more than system calls.
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

// From here on SIGINT and SIGTERM do not end this process: every wait for a child throws Stopped.
void stop_on_signals();
// Throws Stopped after such a signal.
void throw_if_stopped();
struct Stopped {};

// One end of a channel that keeps messages apart.
class Channel {
  public:
    using Bytes = std::vector<std::byte>;

    explicit Channel(Fd fd) : fd_(std::move(fd)) {}

    // False if the other end is gone.
    bool send(std::span<const std::byte> message) const;
    // The next message; empty if the other end is gone or sends an empty one; nothing at the
    // limit. Without a limit: waits as long as the other end lives.
    [[nodiscard]] std::optional<Bytes> receive(
        std::optional<std::chrono::milliseconds> limit = std::nullopt) const;

  private:
    Fd fd_;
};

// A Place as a message.
Channel::Bytes encode(const Place& place);
Place decode_place(std::span<const std::byte> message);

class Child {
  public:
    // Forks. The child runs `body` and ends when that returns. If it throws, the child sends the
    // sentence, with a '!' before it, and ends. Throws std::system_error.
    explicit Child(const std::function<void(const Channel&)>& body);
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child();

    [[nodiscard]] const Channel& channel() const { return *channel_; }
    // The next message. Throws std::runtime_error if the child failed, ended, or sends nothing
    // within the limit: `what` names what it was to do.
    [[nodiscard]] Channel::Bytes expect(const std::string& what,
                                        std::chrono::milliseconds limit) const;
    // Why the child has ended; nothing while it runs.
    [[nodiscard]] std::optional<std::string> failure() const;

  private:
    pid_t pid_ = -1;
    std::optional<Channel> channel_;
};

}  // namespace vgpu::attack
