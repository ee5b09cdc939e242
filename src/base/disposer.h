// SPDX-License-Identifier: MIT
//
// Disposer: destroys objects on its own threads, for a thread that must not block. close(2) of a
// descriptor received from another process can take as long as that process likes (a TCP socket
// with SO_LINGER, a file on FUSE), and unmapping and closing a large memory file takes as long as
// freeing its pages.
//
//   any thread --> dispose() --> queue --> thread: destroys, may block
//                                     \--> another thread, while one blocks
//
// The last idle thread to become busy starts another one, up to Limits::threads. A blocking object
// occupies one thread until it is destroyed; once all threads block, further objects wait in the
// queue, and the caller must throttle the peers that add to it (waiting()).
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

    // Starts the first thread. Throws std::system_error if that fails.
    Disposer() : Disposer(Limits{}) {}
    explicit Disposer(Limits limits);
    Disposer(const Disposer&) = delete;
    Disposer& operator=(const Disposer&) = delete;
    // Waits until the queue is drained, at most Limits::farewell. Objects that still block are left
    // to their detached threads.
    ~Disposer();

    // Consumes the object: a thread destroys it if this was the last reference. Does not block on
    // that. Callable from any thread. Throws only std::bad_alloc.
    void dispose(std::shared_ptr<void> object);

    // Objects not destroyed yet, including those that block. Callable from any thread.
    [[nodiscard]] std::size_t waiting() const;

  private:
    struct State;

    Limits limits_;
    std::shared_ptr<State> state_;  // shared with the threads, which may outlive this object
};

}  // namespace vgpu
