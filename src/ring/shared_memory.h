// SPDX-License-Identifier: MIT
//
// SharedMemory: how both ends of a queue touch memory that another process, a guest or a GPU writes
// at the same time, and why nothing is lost. Every access to a queue goes through this file.
//
// The structures in vgpu_protocol.h are plain C. A word of them is only ever accessed as an atomic,
// aligned and lock-free, so it is never torn, and a value is read exactly as often as the code
// says: a compiler may not read it a second time to save a register. So what has been checked is
// what is used. The bytes of records are read the same way, in words of 64 bits.
//
// Each word has one writer. Three patterns hold the protocol together.
//
//  1. Message passing: write the contents, store-release a count; load-acquire the count, read the
//     contents. Who sees the count sees what was written before it.
//
//       record in the ring      producer stores `tail`, consumer loads it
//       place to write again    consumer stores `head` after its copy, producer loads it
//       reply in the heap       consumer stores `completed`, producer loads it
//       error, error_index      consumer stores `state`, producer loads it
//       head, state, error      consumer stores `reset_ack`, producer loads it
//       tail to go on from      producer stores `reset_request`, consumer loads it
//
//  2. Sleeping, both ways: each side writes one word and then looks at the other's. At least one of
//     them has to see the other, or a wake-up is lost.
//
//       producer: tail or reset_request = …        consumer: doorbell_wanted = number
//                 fence()                                    fence()
//                 doorbell_wanted != 0? ring                 tail or reset_request new? stay awake
//
//       producer: wake_at = n                      consumer: completed, state or reset_ack = …
//                 fence()                                    fence()
//                 reached or changed? stay awake             wake_at reached? interrupt
//
//     Acquire and release do not give this: a processor may carry out a later load before an
//     earlier store to another word has become visible, x86-64 from its store buffer and arm64 at
//     will. It takes a sequentially consistent fence between the two on both sides; with it one of
//     the two loads sees the other side's store.
//
//  3. The GPU stores `completed` itself and the consumer only learns of it. The consumer then loads
//     `completed`, fence(), and looks at `wake_at`. If it finds 0 there, its fence came before the
//     producer's fence, and then the producer's look at `completed` sees at least what the consumer
//     saw: the GPU's store. (In stream order the GPU's store to `completed` comes before whatever
//     told the consumer, so the consumer's load does see it.)
//
// What that costs. x86-64: acquire and release are plain moves, the fence is one locked instruction
// on the processor's own stack. That is why patterns 2 and 3 use a fence and not a sequentially
// consistent store, which would be a locked instruction on shared memory: where a guest's mapping
// of BAR2 is uncached, that locks the bus. arm64: ldar or ldapr, stlr, and dmb ish. Guest and host
// are processors of one inner-shareable domain. On neither may the guest map BAR2 as
// write-combining memory, whose stores no release orders.
#pragma once

#include <atomic>
#include <cstdint>

namespace vgpu::ring {

// The memory policy of the real thing. Tests put another in its place, which carries out the same
// calls on a model of the memory.
struct SharedMemory {
    static_assert(std::atomic_ref<std::uint32_t>::is_always_lock_free, "used across processes");
    static_assert(std::atomic_ref<std::uint64_t>::is_always_lock_free, "used across processes");
    static_assert(std::atomic_ref<std::uint64_t>::required_alignment <= 8, "as in the protocol");

    // A control word, sees all that was written before the store_release() whose value it returns.
    template <typename Word>
    static Word load_acquire(Word& word) {
        return std::atomic_ref<Word>(word).load(std::memory_order_acquire);
    }
    // A control word whose freshness and order do not matter.
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

    // Between one's own store and the look at the other's word, pattern 2.
    static void fence() {
#if defined(__SANITIZE_THREAD__) && defined(__x86_64__)
        // The thread sanitizer knows no fences. It cannot see this one either, so it holds the rest
        // to what acquire and release alone say.
        asm volatile("mfence" ::: "memory");
#elif defined(__SANITIZE_THREAD__) && defined(__aarch64__)
        asm volatile("dmb ish" ::: "memory");
#else
        std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
    }

    // Has the processor fetch the line of this word, which is about to be read. No access: nothing
    // may be concluded from it.
    static void prefetch(const std::uint64_t& word) {
        __builtin_prefetch(&word);
    }
    // The same for a word that is about to be written: the line comes with the right to write. A
    // store alone asks for that only when it is its turn, and those behind it wait in the
    // processor's store buffer, which holds what two or three records take.
    static void prefetch_to_write(std::uint64_t& word) {
#if defined(__x86_64__) || defined(__i386__)
        // Not the builtin: unless told that the processor has this instruction, a compiler makes
        // a fetch for reading of it. It does nothing on processors that do not have it (AMD64
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
