// SPDX-License-Identifier: MIT
#include "base/disposer.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <utility>

#include "base/thread.h"

namespace vgpu {

struct Disposer::State : std::enable_shared_from_this<State> {
    std::mutex mutex;  // protects everything below
    std::condition_variable changed;
    std::deque<std::shared_ptr<void>> queue;
    std::size_t destroying = 0;  // taken from the queue and not destroyed yet
    std::size_t threads = 0;
    std::size_t most_threads = 1;
    bool stopping = false;

    // Precondition: the mutex is held.
    [[nodiscard]] bool all_busy() const { return destroying == threads; }

    // Precondition: the mutex is held. Throws std::system_error.
    void add_thread() {
        start_thread([state = shared_from_this()] { state->run(); }).detach();
        ++threads;
    }

    void run() {
        std::unique_lock lock(mutex);
        for (;;) {
            changed.wait(lock, [this] { return stopping || !queue.empty(); });
            if (queue.empty()) {
                break;
            }
            std::shared_ptr<void> object = std::move(queue.front());
            queue.pop_front();
            ++destroying;
            // Keep one thread idle for the next object, in case this one blocks.
            if (all_busy() && threads < most_threads) {
                try {
                    add_thread();
                } catch (const std::system_error&) {
                    // Continue with the existing threads.
                }
            }
            lock.unlock();
            object.reset();
            lock.lock();
            --destroying;
            changed.notify_all();
        }
        --threads;
        changed.notify_all();
    }
};

Disposer::Disposer(Limits limits) : limits_(limits), state_(std::make_shared<State>()) {
    state_->most_threads = limits.threads;
    const std::lock_guard lock(state_->mutex);
    state_->add_thread();
}

Disposer::~Disposer() {
    std::unique_lock lock(state_->mutex);
    state_->stopping = true;
    state_->changed.notify_all();
    state_->changed.wait_for(lock, limits_.farewell, [this] { return state_->threads == 0; });
}

void Disposer::dispose(std::shared_ptr<void> object) {
    const std::lock_guard lock(state_->mutex);
    state_->queue.push_back(std::move(object));
    state_->changed.notify_one();
}

std::size_t Disposer::waiting() const {
    const std::lock_guard lock(state_->mutex);
    return state_->queue.size() + state_->destroying;
}

}  // namespace vgpu
