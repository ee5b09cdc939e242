// SPDX-License-Identifier: MIT
//
// LogQueue: lets a thread of its own write the log, because what takes the log may not take it for
// as long as it likes: a journal that hangs, a pipe that is not read, a terminal stopped with
// Ctrl-S. A thread that has other work to do never waits for any of them.
//
//   any thread --> push() --> queue, at most Limits::bytes --> own thread --> Output::write()
//
// push() takes a mutex that is held for a few pointer operations and never during a system call.
// What does not fit into the queue is left out and counted, and the log says how much is missing.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace vgpu {

class LogQueue {
  public:
    // One entry: a line, or its fields.
    using Item = std::vector<std::string>;
    struct Output {
        // Hands an entry over; may block. Is called on one thread, one call at a time, and not
        // after the destructor unless it hung then.
        std::function<void(Item&)> write;
        // An entry that says that so many are missing before it.
        std::function<Item(std::uint64_t count)> missing;
    };
    struct Limits {
        std::size_t bytes = std::size_t{1} << 20U;  // waiting
        std::chrono::milliseconds farewell{1000};   // of the destructor
    };

    // Throws std::system_error if there is no thread to be had.
    LogQueue(Output output, Limits limits);
    LogQueue(const LogQueue&) = delete;
    LogQueue& operator=(const LogQueue&) = delete;
    // Waits for what has been pushed to be handed over, at most Limits::farewell.
    ~LogQueue();

    // Queues one entry. Any thread.
    void push(Item item);

  private:
    struct State;

    const Limits limits_;
    std::shared_ptr<State> state_;  // the thread's, too: it may outlive this object by one write
    std::thread thread_;
};

}  // namespace vgpu
