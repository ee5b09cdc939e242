// SPDX-License-Identifier: MIT
//
// Ring: a single-producer, single-consumer queue of fixed-size records in memory shared by two
// processes. Neither side waits for the other.
//
//   written, read  total records written and taken; both wrap around at 2^32
//   reader_sleeps  the reader sleeps or is about to: the writer must then send a wake-up
//
// The reader sets the flag and then polls once more; the writer publishes and then checks the flag.
// All four accesses are sequentially consistent, so at least one side sees the other's store, and a
// wake-up, which is a system call, is sent only to a sleeping reader.
//
// The peer may have crashed and left arbitrary values in the memory: a value read from it is
// checked against kSlots before it is used as an index.
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

// Write end; continues at the ring's current position. Borrows the ring.
template <typename Record, std::uint32_t kSlots>
class RingWriter {
  public:
    explicit RingWriter(Ring<Record, kSlots>& ring)
        : ring_(&ring), written_(ring.written.load()), read_(ring.read.load()) {}

    // Returns the next record to fill in; null while the ring is full, and permanently if the
    // reader's count is invalid.
    [[nodiscard]] Record* reserve() {
        if (written_ - read_ >= kSlots) {
            read_ = ring_->read.load(std::memory_order_acquire);
            if (written_ - read_ >= kSlots) {
                return nullptr;
            }
        }
        return &ring_->records[written_ % kSlots];
    }
    // Publishes the record. Returns true if the reader sleeps; the caller must then send a wake-up.
    // Precondition: reserve() returned a record.
    [[nodiscard]] bool commit() {
        ring_->written.store(++written_);
        return ring_->reader_sleeps.load() != 0 && ring_->reader_sleeps.exchange(0) != 0;
    }

  private:
    Ring<Record, kSlots>* ring_;
    std::uint32_t written_;
    std::uint32_t read_;  // last observed value
};

// Read end; continues at the ring's current position. Borrows the ring.
template <typename Record, std::uint32_t kSlots>
class RingReader {
  public:
    explicit RingReader(Ring<Record, kSlots>& ring)
        : ring_(&ring), read_(ring.read.load()), written_(read_) {}

    // Returns the oldest record not yet taken; null if there is none, and permanently once
    // corrupt(). The reader owns the record until take().
    [[nodiscard]] const Record* peek() {
        if (read_ == written_) {
            // Sequentially consistent for the poll after set_sleeping(); as cheap as acquire.
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
    // Releases the record's slot. Precondition: peek() returned a record.
    void take() { ring_->read.store(++read_, std::memory_order_release); }

    // true: the next commit() reports that a wake-up is owed; peek() once more before sleeping.
    // Returns the previous value: false where true was set means that a wake-up was owed.
    bool set_sleeping(bool sleeping) {
        return ring_->reader_sleeps.exchange(sleeping ? 1 : 0) != 0;
    }

    // Whether the writer's count was invalid.
    [[nodiscard]] bool corrupt() const { return corrupt_; }

  private:
    Ring<Record, kSlots>* ring_;
    std::uint32_t read_;
    std::uint32_t written_;  // last observed value
    bool corrupt_ = false;
};

}  // namespace vgpu::worker
