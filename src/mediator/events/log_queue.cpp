// SPDX-License-Identifier: MIT
#include "mediator/events/log_queue.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <numeric>
#include <utility>

#include "base/thread.h"

namespace vgpu {
namespace {

std::size_t size_of(const LogQueue::Item& item) {
    return std::accumulate(
        item.begin(), item.end(), std::size_t{0},
        [](std::size_t sum, const std::string& part) { return sum + part.size(); });
}

}  // namespace

struct LogQueue::State {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Item> items;
    std::size_t bytes = 0;   // of `items` and of the one being written
    std::uint64_t lost = 0;  // dropped and not yet reported
    bool stopping = false;   // end when the queue is empty
    bool abandoned = false;  // end at once
    bool finished = false;
    Output output;

    void push(Item item) {
        bytes += size_of(item);
        items.push_back(std::move(item));
    }
    void report_lost() {
        if (lost > 0) {
            push(output.missing(std::exchange(lost, 0)));
        }
    }
    void run() {
        std::unique_lock lock(mutex);
        for (;;) {
            changed.wait(lock, [this] { return stopping || !items.empty(); });
            if (abandoned || items.empty()) {
                break;
            }
            Item item = std::move(items.front());
            items.pop_front();
            const std::size_t size = size_of(item);
            lock.unlock();
            output.write(item);
            lock.lock();
            bytes -= size;
        }
        finished = true;
        changed.notify_all();
    }
};

LogQueue::LogQueue(Output output, Limits limits)
    : limits_(limits), state_(std::make_shared<State>()) {
    state_->output = std::move(output);
    thread_ = start_thread([state = state_] { state->run(); });
}

LogQueue::~LogQueue() {
    std::unique_lock lock(state_->mutex);
    state_->report_lost();
    state_->stopping = true;
    state_->changed.notify_all();
    const bool finished =
        state_->changed.wait_for(lock, limits_.farewell, [this] { return state_->finished; });
    state_->abandoned = true;
    lock.unlock();
    if (finished) {
        thread_.join();
    } else {
        thread_.detach();
    }
}

void LogQueue::push(Item item) {
    const std::lock_guard lock(state_->mutex);
    if (state_->bytes + size_of(item) > limits_.bytes) {
        ++state_->lost;
        return;
    }
    state_->report_lost();
    state_->push(std::move(item));
    state_->changed.notify_all();
}

}  // namespace vgpu
