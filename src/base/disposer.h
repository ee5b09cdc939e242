// SPDX-License-Identifier: MIT
//
// Disposer: destroys objects on threads of its own, for a thread that must not wait. close(2) of a
// descriptor that came from another process can take as long as that process likes (a TCP socket
// with SO_LINGER, a file on FUSE), and unmapping and closing a large memory file takes as long as
// freeing its pages.
//
//   any thread --> dispose() --> queue --> thread: destroys, may block
//                                     \--> the next thread, while one blocks
//
// Threads are started one by one, up to Limits::threads, by the last one that was free. An object
// that blocks costs one of them until it is done; once all block, what follows waits in the queue,
// and the peers that bring more have to be held off (waiting()).
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>

namespace vgpu {

class Disposer {
  public:
    struct Limits {
        std::size_t threads = 8;
        std::chrono::milliseconds farewell{100};  // how long the destructor waits for the queue
    };

    // Starts the first thread. Throws std::system_error if there is none to be had.
    Disposer() : Disposer(Limits{}) {}
    explicit Disposer(Limits limits);
    Disposer(const Disposer&) = delete;
    Disposer& operator=(const Disposer&) = delete;
    // Waits for the queue to be worked off, at most Limits::farewell. What still blocks then stays
    // with its detached thread.
    ~Disposer();

    // Consumes the object: when this was the last reference, it is destroyed by a thread. Never
    // waits for that. Any thread. Throws std::bad_alloc alone.
    void dispose(std::shared_ptr<void> object);

    // Objects handed over and not destroyed yet, those that block among them. Any thread.
    [[nodiscard]] std::size_t waiting() const;

  private:
    struct State;

    Limits limits_;
    std::shared_ptr<State> state_;  // the threads', too: they may outlive this object
};

}  // namespace vgpu
