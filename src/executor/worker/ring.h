// SPDX-License-Identifier: MIT
//
// Ring: a queue of records of fixed size in memory that two processes share. One side writes, the
// other reads, each from one thread; neither waits for the other.
//
//   written  counts records ever written, read those ever taken; both wrap around at 2^32
//   reader_sleeps  the reader is about to sleep, or does: the writer then owes it a wake
//
// Whoever sleeps says so first and then looks once more; whoever writes publishes first and then
// looks at the flag. All four accesses are sequentially consistent, so one of the two sees the
// other, and a wake, which is a system call, is only sent to a sleeper.
//
// The other side may have crashed and left anything in the memory: nothing read there is used as an
// index before it has been held against kSlots.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace vgpu::worker {

template <typename Record, std::uint32_t kSlots>
struct Ring {
    static_assert(kSlots != 0 && (kSlots & (kSlots - 1)) == 0, "a power of two");
    static_assert(std::atomic<std::uint32_t>::is_always_lock_free, "used across processes");

    alignas(64) std::atomic<std::uint32_t> written{0};
    alignas(64) std::atomic<std::uint32_t> read{0};
    alignas(64) std::atomic<std::uint32_t> reader_sleeps{0};
    alignas(64) std::array<Record, kSlots> records{};
};

// The writing end, going on where the ring stands. Borrows the ring.
template <typename Record, std::uint32_t kSlots>
class RingWriter {
  public:
    explicit RingWriter(Ring<Record, kSlots>& ring)
        : ring_(&ring), written_(ring.written.load()), read_(ring.read.load()) {}

    // The record to fill in next; null while the ring is full, and for good if what the reader
    // says makes no sense.
    [[nodiscard]] Record* reserve() {
        if (written_ - read_ >= kSlots) {
            read_ = ring_->read.load(std::memory_order_acquire);
            if (written_ - read_ >= kSlots) {
                return nullptr;
            }
        }
        return &ring_->records[written_ % kSlots];
    }
    // Hands the record over. True: the reader sleeps, and this call owes it a wake.
    // Precondition: reserve() gave one.
    [[nodiscard]] bool commit() {
        ring_->written.store(++written_);
        return ring_->reader_sleeps.load() != 0 && ring_->reader_sleeps.exchange(0) != 0;
    }

  private:
    Ring<Record, kSlots>* ring_;
    std::uint32_t written_;
    std::uint32_t read_;  // as last seen
};

// The reading end, going on where the ring stands. Borrows the ring.
template <typename Record, std::uint32_t kSlots>
class RingReader {
  public:
    explicit RingReader(Ring<Record, kSlots>& ring)
        : ring_(&ring), read_(ring.read.load()), written_(read_) {}

    // The oldest record not yet taken; null if there is none, and for good once corrupt(). It
    // belongs to the reader until take().
    [[nodiscard]] const Record* peek() {
        if (read_ == written_) {
            // Sequentially consistent for the look after set_sleeping(); as cheap as acquire.
            const std::uint32_t written = ring_->written.load();
            if (written - read_ > kSlots) {
                corrupt_ = true;
                return nullptr;
            }
            written_ = written;
            if (read_ == written_) {
                return nullptr;
            }
        }
        return &ring_->records[read_ % kSlots];
    }
    // Gives the record's place back. Precondition: peek() gave one.
    void take() { ring_->read.store(++read_, std::memory_order_release); }

    // true: from now on the first commit() says that a wake is owed. peek() once more, and only
    // then sleep. Returns what was set before: false where it was true means that a wake was owed.
    bool set_sleeping(bool sleeping) {
        return ring_->reader_sleeps.exchange(sleeping ? 1 : 0) != 0;
    }

    // Whether the writer's count made no sense.
    [[nodiscard]] bool corrupt() const { return corrupt_; }

  private:
    Ring<Record, kSlots>* ring_;
    std::uint32_t read_;
    std::uint32_t written_;  // as last seen
    bool corrupt_ = false;
};

}  // namespace vgpu::worker
