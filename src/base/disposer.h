// SPDX-License-Identifier: MIT
//
// Disposer: destroys objects on its own threads, for a thread that must not block. close(2) of a
// descriptor received from another process can take as long as that process likes (a file on FUSE),
// and unmapping and closing a large memory file takes as long as freeing its pages.
//
//   source 1 --> dispose() --> queue ──┐
//   source 2 --> dispose() --> queue ──┴──> threads: destroy, may block
//
// Sources take turns, and each occupies at most Limits::threads_per_source threads: objects of one
// that block delay those of the others only if several sources do it. The last idle thread to
// become busy starts another one, up to Limits::threads. The caller must throttle a source whose
// objects are not destroyed fast enough (waiting()).
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <utility>

namespace vgpu {

class Disposer {
    struct State;
    struct Queue;
    struct Incoming;

  public:
    struct Limits {
        std::size_t threads = 8;
        std::size_t threads_per_source = 8;
        std::chrono::milliseconds farewell{100};  // how long the destructor waits for the queues
    };

    // Those who share a queue. A copy is the same source. Callable from any thread; may outlive the
    // Disposer, whose threads then do not destroy anything more.
    class Source {
      public:
        // Consumes the object: a thread destroys it if this was the last reference. Takes no lock.
        // Throws only std::bad_alloc.
        void dispose(std::shared_ptr<void> object) const;
        // Objects of this source not destroyed yet, including those that block. Takes no lock.
        [[nodiscard]] std::size_t waiting() const;

      private:
        friend class Disposer;
        Source(std::shared_ptr<State> state, std::shared_ptr<Queue> queue)
            : state_(std::move(state)), queue_(std::move(queue)) {}

        std::shared_ptr<State> state_;
        std::shared_ptr<Queue> queue_;
    };

    // Starts the first thread. Throws std::system_error if that fails.
    Disposer() : Disposer(Limits{}) {}
    explicit Disposer(Limits limits);
    Disposer(const Disposer&) = delete;
    Disposer& operator=(const Disposer&) = delete;
    // Waits until the queues are drained, at most Limits::farewell. Objects that still block are
    // left to their detached threads.
    ~Disposer();

    [[nodiscard]] Source source() const;

    // Objects of all sources not destroyed yet. Callable from any thread; takes no lock.
    [[nodiscard]] std::size_t waiting() const;

  private:
    Limits limits_;
    std::shared_ptr<State> state_;  // shared with the threads, which may outlive this object
};

}  // namespace vgpu
