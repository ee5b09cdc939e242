// SPDX-License-Identifier: MIT
//
// Consumer: the host's end of a queue. It takes records one by one, copies each into private
// memory, and advances the timeline as their commands complete.
//
//   Consumer queue(layout.queue(base, 0), layout);     // stopped until the guest requests a reset
//   switch (queue.take(record)) {
//       case Take::kRecord:  queue or run the command; later: if (queue.complete(1)) interrupt;
//       case Take::kReset:   once queue.in_flight() == 0: if (queue.finish_reset()) interrupt;
//       case Take::kStopped: if (queue.take_interrupt()) interrupt;
//       case Take::kEmpty:   spin for a while; if (queue.prepare_sleep()) wait for the doorbell,
//                            then queue.wake();
//   }
//
// The guest is hostile: it may change any word and any byte at any time. Each word is read once and
// each record is copied once; the checks apply to that copy. State that this side has written is
// kept here and never read back. Whatever the guest writes, a call processes at most one padding
// record and one record, and does not block, allocate or throw. Invalid input stops the queue with
// an error code that the guest can read, until the guest requests a reset. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "ring/layout.h"
#include "ring/record.h"
#include "ring/shared_memory.h"
#include "vgpu_protocol.h"

namespace vgpu::ring {

// What take() found.
enum class Take : std::uint8_t {
    kRecord,   // a command, checked and copied
    kEmpty,    // nothing to take
    kStopped,  // an error, found in this call or an earlier one: error()
    kReset,    // the guest requests a reset: drain in-flight commands, then finish_reset()
};

template <typename Memory>
class BasicConsumer {
  public:
    // Starts a generation: the queue is empty, its timeline is at 0, and it is stopped with
    // VGPU_QUEUE_ERR_NOT_STARTED. Borrows the memory, which has `layout`.
    BasicConsumer(const QueueView& queue, const Layout& layout) : queue_(queue), layout_(layout) {
        vgpu_queue_control& control = *queue_.control;
        // An earlier request does not belong to this generation.
        reset_done_ = Memory::load_relaxed(control.reset_request);
        Memory::store_relaxed(control.doorbell_wanted, std::uint64_t{0});
        publish_state(state_, error_);
        Memory::store_release(control.completed, completed_);
        Memory::store_release(control.reset_ack, reset_done_);
    }

    // Takes the next command. On kRecord `record` holds it, its space in the ring is free again,
    // and it counts as in flight until complete(). Otherwise the content of `record` is undefined.
    [[nodiscard]] [[gnu::always_inline]] Take take(Record& record) {
        if (state_ != VGPU_QUEUE_RUNNING || head_ == tail_) {
            if (const Take news = refresh(); news != Take::kRecord) {
                return news;
            }
        }
        // At most one padding record: the record after it is at the start of the ring, where
        // padding would be too long.
        Copied copied = Copied::kPadding;
        while ((copied = copy_record(record)) == Copied::kPadding) {
            if (head_ == tail_) {
                return Take::kEmpty;
            }
        }
        return copied == Copied::kRecord ? Take::kRecord : Take::kStopped;
    }

    // Completes the `count` oldest commands in flight, whose replies are written. Returns true if
    // the guest must be interrupted. Precondition: count <= in_flight().
    [[nodiscard]] bool complete(std::uint64_t count) {
        advance(count);
        return timeline_interrupt_owed();
    }
    // Same, without the fence and the check of whether the guest sleeps. A complete(), possibly of
    // 0 commands, must follow soon.
    void advance(std::uint64_t count) {
        completed_ += count;
        Memory::store_release(queue_.control->completed, completed_);
    }
    // Same as complete() where the GPU has advanced the timeline to that value itself.
    [[nodiscard]] bool note_completed(std::uint64_t count) {
        completed_ += count;
        // For its ordering only; the guest may have written the value.
        static_cast<void>(Memory::load_acquire(queue_.control->completed));
        return timeline_interrupt_owed();
    }

    // Stops a running queue before its next command. Returns true if the guest must be interrupted.
    [[nodiscard]] bool stop(vgpu_queue_error error) {
        if (state_ == VGPU_QUEUE_RUNNING) {
            leave(VGPU_QUEUE_STOPPED, error);
        }
        return take_interrupt();
    }

    // Returns whether the guest sleeps and must be notified that take() has stopped the queue. True
    // at most once for each stop.
    [[nodiscard]] bool take_interrupt() {
        const bool owed = state_interrupt_owed_;
        state_interrupt_owed_ = false;
        return owed;
    }

    // Carries out the reset that take() has reported: drops what was not taken and sets the queue
    // running (or stopped, if the guest's tail is invalid as well). The timeline is unchanged.
    // Returns true if the guest must be interrupted. Does nothing while commands are in flight or
    // if no reset was reported.
    [[nodiscard]] bool finish_reset() {
        if (state_ != VGPU_QUEUE_RESETTING || in_flight() != 0) {
            return false;
        }
        vgpu_queue_control& control = *queue_.control;
        reset_done_ = Memory::load_acquire(control.reset_request);
        const std::uint64_t tail = Memory::load_relaxed(control.tail);
        const bool aligned = tail % VGPU_RECORD_ALIGN == 0;
        head_ = tail_ = tail - tail % VGPU_RECORD_ALIGN;
        woken_ = 0;
        Memory::store_relaxed(control.head, head_);
        if (aligned) {
            state_ = VGPU_QUEUE_RUNNING;
            error_ = VGPU_QUEUE_ERR_NONE;
            Memory::store_relaxed(control.error, static_cast<std::uint32_t>(error_));
            Memory::store_release(control.state, static_cast<std::uint32_t>(state_));
        } else {
            publish_state(VGPU_QUEUE_STOPPED, VGPU_QUEUE_ERR_TAIL_UNALIGNED);
        }
        Memory::store_release(control.reset_ack, reset_done_);
        state_interrupt_owed_ = false;
        return guest_sleeps();
    }

    // Requests a doorbell and polls once more. True: sleep until the doorbell, then call wake().
    // False: take() has something to return, and no doorbell is requested. Spurious doorbells are
    // possible.
    [[nodiscard]] bool prepare_sleep() {
        vgpu_queue_control& control = *queue_.control;
        Memory::store_relaxed(control.doorbell_wanted, ++sleeps_);
        Memory::fence();
        const bool idle = Memory::load_relaxed(control.reset_request) == seen_reset() &&
                          (state_ != VGPU_QUEUE_RUNNING ||
                           (head_ == tail_ && Memory::load_relaxed(control.tail) == tail_));
        if (!idle) {
            wake();
        }
        return idle;
    }
    // Requests no more doorbells.
    void wake() { Memory::store_relaxed(queue_.control->doorbell_wanted, std::uint64_t{0}); }

    // Commands of this generation.
    [[nodiscard]] std::uint64_t taken() const { return taken_; }
    [[nodiscard]] std::uint64_t completed() const { return completed_; }
    [[nodiscard]] std::uint64_t in_flight() const { return taken_ - completed_; }

    [[nodiscard]] vgpu_queue_state state() const { return state_; }
    // Why the queue is not running.
    [[nodiscard]] vgpu_queue_error error() const { return error_; }

  private:
    enum class Copied : std::uint8_t { kRecord, kPadding, kError };
    static constexpr std::uint64_t kFetchAhead = 512;  // bytes
    static constexpr std::uint64_t kLine = 64;         // bytes of a cache line

    static constexpr std::uint32_t low(std::uint64_t word) {
        return static_cast<std::uint32_t>(word);
    }
    static constexpr std::uint32_t high(std::uint64_t word) {
        return static_cast<std::uint32_t>(word >> 32U);
    }

    // Value of reset_request that requests nothing new.
    [[nodiscard]] std::uint32_t seen_reset() const {
        return state_ == VGPU_QUEUE_RESETTING ? reset_noticed_ : reset_done_;
    }

    // Reads the guest's words again. kRecord: there are bytes to process.
    [[gnu::noinline]] Take refresh() {
        vgpu_queue_control& control = *queue_.control;
        const std::uint64_t tail = Memory::load_acquire(control.tail);
        const std::uint32_t request = Memory::load_relaxed(control.reset_request);
        if (request != reset_done_) {
            reset_noticed_ = request;
            if (state_ != VGPU_QUEUE_RESETTING) {
                leave(VGPU_QUEUE_RESETTING, VGPU_QUEUE_ERR_RESET);
                state_interrupt_owed_ = false;
            }
            return Take::kReset;
        }
        if (state_ != VGPU_QUEUE_RUNNING) {
            return Take::kStopped;
        }
        if (tail == head_) {
            return Take::kEmpty;
        }
        if (tail % VGPU_RECORD_ALIGN != 0) {
            leave(VGPU_QUEUE_STOPPED, VGPU_QUEUE_ERR_TAIL_UNALIGNED);
            return Take::kStopped;
        }
        if (tail - head_ > queue_.ring_size) {
            leave(VGPU_QUEUE_STOPPED, VGPU_QUEUE_ERR_TAIL_RANGE);
            return Take::kStopped;
        }
        tail_ = tail;
        for (std::uint64_t ahead = kLine; ahead < kFetchAhead && ahead < tail_ - head_;
             ahead += kLine) {
            fetch(ahead);
        }
        return Take::kRecord;
    }

    // The start of a record is known only once the size of the one before has arrived, so without
    // prefetching their lines would be fetched one after the other. Precondition: `ahead` < tail_ -
    // head_, so the guest has finished writing there.
    void fetch(std::uint64_t ahead) const {
        Memory::prefetch(
            queue_.ring[((head_ + ahead) & (queue_.ring_size - 1)) / sizeof(std::uint64_t)]);
    }

    // Copies the record at head_ and checks the copy. Precondition: head_ != tail_.
    [[gnu::always_inline]] Copied copy_record(Record& record) {
        const std::uint64_t position = head_ & (queue_.ring_size - 1);
        std::uint64_t* const place = queue_.ring + position / sizeof(std::uint64_t);
        const std::uint64_t available = tail_ - head_;
        const std::uint64_t to_end = queue_.ring_size - position;

        if (available > kFetchAhead) {
            fetch(kFetchAhead);
        }

        // Size and opcode are the first word.
        const std::uint64_t first = Memory::read(place[0]);
        const std::uint32_t size = low(first);
        if (size != sizeof(vgpu_record) || high(first) == VGPU_OP_PADDING || size > available ||
            size > to_end) {
            return copy_with_parts(record, place, first, to_end);
        }
        // The common case, a header only. Advancing by a constant instead of the size that was read
        // lets the processor start on the next record before this one has arrived.
        copy_header(record, place, first);
        if (record.header_.param_count != 0 || record.header_.inline_length != 0) [[unlikely]] {
            return bad(VGPU_QUEUE_ERR_RECORD_PARTS);
        }
        if (!reply_place_fits(record.header_)) [[unlikely]] {
            return bad(VGPU_QUEUE_ERR_REPLY_PLACE);
        }
        ++taken_;
        pass(sizeof(vgpu_record));
        return Copied::kRecord;
    }

    // Same for records of any form, whose `first` word has been read.
    [[gnu::noinline]] Copied copy_with_parts(Record& record, std::uint64_t* place,
                                             std::uint64_t first, std::uint64_t to_end) {
        const std::uint32_t size = low(first);
        const bool padding = high(first) == VGPU_OP_PADDING;
        if (padding) {
            if (size != to_end || size >= VGPU_RECORD_MAX) {
                return bad(VGPU_QUEUE_ERR_PADDING);
            }
        } else if (size < sizeof(vgpu_record) || size > VGPU_RECORD_MAX ||
                   size % VGPU_RECORD_ALIGN != 0) {
            return bad(VGPU_QUEUE_ERR_RECORD_SIZE);
        } else if (size > to_end) {
            return bad(VGPU_QUEUE_ERR_RECORD_SPLIT);
        }
        if (size > tail_ - head_) {
            return bad(VGPU_QUEUE_ERR_RECORD_PAST_TAIL);
        }
        if (!padding) {
            copy_header(record, place, first);
            for (std::size_t at = sizeof record.header_; at != size; at += sizeof first) {
                const std::uint64_t word = Memory::read(place[at / sizeof first]);
                std::memcpy(record.bytes_.data() + at, &word, sizeof word);
            }
            if (record_size(record.header_.param_count, record.header_.inline_length) != size) {
                return bad(VGPU_QUEUE_ERR_RECORD_PARTS);
            }
            if (!reply_place_fits(record.header_)) {
                return bad(VGPU_QUEUE_ERR_REPLY_PLACE);
            }
            ++taken_;
        }
        pass(size);
        return padding ? Copied::kPadding : Copied::kRecord;
    }

    // Loads each word into a register and splits it there: a load of a different width than the
    // store just before it defeats store forwarding, which costs a processor a dozen cycles.
    static void copy_header(Record& record, std::uint64_t* place, std::uint64_t first) {
        const std::uint64_t flags_and_params = Memory::read(place[1]);
        const std::uint64_t inline_and_reply = Memory::read(place[2]);
        record.header_ = {.size = low(first),
                          .opcode = high(first),
                          .flags = low(flags_and_params),
                          .param_count = high(flags_and_params),
                          .inline_length = low(inline_and_reply),
                          .reply_capacity = high(inline_and_reply),
                          .data_offset = Memory::read(place[3]),
                          .data_length = Memory::read(place[4]),
                          .reply_offset = Memory::read(place[5]),
                          .cookie = Memory::read(place[6])};
    }

    // Advances past a record and frees its space.
    void pass(std::uint64_t size) {
        head_ += size;
        Memory::store_release(queue_.control->head, head_);
    }

    // Returns whether the command requests no reply or one that fits its place.
    [[nodiscard]] bool reply_place_fits(const vgpu_record& header) const {
        if (header.reply_offset == 0 && header.reply_capacity == 0) {
            return true;
        }
        return header.reply_offset % VGPU_REPLY_ALIGN == 0 &&
               header.reply_capacity >= sizeof(vgpu_queue_reply) &&
               layout_.in_heap(header.reply_offset, header.reply_capacity);
    }

    Copied bad(vgpu_queue_error error) {
        leave(VGPU_QUEUE_STOPPED, error);
        return Copied::kError;
    }

    // Leaves RUNNING or STOPPED; notes whether the guest sleeps.
    void leave(vgpu_queue_state state, vgpu_queue_error error) {
        publish_state(state, error);
        state_interrupt_owed_ = guest_sleeps();
    }

    void publish_state(vgpu_queue_state state, vgpu_queue_error error) {
        vgpu_queue_control& control = *queue_.control;
        state_ = state;
        error_ = error;
        Memory::store_relaxed(control.error, static_cast<std::uint32_t>(error));
        Memory::store_relaxed(control.error_index, taken_ + 1);
        Memory::store_release(control.state, static_cast<std::uint32_t>(state));
    }

    // Call after a store that the guest may be waiting for.
    [[nodiscard]] bool guest_sleeps() {
        Memory::fence();
        return Memory::load_relaxed(queue_.control->wake_at) != 0;
    }

    // Same for the timeline. One interrupt for each value waited for.
    [[nodiscard]] bool timeline_interrupt_owed() {
        Memory::fence();
        const std::uint64_t wake_at = Memory::load_relaxed(queue_.control->wake_at);
        if (wake_at == 0 || wake_at > completed_ || wake_at == woken_) {
            return false;
        }
        woken_ = wake_at;
        return true;
    }

    QueueView queue_;
    Layout layout_;
    std::uint64_t head_ = 0;       // bytes taken
    std::uint64_t tail_ = 0;       // last value seen that passed the checks; head_ <= tail_
    std::uint64_t taken_ = 0;      // commands
    std::uint64_t completed_ = 0;  // commands
    std::uint64_t sleeps_ = 0;     // number of prepare_sleep() calls
    std::uint64_t woken_ = 0;      // the value that the guest was last interrupted for
    std::uint32_t reset_done_ = 0;
    std::uint32_t reset_noticed_ = 0;
    vgpu_queue_state state_ = VGPU_QUEUE_STOPPED;
    vgpu_queue_error error_ = VGPU_QUEUE_ERR_NOT_STARTED;
    bool state_interrupt_owed_ = false;
};

using Consumer = BasicConsumer<SharedMemory>;

}  // namespace vgpu::ring
