// SPDX-License-Identifier: MIT
//
// Producer: the guest's end of a queue. push() writes records, publish() makes them visible
// together, and the caller waits for them on the timeline.
//
//   Producer queue(layout.queue(base, 0));
//   if (queue.request_reset()) ring the doorbell;      // starts, and restarts after an error
//   while (queue.reset_progress() == Reset::kPending) wait;
//
//   queue.push(command, params, {});                   // any number of them
//   if (queue.publish()) ring the doorbell;
//   while (queue.poll(queue.submitted()) == Progress::kPending) {
//       spin for a while, then
//       if (queue.prepare_sleep(queue.submitted())) sleep until the interrupt;
//       queue.wake();
//   }
//
// The host is trusted with the results but may be faulty: nothing it writes is used as an index. No
// function blocks, allocates, throws or makes a system call. One thread at a time.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "ring/layout.h"
#include "ring/record.h"
#include "ring/shared_memory.h"
#include "vgpu_protocol.h"

namespace vgpu::ring {

// Result of push().
enum class Push : std::uint8_t {
    kDone,
    kFull,        // no space: publish(), and wait for a submitted command
    kTooLarge,    // exceeds VGPU_RECORD_MAX
    kNotRunning,  // no successful reset since the last request_reset()
    kBroken,      // the host's `head` is invalid
};

// State of a command.
enum class Progress : std::uint8_t {
    kReached,  // it and all before it have completed; their replies can be read
    kPending,
    kNever,  // the queue stopped before it: see status()
};

// State of a reset.
enum class Reset : std::uint8_t {
    kPending,
    kRunning,  // done: records may be pushed
    kStopped,  // done, but the queue has stopped again or the mediator has changed: see status()
};

// The host's view of the queue.
struct QueueStatus {
    std::uint32_t state;        // enum vgpu_queue_state
    std::uint32_t error;        // enum vgpu_queue_error, while not running
    std::uint64_t error_index;  // while not running: the first command that is not executed
};

template <typename Memory>
class BasicProducer {
  public:
    // Borrows the memory. The queue needs a reset before use, whatever its previous user did.
    explicit BasicProducer(const QueueView& queue) : queue_(queue) {}

    // Drops what was pushed but not published, and asks the host to drop what was published but not
    // taken. True: ring the doorbell. Nothing may be pushed until reset_progress() returns
    // kRunning.
    [[nodiscard]] bool request_reset() {
        vgpu_queue_control& control = *queue_.control;
        running_ = false;
        rung_ = 0;
        // Continues from where an earlier process may have left the count, rounded up to a whole
        // word; the host adopts the value it finds here.
        tail_ = align_up(Memory::load_relaxed(control.tail));
        published_ = tail_;
        reset_ = Memory::load_relaxed(control.reset_request) + 1;
        // Release, since the host may take records up to it before it notices the request.
        Memory::store_release(control.tail, tail_);
        Memory::store_release(control.reset_request, reset_);
        return doorbell_owed();
    }

    // Returns the state of the last reset requested.
    [[nodiscard]] Reset reset_progress() {
        vgpu_queue_control& control = *queue_.control;
        if (running_) {
            return Reset::kRunning;
        }
        if (Memory::load_acquire(control.reset_ack) != reset_) {
            return Reset::kPending;
        }
        if (Memory::load_acquire(control.state) != VGPU_QUEUE_RUNNING) {
            return Reset::kStopped;
        }
        head_ = tail_;
        submitted_ = Memory::load_relaxed(control.completed);
        running_ = true;
        return Reset::kRunning;
    }

    // Writes a record into the ring, not yet visible to the host. Sets size, param_count and
    // inline_length of `command` itself. Has no effect unless the result is kDone.
    [[nodiscard]] Push push(const vgpu_record& command, std::span<const std::uint32_t> params,
                            std::span<const std::byte> inline_data) {
        if (!running_) {
            return Push::kNotRunning;
        }
        if (params.size() > VGPU_RECORD_MAX || inline_data.size() > VGPU_RECORD_MAX) {
            return Push::kTooLarge;
        }
        const auto param_count = static_cast<std::uint32_t>(params.size());
        const auto inline_length = static_cast<std::uint32_t>(inline_data.size());
        const std::uint64_t size = record_size(param_count, inline_length);
        if (size > VGPU_RECORD_MAX) {
            return Push::kTooLarge;
        }
        if (const Push way = make_way(size); way != Push::kDone) [[unlikely]] {
            return way;
        }
        write_header(command, static_cast<std::uint32_t>(size), param_count, inline_length);
        write(std::as_bytes(params));
        write(inline_data);
        ++submitted_;
        return Push::kDone;
    }

    // Same for a command that consists of a header only: a NOP costs little more than the stores of
    // its seven words.
    [[nodiscard]] Push push(const vgpu_record& command) {
        if (!running_) [[unlikely]] {
            return Push::kNotRunning;
        }
        if (const Push way = make_way(sizeof command); way != Push::kDone) [[unlikely]] {
            return way;
        }
        write_header(command, sizeof command, 0, 0);
        ++submitted_;
        return Push::kDone;
    }

    // Makes all pushed records visible to the host. True: the host sleeps, ring the doorbell.
    [[nodiscard]] bool publish() {
        if (published_ == tail_) {
            return false;
        }
        published_ = tail_;
        Memory::store_release(queue_.control->tail, tail_);
        return doorbell_owed();
    }

    // Index of the last command pushed: it is complete when the timeline reaches this value. Before
    // the first push, the value of the timeline at the reset.
    [[nodiscard]] std::uint64_t submitted() const { return submitted_; }

    [[nodiscard]] Progress poll(std::uint64_t index) {
        vgpu_queue_control& control = *queue_.control;
        if (Memory::load_acquire(control.completed) >= index) {
            return Progress::kReached;
        }
        if (Memory::load_acquire(control.state) != VGPU_QUEUE_RUNNING &&
            index >= Memory::load_relaxed(control.error_index)) {
            return Progress::kNever;
        }
        return Progress::kPending;
    }

    // Requests an interrupt for when poll(index) is not kPending, and polls once more. True: sleep
    // until the interrupt, then call wake(). False: the condition already holds, and no interrupt
    // is requested. Spurious interrupts are possible.
    [[nodiscard]] bool prepare_sleep(std::uint64_t index) {
        ask_for_interrupt(index);
        if (poll(index) == Progress::kPending) {
            return true;
        }
        wake();
        return false;
    }
    // Same for reset_progress().
    [[nodiscard]] bool prepare_sleep_for_reset() {
        ask_for_interrupt(VGPU_WAKE_AT_STATE);
        if (reset_progress() == Reset::kPending) {
            return true;
        }
        wake();
        return false;
    }
    // Requests no more interrupts.
    void wake() { Memory::store_relaxed(queue_.control->wake_at, std::uint64_t{0}); }

    // The fields are consistent with each other while the queue is not running.
    [[nodiscard]] QueueStatus status() const {
        vgpu_queue_control& control = *queue_.control;
        const std::uint32_t state = Memory::load_acquire(control.state);
        return {state, Memory::load_relaxed(control.error),
                Memory::load_relaxed(control.error_index)};
    }

  private:
    static constexpr std::uint64_t kFetchAhead = 1024;  // bytes
    static constexpr std::uint64_t kLine = 64;          // bytes of a cache line

    // Returns kDone if a record of `size` bytes fits at tail_, after any padding that this writes.
    Push make_way(std::uint64_t size) {
        const std::uint64_t to_end = queue_.ring_size - (tail_ & (queue_.ring_size - 1));
        const std::uint64_t padding = size > to_end ? to_end : 0;
        if (const Push room = make_room(padding + size); room != Push::kDone) [[unlikely]] {
            return room;
        }
        if (padding != 0) [[unlikely]] {
            Memory::write(*place_at(tail_),
                          word_of(static_cast<std::uint32_t>(padding), VGPU_OP_PADDING));
            tail_ += padding;
        }
        fetch_ahead(size);
        return Push::kDone;
    }

    // The host has read the ring's lines on the previous pass, so they are in its cache. Prefetches
    // as many bytes as are about to be written, far enough ahead that they arrive in time, but
    // nothing that the host may still have to read.
    void fetch_ahead(std::uint64_t size) const {
        if (tail_ + kFetchAhead + size - head_ <= queue_.ring_size) {
            for (std::uint64_t at = kFetchAhead; at < kFetchAhead + size; at += kLine) {
                Memory::prefetch_to_write(*place_at(tail_ + at));
            }
        }
    }

    // Returns kDone if `bytes` fit after tail_.
    Push make_room(std::uint64_t bytes) {
        if (tail_ + bytes - head_ <= queue_.ring_size) {
            return Push::kDone;
        }
        const std::uint64_t head = Memory::load_acquire(queue_.control->head);
        if (tail_ - head > queue_.ring_size || head - head_ > tail_ - head_) {
            return Push::kBroken;
        }
        head_ = head;
        return tail_ + bytes - head_ <= queue_.ring_size ? Push::kDone : Push::kFull;
    }

    [[nodiscard]] std::uint64_t* place_at(std::uint64_t count) const {
        return queue_.ring + (count & (queue_.ring_size - 1)) / sizeof(std::uint64_t);
    }

    static std::uint64_t word_of(std::uint32_t low, std::uint32_t high) {
        static_assert(std::endian::native == std::endian::little, "as in the protocol");
        return std::uint64_t{high} << 32 | low;
    }

    // Writes a record's header at tail_. Combines fields to words in registers: a processor that
    // loads as one word what was stored as two stalls for the stores, longer than all the rest
    // takes.
    void write_header(const vgpu_record& command, std::uint32_t size, std::uint32_t param_count,
                      std::uint32_t inline_length) {
        std::uint64_t* const place = place_at(tail_);
        Memory::write(place[0], word_of(size, command.opcode));
        Memory::write(place[1], word_of(command.flags, param_count));
        Memory::write(place[2], word_of(inline_length, command.reply_capacity));
        Memory::write(place[3], command.data_offset);
        Memory::write(place[4], command.data_length);
        Memory::write(place[5], command.reply_offset);
        Memory::write(place[6], command.cookie);
        tail_ += sizeof command;
    }

    // Writes at tail_, zero-padded to a multiple of VGPU_RECORD_ALIGN.
    void write(std::span<const std::byte> bytes) {
        std::uint64_t* const place = place_at(tail_);
        tail_ += align_up(bytes.size());
        const std::size_t whole = bytes.size() / sizeof(std::uint64_t);
        for (std::size_t i = 0; i != whole; ++i) {
            std::uint64_t word = 0;
            std::memcpy(&word, bytes.data() + i * sizeof word, sizeof word);
            Memory::write(place[i], word);
        }
        if (const std::size_t rest = bytes.size() % sizeof(std::uint64_t); rest != 0) {
            std::uint64_t word = 0;
            std::memcpy(&word, bytes.data() + whole * sizeof word, rest);
            Memory::write(place[whole], word);
        }
    }

    // Call after a store that the host may be waiting for. One doorbell for each sleep of the host.
    bool doorbell_owed() {
        Memory::fence();
        const std::uint64_t wanted = Memory::load_relaxed(queue_.control->doorbell_wanted);
        if (wanted == 0 || wanted == rung_) {
            return false;
        }
        rung_ = wanted;
        return true;
    }

    void ask_for_interrupt(std::uint64_t index) {
        Memory::store_relaxed(queue_.control->wake_at, index);
        Memory::fence();
    }

    QueueView queue_;
    std::uint64_t tail_ = 0;       // bytes pushed
    std::uint64_t published_ = 0;  // bytes visible to the host
    std::uint64_t head_ = 0;       // last value seen
    std::uint64_t submitted_ = 0;  // commands
    std::uint64_t rung_ = 0;       // number of the host's sleep that the doorbell was last rung for
    std::uint32_t reset_ = 0;      // last value requested
    bool running_ = false;
};

using Producer = BasicProducer<SharedMemory>;

}  // namespace vgpu::ring
