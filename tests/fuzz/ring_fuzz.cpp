// SPDX-License-Identifier: MIT
//
// Fuzzer: ring::Consumer on memory that changes while it is read. An input contains the ring's
// contents and a script of stores, which a second thread executes while records are taken; or this
// thread does, between two calls, so that findings are reproducible.
//
// Whatever is stored: every call returns, records are consistent and their replies lie in the heap,
// the counts agree, and only this queue's control block and ring are accessed. With
// AddressSanitizer, all other memory is poisoned.
#include <array>
#include <atomic>
#include <cstring>
#include <thread>

#include "fuzz/check.h"
#include "fuzz/input.h"
#include "ring/consumer.h"
#include "ring/record.h"
#include "ring/testing/test_memory.h"

#if defined(__SANITIZE_ADDRESS__)
#define VGPU_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define VGPU_HAS_ASAN 1
#endif
#endif
#ifdef VGPU_HAS_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace vgpu::fuzz {
namespace {

constexpr std::size_t kMostCalls = 600;
constexpr std::uint32_t kQueue = 1;  // of three: memory on both sides

void poison([[maybe_unused]] const std::byte* begin, [[maybe_unused]] const std::byte* end) {
#ifdef VGPU_HAS_ASAN
    ASAN_POISON_MEMORY_REGION(begin, static_cast<std::size_t>(end - begin));
#endif
}

// Executes the stores of a script one by one.
class Changes {
  public:
    Changes(Input input, const ring::QueueView& queue) : input_(input), queue_(queue) {}

    [[nodiscard]] bool done() const { return input_.empty(); }

    void make_one() {
        using Memory = ring::SharedMemory;
        vgpu_queue_control& control = *queue_.control;
        const std::uint8_t what = input_.byte();
        switch (what & 7U) {
            case 0:
                tail_ += 8 * input_.value();
                Memory::store_release(control.tail, tail_);
                break;
            case 1:
                tail_ = input_.value();
                Memory::store_release(control.tail, tail_);
                break;
            case 2:
                Memory::store_release(control.reset_request, ++resets_);
                break;
            case 3:
                Memory::store_relaxed(control.wake_at, input_.value());
                break;
            case 4: {
                // Words that only the mediator writes.
                const std::array<std::uint64_t*, 4> words{&control.doorbell_wanted, &control.head,
                                                          &control.completed, &control.error_index};
                Memory::store_relaxed(*input_.one_of(words), input_.value());
                break;
            }
            case 5:
                put_record(what >> 3U);
                break;
            default:
                word(input_.number<std::uint16_t>() / 8U, input_.value());
                break;
        }
    }

  private:
    void word(std::uint64_t at, std::uint64_t value) {
        ring::SharedMemory::store_relaxed(queue_.ring[at % (queue_.ring_size / 8)], value);
    }
    // Stores a record at the tail, valid except for the fields that the input chooses.
    void put_record(unsigned wrong) {
        const auto params = static_cast<std::uint32_t>(input_.below(8));
        const std::uint32_t inline_length = input_.byte();
        vgpu_record record{};
        record.size = static_cast<std::uint32_t>(ring::record_size(params, inline_length));
        record.opcode = (wrong & 1U) != 0 ? VGPU_OP_PADDING : input_.byte();
        record.param_count = params;
        record.inline_length = inline_length;
        record.reply_offset = (wrong & 2U) != 0 ? input_.value() : 0;
        record.reply_capacity = (wrong & 2U) != 0 ? input_.word() : 0;
        if ((wrong & 4U) != 0) {
            record.size = input_.word();
        }
        if ((wrong & 8U) != 0) {
            record.param_count = input_.word();
        }
        std::array<std::uint64_t, sizeof record / 8> words{};
        std::memcpy(words.data(), &record, sizeof record);
        for (std::uint64_t i = 0; i < words.size(); ++i) {
            word(tail_ / 8 + i, words[i]);
        }
        tail_ += record.size;
        if ((wrong & 16U) == 0) {
            ring::SharedMemory::store_release(queue_.control->tail, tail_);
        }
    }

    Input input_;
    ring::QueueView queue_;
    std::uint64_t tail_ = 0;
    std::uint32_t resets_ = 0;
};

void check_record(const ring::Record& record, const ring::Layout& layout) {
    const vgpu_record& header = record.header();
    check(header.size >= sizeof header && header.size <= VGPU_RECORD_MAX &&
              header.size % VGPU_RECORD_ALIGN == 0,
          "a record of an impossible size was taken");
    check(header.opcode != VGPU_OP_PADDING, "padding was taken for a command");
    check(ring::record_size(header.param_count, header.inline_length) == header.size,
          "the parts of a record do not add up");
    check((header.reply_offset == 0 && header.reply_capacity == 0) ||
              (header.reply_capacity >= sizeof(vgpu_queue_reply) &&
               layout.in_heap(header.reply_offset, header.reply_capacity)),
          "a record names a reply outside the heap");
    // Every byte of it is readable.
    std::uint32_t sum = 0;
    for (const std::uint32_t param : record.params()) {
        sum += param;
    }
    for (const std::byte byte : record.inline_data()) {
        sum += std::to_integer<std::uint32_t>(byte);
    }
    static std::atomic<std::uint32_t> sink;
    sink = sum;
}

// Calls a consumer in the input's order and tracks the expected counts.
class Taker {
  public:
    Taker(Input input, const ring::QueueView& queue, const ring::Layout& layout)
        : input_(input), layout_(layout), consumer_(queue, layout) {}

    void one_call() {
        const std::uint8_t what = input_.byte();
        switch (what & 7U) {
            case 1:
                static_cast<void>(consumer_.complete(some(what)));
                break;
            case 2:
                if (consumer_.in_flight() != 0) {
                    static_cast<void>(consumer_.note_completed(account(1)));
                }
                break;
            case 3:
                if (consumer_.prepare_sleep()) {
                    consumer_.wake();
                }
                break;
            case 4:
                static_cast<void>(what >= 0xF0 ? consumer_.stop(VGPU_QUEUE_ERR_CLOSED)
                                               : consumer_.take_interrupt());
                break;
            default:
                take();
                break;
        }
        check(consumer_.taken() == taken_ && consumer_.completed() == completed_ &&
                  consumer_.in_flight() == taken_ - completed_,
              "the counts of taken and completed commands do not agree");
    }

  private:
    // Number of in-flight commands to complete.
    std::uint64_t some(std::uint8_t what) {
        return account(consumer_.in_flight() * (what >> 5U) / 7);
    }
    std::uint64_t account(std::uint64_t count) {
        completed_ += count;
        return count;
    }
    void take() {
        const vgpu_queue_state before = consumer_.state();
        const ring::Take took = consumer_.take(record_);
        switch (took) {
            case ring::Take::kRecord:
                check(before == VGPU_QUEUE_RUNNING && consumer_.state() == VGPU_QUEUE_RUNNING,
                      "a queue that does not run gave a record");
                ++taken_;
                check_record(record_, layout_);
                break;
            case ring::Take::kEmpty:
                check(consumer_.state() == VGPU_QUEUE_RUNNING, "empty, and not running");
                break;
            case ring::Take::kStopped:
                check(consumer_.state() == VGPU_QUEUE_STOPPED &&
                          consumer_.error() != VGPU_QUEUE_ERR_NONE,
                      "stopped without a reason");
                break;
            case ring::Take::kReset: {
                check(consumer_.state() == VGPU_QUEUE_RESETTING, "a reset that is none");
                const bool busy = consumer_.in_flight() != 0;
                static_cast<void>(consumer_.finish_reset());
                check((consumer_.state() == VGPU_QUEUE_RESETTING) == busy,
                      "a reset was finished at the wrong time");
                break;
            }
        }
    }

    Input input_;
    ring::Layout layout_;
    ring::Consumer consumer_;
    ring::Record record_;
    std::uint64_t taken_ = 0;
    std::uint64_t completed_ = 0;
};

// The storing thread. It lives as long as the process; an input costs only a hand-over.
class Rival {
  public:
    Rival() : thread_([this] { run(); }) {}
    Rival(const Rival&) = delete;
    Rival& operator=(const Rival&) = delete;
    ~Rival() {
        give(nullptr, true);
        thread_.join();
    }
    // Executes the changes while `meanwhile` runs; returns when both have finished.
    template <typename Meanwhile>
    void make(Changes& changes, Meanwhile meanwhile) {
        give(&changes, false);
        meanwhile();
        while (busy_.load(std::memory_order_acquire)) {
            busy_.wait(true, std::memory_order_acquire);
        }
    }

  private:
    void give(Changes* changes, bool end) {
        changes_ = changes;
        end_ = end;
        busy_.store(true, std::memory_order_release);
        busy_.notify_one();
    }
    void run() {
        for (;;) {
            busy_.wait(false, std::memory_order_acquire);
            if (end_) {
                return;
            }
            while (!changes_->done()) {
                changes_->make_one();
            }
            busy_.store(false, std::memory_order_release);
            busy_.notify_one();
        }
    }

    std::atomic<bool> busy_{false};
    Changes* changes_ = nullptr;
    bool end_ = false;
    std::thread thread_;
};

}  // namespace
}  // namespace vgpu::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace vgpu::fuzz;
    using namespace vgpu;
    static const ring::TestMemory memory(VGPU_SHM_SIZE_MIN, 3);
    static const bool poisoned = [] {
        const std::byte* const base = memory.base();
        const std::byte* const begin = base + memory.layout().control_offset(kQueue);
        poison(base, begin);
        poison(begin + memory.layout().queue_stride, base + memory.layout().size);
        return true;
    }();
    static_cast<void>(poisoned);
    static Rival rival;

    const ring::QueueView queue = memory.queue(kQueue);
    std::memset(static_cast<void*>(queue.control), 0, memory.layout().queue_stride);
    Input input(data, size);
    const bool threads = input.flag();
    const std::size_t calls_size = input.number<std::uint16_t>() % kMostCalls;
    const auto calls = input.block(calls_size);
    Changes changes(input, queue);
    Taker taker(Input(calls.data(), calls.size()), queue, memory.layout());
    // The first store starts the queue.
    ring::SharedMemory::store_relaxed(queue.control->reset_request, std::uint32_t{1000});
    if (threads) {
        rival.make(changes, [&] {
            for (std::size_t call = 0; call < kMostCalls; ++call) {
                taker.one_call();
            }
        });
    }
    for (std::size_t call = 0; call < kMostCalls; ++call) {
        for (int change = 0; change < 2 && !changes.done(); ++change) {
            changes.make_one();
        }
        taker.one_call();
    }
    return 0;
}
