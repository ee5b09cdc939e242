// SPDX-License-Identifier: MIT
#include "client/queue/queue.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "base/relax.h"
#include "client/core/pause.h"

namespace vgpu::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Interval between checks that the mediator is still attached.
constexpr Nanoseconds kPollOfMediator = milliseconds(1);
// Upper limit of a sleep, a safeguard against a lost wake-up.
constexpr Nanoseconds kLongestSleep = seconds(1);
constexpr Nanoseconds kCloseFor = seconds(2);
constexpr std::uint32_t kReplySize = 1024;  // bytes of the queue's own reply buffer

Failure mediator_lost() {
    return {VGPU_E_MEDIATOR_LOST, vgpu_code_text(VGPU_E_MEDIATOR_LOST), 0};
}

Failure timed_out() {
    return {VGPU_E_WAIT_TIMEOUT, vgpu_code_text(VGPU_E_WAIT_TIMEOUT), 0};
}

const char* stop_text(std::uint32_t error) {
    switch (error) {
        case VGPU_QUEUE_ERR_RESET:
            return "another process reset it";
        case VGPU_QUEUE_ERR_TAIL_UNALIGNED:
        case VGPU_QUEUE_ERR_TAIL_RANGE:
            return "its producer index (tail) is invalid";
        case VGPU_QUEUE_ERR_RECORD_SIZE:
        case VGPU_QUEUE_ERR_RECORD_PAST_TAIL:
        case VGPU_QUEUE_ERR_RECORD_SPLIT:
        case VGPU_QUEUE_ERR_RECORD_PARTS:
        case VGPU_QUEUE_ERR_PADDING:
            return "a record in the ring is invalid, because the ring was overwritten";
        case VGPU_QUEUE_ERR_REPLY_PLACE:
            return "a reply place is outside the heap, not a multiple of 8, or shorter than 32 "
                   "bytes";
        default:
            return "this library does not know the reason";
    }
}

}  // namespace

Expected<std::unique_ptr<Queue>> Queue::open(std::shared_ptr<Region> region, std::uint32_t index,
                                             const Waiting& waiting, Nanoseconds deadline) {
    if (const auto attached = region->port().attach(); !attached) {
        return attached.failure();
    }
    if (region->generation_in_memory() == 0) {
        return no_queues(
            "the mediator uses another layout of the shared memory than this library: install the "
            "library that matches the host");
    }
    auto claimed = region->claim_queue(index, deadline);
    if (!claimed) {
        return claimed.failure();
    }
    std::unique_ptr<InterruptSource> interrupt;
    if (waiting.mode != WaitMode::kPoll) {
        interrupt = region->port().make_interrupt(claimed->index);
    }
    // From here on the destructor releases the queue.
    std::unique_ptr<Queue> queue(
        new Queue(std::move(region), *claimed, waiting, std::move(interrupt)));
    if (waiting.mode == WaitMode::kInterrupt && queue->interrupt_ == nullptr) {
        return Failure{VGPU_E_NO_INTERRUPT, vgpu_code_text(VGPU_E_NO_INTERRUPT), 0};
    }
    if (const auto begun = queue->begin(deadline); !begun) {
        return begun.failure();
    }
    return queue;
}

Queue::Queue(std::shared_ptr<Region> region, Region::ClaimedQueue claimed, const Waiting& waiting,
             std::unique_ptr<InterruptSource> interrupt)
    : region_(std::move(region)),
      index_(claimed.index),
      view_(region_->layout().queue(region_->base(), index_)),
      producer_(claimed.producer),
      waiting_(waiting),
      quick_polls_(
          waiting.mode == WaitMode::kInterrupt || waiting.spin == Nanoseconds(0) ? 1 : kQuickPolls),
      interrupt_(std::move(interrupt)) {}

Queue::~Queue() {
    producer_.wake();
    // Published commands are dropped or complete; the mediator cannot see unpublished ones.
    if (completed() < published_ && !region_->is_idle(index_) && !mediator_is_lost()) {
        if (producer_.request_reset()) {
            region_->port().ring_doorbell(index_);
        }
        // After a time-out, the next process that claims the queue or memory waits again.
        (void)region_->await_reset(producer_, region_->clock().now() + kCloseFor);
    }
    if (reply_block_) {
        (void)region_->free_block(*reply_block_);
    }
    for (const auto& [point, block] : kept_) {
        (void)region_->free_block(block);
    }
    interrupt_.reset();
    region_->give_queue_back(index_);
}

// Waits for the reset requested with the claim. Repeats it if the generation changed meanwhile.
Expected<void> Queue::begin(Nanoseconds deadline) {
    Pause pause(region_->clock(), Nanoseconds(0));
    for (;;) {
        generation_ = region_->generation_in_memory();
        const auto done =
            await([this] { return producer_.reset_progress() != ring::Reset::kPending; },
                  [this] { return producer_.prepare_sleep_for_reset(); }, deadline);
        if (!done) {
            return done.failure();
        }
        if (producer_.reset_progress() == ring::Reset::kRunning && generation_ != 0 &&
            region_->generation_in_memory() == generation_) {
            return {};
        }
        if (!pause.step(deadline)) {
            return timed_out();
        }
        if (producer_.request_reset()) {
            region_->port().ring_doorbell(index_);
        }
    }
}

Expected<void> Queue::wait(std::uint64_t point, Nanoseconds limit) {
    if (point > producer_.submitted()) {
        return Failure{VGPU_E_ARGUMENT, "no command with this point has been pushed", 0};
    }
    ring::Progress progress = ring::Progress::kPending;
    const auto poll = [&] {
        progress = producer_.poll(point);
        return progress != ring::Progress::kPending;
    };
    const Nanoseconds deadline = limit == kNever ? kNever : region_->clock().now() + limit;
    const auto done = await(
        poll, [this, point] { return producer_.prepare_sleep(point); }, deadline);
    if (progress == ring::Progress::kReached) {
        return {};
    }
    return progress == ring::Progress::kNever ? why_stopped() : done.failure();
}

// Waits until poll() returns true; the value of the Expected is meaningless. On VGPU_E_WAIT_TIMEOUT
// and VGPU_E_MEDIATOR_LOST, poll() was called once more after the condition was detected. Other
// errors: those of the interrupt.
template <typename Poll, typename PrepareSleep>
Expected<bool> Queue::await(Poll poll, PrepareSleep prepare_sleep, Nanoseconds deadline) {
    Clock& clock = region_->clock();
    const bool sleep_at_once = waiting_.mode == WaitMode::kInterrupt;
    const Nanoseconds spin = sleep_at_once ? Nanoseconds(0) : waiting_.spin;
    Pause pause(clock, spin);
    for (;;) {
        // Several polls per clock read, which costs as much.
        for (int polls = 0; polls != kQuickPolls; ++polls) {
            if (poll()) {
                return true;
            }
            if (spin == Nanoseconds(0)) {
                break;
            }
            relax_processor();
        }
        if (pause.long_since(kPollOfMediator) && mediator_is_lost()) {
            return poll() ? Expected<bool>(true) : mediator_lost();
        }
        if (interrupt_ == nullptr || pause.waited() < spin) {
            if (!pause.step(deadline)) {
                return poll() ? Expected<bool>(true) : timed_out();
            }
            continue;
        }
        const Nanoseconds now = clock.now();
        if (now >= deadline) {
            return poll() ? Expected<bool>(true) : timed_out();
        }
        if (const auto armed = interrupt_->arm(); !armed) {
            return armed.failure();
        }
        if (!prepare_sleep()) {
            continue;
        }
        const auto woken = interrupt_->wait(
            std::min(kLongestSleep, deadline == kNever ? kLongestSleep : deadline - now));
        producer_.wake();
        if (!woken) {
            return woken.failure();
        }
        if (poll()) {
            return true;
        }
        if (mediator_is_lost()) {
            return poll() ? Expected<bool>(true) : mediator_lost();
        }
    }
}

bool Queue::mediator_is_lost() {
    // A queue that is being opened accepts any generation.
    return !region_->port().attached() || (producer_.reset_progress() == ring::Reset::kRunning &&
                                           region_->generation_in_memory() != generation_);
}

Failure Queue::why_stopped() {
    const ring::QueueStatus status = producer_.status();
    if (status.error == VGPU_QUEUE_ERR_NOT_STARTED || status.error == VGPU_QUEUE_ERR_CLOSED ||
        mediator_is_lost()) {
        return mediator_lost();
    }
    return {VGPU_E_QUEUE_STOPPED,
            "the mediator stopped the queue before command " + std::to_string(status.error_index) +
                " (queue error " + std::to_string(status.error) + "): " + stop_text(status.error) +
                "; close the queue and open a new one",
            0};
}

Expected<vgpu_reply_place> Queue::own_reply_place(Nanoseconds deadline) {
    std::erase_if(kept_, [this](const auto& one) {
        return one.first <= completed() && region_->free_block(one.second).has_value();
    });
    if (!reply_block_) {
        const auto block = region_->alloc(kReplySize, 0, deadline);
        if (!block) {
            return block.failure();
        }
        reply_block_ = *block;
    }
    return vgpu_reply_place{reply_block_->offset, ++cookie_, kReplySize, 0};
}

void Queue::give_up_reply_place(std::uint64_t point) {
    keep_until(point, *reply_block_);
    reply_block_.reset();
}

void Queue::keep_until(std::uint64_t point, const vgpu_heap_block& block) {
    kept_.emplace_back(point, block);
}

}  // namespace vgpu::client
