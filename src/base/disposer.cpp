// SPDX-License-Identifier: MIT
#include "base/disposer.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <utility>

#include "base/thread.h"

namespace vgpu {

// The objects of one source; protected by State::mutex.
struct Disposer::Queue {
    std::deque<std::shared_ptr<void>> objects;
    std::size_t destroying = 0;           // taken from the queue and not destroyed yet
    bool listed = false;                  // in State::ready
    std::atomic<std::size_t> waiting{0};  // objects, and those being destroyed
};

struct Disposer::State : std::enable_shared_from_this<State> {
    std::mutex mutex;  // protects everything below
    std::condition_variable changed;
    std::deque<std::shared_ptr<Queue>> ready;  // with objects that a thread may take
    std::atomic<std::size_t> waiting{0};       // in all queues, and being destroyed
    std::size_t destroying = 0;
    std::size_t threads = 0;
    std::size_t most_threads = 1;
    std::size_t most_per_source = 1;
    bool stopping = false;

    // Lists a queue that a thread may take an object from. Precondition: the mutex is held.
    void list(const std::shared_ptr<Queue>& queue) {
        if (!queue->listed && !queue->objects.empty() && queue->destroying < most_per_source) {
            queue->listed = true;
            ready.push_back(queue);
        }
    }

    // Precondition: the mutex is held. Throws std::system_error.
    void add_thread() {
        start_thread([state = shared_from_this()] { state->run(); }).detach();
        ++threads;
    }

    // Adds an object. Returns true if an idle thread has to be woken for it.
    bool add(const std::shared_ptr<Queue>& queue, std::shared_ptr<void> object) {
        const std::lock_guard lock(mutex);
        queue->objects.push_back(std::move(object));
        ++queue->waiting;
        ++waiting;
        list(queue);
        return destroying < threads;
    }

    void run() {
        std::unique_lock lock(mutex);
        for (;;) {
            changed.wait(lock, [this] { return stopping || !ready.empty(); });
            if (ready.empty()) {
                break;
            }
            const std::shared_ptr<Queue> queue = std::move(ready.front());
            ready.pop_front();
            queue->listed = false;
            std::shared_ptr<void> object = std::move(queue->objects.front());
            queue->objects.pop_front();
            ++queue->destroying;
            ++destroying;
            list(queue);
            // Keep one thread idle for the next object, in case this one blocks.
            if (destroying == threads && threads < most_threads) {
                try {
                    add_thread();
                } catch (const std::system_error&) {
                    // Continue with the existing threads.
                }
            }
            lock.unlock();
            object.reset();
            lock.lock();
            --queue->destroying;
            --destroying;
            --queue->waiting;
            --waiting;
            list(queue);
        }
        --threads;
        changed.notify_all();
    }
};

void Disposer::Source::dispose(std::shared_ptr<void> object) const {
    if (state_->add(queue_, std::move(object))) {
        state_->changed.notify_one();
    }
}

std::size_t Disposer::Source::waiting() const {
    return queue_->waiting;
}

Disposer::Disposer(Limits limits) : limits_(limits), state_(std::make_shared<State>()) {
    state_->most_threads = limits.threads;
    state_->most_per_source = limits.threads_per_source;
    const std::lock_guard lock(state_->mutex);
    state_->add_thread();
}

Disposer::~Disposer() {
    std::unique_lock lock(state_->mutex);
    state_->stopping = true;
    state_->changed.notify_all();
    state_->changed.wait_for(lock, limits_.farewell, [this] { return state_->threads == 0; });
}

Disposer::Source Disposer::source() const {
    return {state_, std::make_shared<Queue>()};
}

std::size_t Disposer::waiting() const {
    return state_->waiting;
}

}  // namespace vgpu
