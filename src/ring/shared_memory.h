// SPDX-License-Identifier: MIT
//
// SharedMemory: how both ends of a queue access memory that another process, a guest or a GPU
// writes concurrently, and why no update is lost. Every access to a queue goes through this file.
//
// The structures in vgpu_protocol.h are plain C. Their words are only accessed as aligned,
// lock-free atomics, so they never tear, and a value is read exactly as often as the code states: a
// compiler may not read it again to save a register. So what has been checked is what is used. The
// bytes of records are read the same way, in words of 64 bits.
//
// Each word has one writer. The protocol relies on three patterns.
//
//   1. Message passing: write the contents, store-release a count; load-acquire the count, read the
//      contents. A reader that sees the count sees what was written before it.
//
//        record in the ring      producer stores `tail`, consumer loads it
//        space to write again    consumer stores `head` after its copy, producer loads it
//        reply in the heap       consumer stores `completed`, producer loads it
//        error, error_index      consumer stores `state`, producer loads it
//        head, state, error      consumer stores `reset_ack`, producer loads it
//        tail to resume from     producer stores `reset_request`, consumer loads it
//
//   2. Sleeping, in both directions: each side writes one word and then reads the other's. At least
//      one of them must see the other's store, or a wake-up is lost.
//
//        producer: tail or reset_request = …        consumer: doorbell_wanted = number
//                  fence()                                    fence()
//                  doorbell_wanted != 0? ring                 tail or reset_request new? stay awake
//
//        producer: wake_at = n                      consumer: completed, state or reset_ack = …
//                  fence()                                    fence()
//                  reached or changed? stay awake             wake_at reached? interrupt
//
//      Acquire and release are not enough: a processor may execute a later load before an earlier
//      store to another word has become visible, x86-64 because of its store buffer and arm64 in
//      general. Both sides need a sequentially consistent fence between the two; with it one of the
//      two loads sees the other side's store.
//
//   3. The GPU stores `completed` itself and the consumer is only notified. The consumer then loads
//      `completed`, calls fence(), and reads `wake_at`. If it reads 0, its fence came before the
//      producer's fence, so the producer's load of `completed` sees at least what the consumer saw:
//      the GPU's store. (In stream order the GPU's store to `completed` precedes the notification
//      of the consumer, so the consumer's load does see it.)
//
// Cost. x86-64: acquire and release are plain moves, the fence is one locked instruction on the
// processor's own stack. That is why patterns 2 and 3 use a fence and not a sequentially consistent
// store, which would be a locked instruction on shared memory: where a guest's mapping of BAR2 is
// uncached, that locks the bus. arm64: ldar or ldapr, stlr, and dmb ish. Guest and host are
// processors of one inner-shareable domain. On neither may the guest map BAR2 as write-combining
// memory, since release does not order write-combining stores.
#pragma once

#include <atomic>
#include <cstdint>

namespace vgpu::ring {

// The memory policy for real memory. Tests substitute one that runs the same calls on a model.
struct SharedMemory {
    static_assert(std::atomic_ref<std::uint32_t>::is_always_lock_free, "used across processes");
    static_assert(std::atomic_ref<std::uint64_t>::is_always_lock_free, "used across processes");
    static_assert(std::atomic_ref<std::uint64_t>::required_alignment <= 8, "as in the protocol");

    // Control word: sees everything written before the store_release() whose value it returns.
    template <typename Word>
    static Word load_acquire(Word& word) {
        return std::atomic_ref<Word>(word).load(std::memory_order_acquire);
    }
    // Control word whose freshness and order do not matter.
    template <typename Word>
    static Word load_relaxed(Word& word) {
        return std::atomic_ref<Word>(word).load(std::memory_order_relaxed);
    }
    template <typename Word>
    static void store_release(Word& word, Word value) {
        std::atomic_ref<Word>(word).store(value, std::memory_order_release);
    }
    template <typename Word>
    static void store_relaxed(Word& word, Word value) {
        std::atomic_ref<Word>(word).store(value, std::memory_order_relaxed);
    }

    // Between the own store and the load of the other side's word, pattern 2.
    static void fence() {
#if defined(__SANITIZE_THREAD__) && defined(__x86_64__)
        // The thread sanitizer does not support fences. It cannot see this one either, so it checks
        // the rest against acquire and release alone.
        asm volatile("mfence" ::: "memory");
#elif defined(__SANITIZE_THREAD__) && defined(__aarch64__)
        asm volatile("dmb ish" ::: "memory");
#else
        std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
    }

    // Prefetches the line of this word for reading. This is not an access: nothing may be concluded
    // from it.
    static void prefetch(const std::uint64_t& word) {
        __builtin_prefetch(&word);
    }
    // Same for writing: the line arrives in exclusive state. A store requests that only when it
    // reaches the head of the processor's store buffer, which holds about two or three records, and
    // the stores after it wait.
    static void prefetch_to_write(std::uint64_t& word) {
#if defined(__x86_64__) || defined(__i386__)
        // Not the builtin: unless the target is known to have this instruction, a compiler emits a
        // prefetch for reading instead. It is a no-op on processors that lack it (AMD64
        // Architecture Programmer's Manual, volume 3; Intel SDM, volume 2, PREFETCHW).
        asm volatile("prefetchw %0" : : "m"(word));
#else
        __builtin_prefetch(&word, 1);
#endif
    }

    // Contents: a word of a record or a reply.
    static std::uint64_t read(std::uint64_t& word) {
        return load_relaxed(word);
    }
    static void write(std::uint64_t& word, std::uint64_t value) {
        store_relaxed(word, value);
    }
};

}  // namespace vgpu::ring
