// SPDX-License-Identifier: MIT
#include "base/disposer.h"

#include <semaphore.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <utility>

#include "base/thread.h"

namespace vgpu {

// The objects of one source.
struct Disposer::Queue {
    std::atomic<std::size_t> waiting{0};  // objects not destroyed yet

    // Protected by State::mutex:
    std::deque<std::shared_ptr<void>> objects;
    std::size_t destroying = 0;  // taken from the queue and not destroyed yet
    bool listed = false;         // in State::ready
};

// An object on its way to its queue.
struct Disposer::Incoming {
    std::shared_ptr<Queue> queue;
    std::shared_ptr<void> object;
    Incoming* next = nullptr;
};

// Adding takes no lock: a thread that is preempted while it holds one would block the adding one.
struct Disposer::State : std::enable_shared_from_this<State> {
    std::atomic<Incoming*> incoming{nullptr};  // newest first
    std::atomic<std::size_t> waiting{0};       // objects of all queues not destroyed yet
    std::atomic<std::size_t> idle{0};          // threads that are to be woken for an object
    sem_t wakes{};  // std::counting_semaphore of libstdc++ 12 can miss a release

    std::mutex mutex;                          // protects everything below
    std::condition_variable ended;             // signalled when a thread ends
    std::deque<std::shared_ptr<Queue>> ready;  // with objects that a thread may take
    std::size_t busy = 0;                      // threads that are destroying
    std::size_t threads = 0;
    std::size_t most_threads = 1;
    std::size_t most_per_source = 1;
    bool stopping = false;

    State() { ::sem_init(&wakes, 0, 0); }
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() {
        take_incoming();
        ::sem_destroy(&wakes);
    }

    void wake_one() { ::sem_post(&wakes); }
    void wait() {
        while (::sem_wait(&wakes) != 0 && errno == EINTR) {
        }
    }

    void add(std::shared_ptr<Queue> queue, std::shared_ptr<void> object) {
        ++queue->waiting;
        ++waiting;
        auto* const added = new Incoming{std::move(queue), std::move(object)};
        added->next = incoming.load();
        while (!incoming.compare_exchange_weak(added->next, added)) {
        }
        // Either this sees an idle thread, or the thread, which looks for objects after it has
        // become idle, sees the object: all accesses are sequentially consistent.
        if (idle.load() > 0) {
            wake_one();
        }
    }

    // Lists the queue if a thread may take an object from it. Precondition: as take_incoming().
    void list(const std::shared_ptr<Queue>& queue) {
        if (!queue->listed && !queue->objects.empty() && queue->destroying < most_per_source) {
            queue->listed = true;
            ready.push_back(queue);
        }
    }

    // Moves incoming objects to their queues, in order. Precondition: the mutex is held, or this is
    // the destructor.
    void take_incoming() {
        Incoming* reversed = nullptr;
        for (Incoming* one = incoming.exchange(nullptr); one != nullptr;) {
            Incoming* const following = one->next;
            one->next = reversed;
            reversed = one;
            one = following;
        }
        while (reversed != nullptr) {
            const std::unique_ptr<Incoming> one(reversed);
            reversed = one->next;
            one->queue->objects.push_back(std::move(one->object));
            list(one->queue);
        }
    }

    // Precondition: the mutex is held. Throws std::system_error.
    void add_thread() {
        start_thread([state = shared_from_this()] { state->run(); }).detach();
        ++threads;
    }

    void run() {
        std::unique_lock lock(mutex);
        for (destroy_all(lock); !stopping; destroy_all(lock)) {
            lock.unlock();
            ++idle;
            if (incoming.load() == nullptr) {
                wait();
            }
            --idle;
            lock.lock();
        }
        --threads;
        ended.notify_all();
    }

    // Destroys objects until there is none that this thread may take. Precondition: the lock is
    // held.
    void destroy_all(std::unique_lock<std::mutex>& lock) {
        for (take_incoming(); !ready.empty(); take_incoming()) {
            const std::shared_ptr<Queue> queue = std::move(ready.front());
            ready.pop_front();
            queue->listed = false;
            std::shared_ptr<void> object = std::move(queue->objects.front());
            queue->objects.pop_front();
            ++queue->destroying;
            list(queue);
            ++busy;
            keep_one_idle();
            lock.unlock();
            object.reset();
            --queue->waiting;
            --waiting;
            lock.lock();
            --busy;
            --queue->destroying;
            list(queue);
        }
    }

    // Makes sure that the object about to be destroyed keeps no other waiting, in case it blocks.
    // Precondition: the mutex is held.
    void keep_one_idle() {
        if (busy < threads) {
            if (!ready.empty()) {
                wake_one();
            }
            return;
        }
        if (threads < most_threads) {
            try {
                add_thread();
            } catch (const std::system_error&) {
                // Continue with the existing threads.
            }
        }
    }
};

void Disposer::Source::dispose(std::shared_ptr<void> object) const {
    state_->add(queue_, std::move(object));
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
    for (std::size_t i = 0; i < state_->threads; ++i) {
        state_->wake_one();
    }
    state_->ended.wait_for(lock, limits_.farewell, [this] { return state_->threads == 0; });
}

Disposer::Source Disposer::source() const {
    return {state_, std::make_shared<Queue>()};
}

std::size_t Disposer::waiting() const {
    return state_->waiting;
}

}  // namespace vgpu
