// SPDX-License-Identifier: MIT
//
// LogQueue: writes the log on its own thread, because the log's target may block indefinitely: a
// hung journal, a pipe that is not read, a terminal stopped with Ctrl-S. A thread that has other
// work to do never waits for any of them.
//
//   any thread --> push() --> queue, at most Limits::bytes --> own thread --> Output::write()
//
// push() holds a mutex for a few pointer operations and never during a system call. Entries that do
// not fit into the queue are dropped and counted, and the log reports how many are missing.
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
        // Writes an entry; may block. Called on one thread, one call at a time. After the
        // destructor no call starts; a blocked one may continue.
        std::function<void(Item&)> write;
        // Returns an entry that reports `count` missing entries.
        std::function<Item(std::uint64_t count)> missing;
    };
    struct Limits {
        std::size_t bytes = std::size_t{1} << 20U;  // queued
        std::chrono::milliseconds farewell{1000};   // time limit of the destructor
    };

    // Throws std::system_error if the thread cannot be created.
    LogQueue(Output output, Limits limits);
    LogQueue(const LogQueue&) = delete;
    LogQueue& operator=(const LogQueue&) = delete;
    // Waits until all entries are written, at most Limits::farewell.
    ~LogQueue();

    // Queues one entry. Any thread.
    void push(Item item);

  private:
    struct State;

    const Limits limits_;
    std::shared_ptr<State> state_;  // the thread may outlive this object by one write
    std::thread thread_;
};

}  // namespace vgpu
