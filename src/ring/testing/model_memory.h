// SPDX-License-Identifier: MIT
//
// A model of shared memory for tests: runs a few threads of real code through every interleaving
// and every value that the memory model lets a load return, and reports violations.
//
// The code under test takes ModelMemory as its memory policy. Control words keep the history of
// their stores. Each thread has a view: for each word the oldest store that it may still read. A
// load may return any store from there on; a release store carries its thread's view and an acquire
// load merges that view into its own; a fence exchanges views with all other fences. This is the
// C++ model without reordering of a load with a later store. It allows more than x86-64 (store
// buffers) and every arm64 reordering of loads with loads and stores with stores. Contents of
// records are checked for races with vector clocks instead: a read that is not ordered after the
// write, or a write that is not ordered after all reads of the previous contents, is a violation,
// whatever the order of execution. That covers the rest.
//
// A thread is a function without state of its own. Each step runs it from its beginning: its log
// holds the results of its calls so far, and the first call beyond the log ends the run with an
// exception and becomes the thread's next step. So the logs of all threads are the state of the
// whole, which can be copied, and each state is explored once.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace vgpu::ring::model {

inline constexpr std::size_t kMaxThreads = 3;
inline constexpr std::size_t kMaxWords = 16;   // control words
inline constexpr std::size_t kMaxSignals = 4;  // doorbells, interrupts
using View = std::array<std::uint16_t, kMaxWords>;
using Clock = std::array<std::uint16_t, kMaxThreads>;

template <typename Array>
void join(Array& into, const Array& from) {
    for (std::size_t i = 0; i != into.size(); ++i) {
        into[i] = std::max(into[i], from[i]);
    }
}

enum class Kind : std::uint8_t {
    kLoad,
    kStore,
    kFence,
    kRing,   // a signal, like an eventfd, but not counted
    kSleep,  // until the signal, which is then cleared
    kTurn,   // waits for its number: orders the threads during set-up
};

struct Step {
    Kind kind;
    bool ordered;  // acquire or release; signals: orders like these
    std::size_t target;
    std::uint64_t value;
};

// Ends a run of a thread at its next step.
struct NextStep : std::exception {
    explicit NextStep(const Step& next) : step(next) {}
    Step step;
};

// Thrown by a thread that detects a violation.
struct Violation : std::exception {
    explicit Violation(const char* text) : what_is_wrong(text) {}
    const char* what_is_wrong;
};

// What is removed from the code under test, to check that the model detects it.
enum class Weakening : std::uint8_t {
    kNone,
    kNoFenceAfter,  // the access to the word
    kRelaxedStore,
    kRelaxedLoad,
};
struct Mutation {
    Weakening weakening = Weakening::kNone;
    const void* word = nullptr;
};

struct Outcome {
    std::string violation;  // empty: none
    std::size_t states = 0;
    std::size_t ends = 0;  // states in which all threads had ended
    bool complete = true;  // false: gave up after too many states
};

class Explorer {
  public:
    // Runs `threads` through all interleavings, until the first violation.
    static Outcome run(std::vector<std::function<void()>> threads, Mutation mutation = {}) {
        Explorer explorer(std::move(threads), mutation);
        current() = &explorer;
        explorer.explore();
        current() = nullptr;
        return explorer.outcome_;
    }

    // Called by the threads through the functions below.
    std::uint64_t perform(const Step& step) {
        std::vector<std::uint64_t>& log = world_.threads[running_].log;
        if (position_ == log.size()) {
            throw NextStep(step);
        }
        return log[position_++];
    }
    std::uint64_t access_data(const void* address, bool write, std::uint64_t value) {
        Thread& thread = world_.threads[running_];
        if (position_ != thread.log.size()) {
            return thread.log[position_++];
        }
        Data& data = world_.data[address];
        for (std::size_t other = 0; other != threads_.size(); ++other) {
            if (other == running_) {
                continue;
            }
            if (data.written[other] > thread.clock[other]) {
                throw Violation(write ? "contents written twice without order"
                                      : "contents read before they are written");
            }
            if (write && data.read[other] > thread.clock[other]) {
                throw Violation("contents overwritten before they are read");
            }
        }
        const std::uint16_t now = ++thread.clock[running_];
        (write ? data.written : data.read)[running_] = now;
        if (write) {
            data.value = value;
        }
        append(thread, data.value, 0);
        ++position_;
        return data.value;
    }
    static std::size_t word(const void* address) { return current()->word_of(address); }
    static Explorer*& current() {
        static Explorer* explorer = nullptr;
        return explorer;
    }

  private:
    static constexpr std::size_t kMaxStates = 4'000'000;

    struct Message {
        std::uint64_t value = 0;
        View view{};
        Clock clock{};
    };
    struct Data {
        std::uint64_t value = 0;
        Clock written{};
        Clock read{};
    };
    struct Signal {
        bool pending = false;
        View view{};
        Clock clock{};
    };
    struct Thread {
        std::vector<std::uint64_t> log;
        std::uint64_t log_hash = 0;  // of the log, and of which store each load returned
        View view{};
        Clock clock{};
        Step next{};
        std::size_t last_word = kMaxWords;
        bool ended = false;
    };
    struct World {
        std::array<std::vector<Message>, kMaxWords> words;
        std::array<Signal, kMaxSignals> signals;
        std::unordered_map<const void*, Data> data;
        std::vector<Thread> threads;
        View fences{};
        std::uint64_t turn = 0;
    };

    Explorer(std::vector<std::function<void()>> threads, Mutation mutation)
        : threads_(std::move(threads)), mutation_(mutation) {
        world_.threads.resize(threads_.size());
        for (auto& history : world_.words) {
            history.resize(1);  // 0, like fresh memory
        }
    }

    std::size_t word_of(const void* address) {
        return words_.try_emplace(address, words_.size()).first->second;
    }

    static std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
        hash ^= value + 0x9E3779B97F4A7C15U + (hash << 6U) + (hash >> 2U);
        hash *= 0xFF51AFD7ED558CCDU;
        return hash ^ (hash >> 33U);
    }
    template <typename Array>
    static std::uint64_t mix_all(std::uint64_t hash, const Array& values) {
        for (const auto value : values) {
            hash = mix(hash, value);
        }
        return hash;
    }

    static void append(Thread& thread, std::uint64_t result, std::uint64_t detail) {
        thread.log.push_back(result);
        thread.log_hash = mix(mix(thread.log_hash, result), detail);
    }

    [[nodiscard]] bool weakened(Weakening weakening, std::size_t word) const {
        const auto found = words_.find(mutation_.word);
        return mutation_.weakening == weakening && found != words_.end() && found->second == word;
    }

    [[nodiscard]] bool enabled(const Thread& thread) const {
        if (thread.ended) {
            return false;
        }
        const Step& step = thread.next;
        return (step.kind != Kind::kSleep || world_.signals[step.target].pending) &&
               (step.kind != Kind::kTurn || world_.turn == step.value);
    }

    // Runs a thread up to its next step that is not a store. Returns false on a violation.
    bool advance(std::size_t index) {
        Thread& thread = world_.threads[index];
        do {
            running_ = index;
            position_ = 0;
            try {
                threads_[index]();
                thread.ended = true;
            } catch (const NextStep& next) {
                thread.next = next.step;
            } catch (const Violation& violation) {
                outcome_.violation = violation.what_is_wrong;
                return false;
            }
            if (thread.ended || thread.next.kind != Kind::kStore) {
                return true;
            }
            // Loads may still return the old value, so storing at once loses no interleaving.
            execute(thread, index, 0);
        } while (true);
    }

    // Executes a thread's next step; `message` selects the store that a load returns.
    void execute(Thread& thread, std::size_t index, std::size_t message) {
        const Step step = thread.next;
        std::uint64_t result = 0;
        std::uint64_t detail = message;
        ++thread.clock[index];
        switch (step.kind) {
            case Kind::kLoad: {
                const Message& from = world_.words[step.target][message];
                result = from.value;
                thread.view[step.target] = static_cast<std::uint16_t>(message);
                if (step.ordered && !weakened(Weakening::kRelaxedLoad, step.target)) {
                    join(thread.view, from.view);
                    join(thread.clock, from.clock);
                }
                thread.last_word = step.target;
                break;
            }
            case Kind::kStore: {
                auto& history = world_.words[step.target];
                thread.view[step.target] = static_cast<std::uint16_t>(history.size());
                Message to{step.value, {}, {}};
                to.view[step.target] = thread.view[step.target];
                if (step.ordered && !weakened(Weakening::kRelaxedStore, step.target)) {
                    to.view = thread.view;
                    to.clock = thread.clock;
                }
                history.push_back(to);
                thread.last_word = step.target;
                break;
            }
            case Kind::kFence:
                if (!weakened(Weakening::kNoFenceAfter, thread.last_word)) {
                    join(thread.view, world_.fences);
                    world_.fences = thread.view;
                }
                detail = mix_all(0, thread.view);
                break;
            case Kind::kRing: {
                Signal& signal = world_.signals[step.target];
                signal.pending = true;
                if (step.ordered) {
                    join(signal.view, thread.view);
                    join(signal.clock, thread.clock);
                }
                break;
            }
            case Kind::kSleep: {
                Signal& signal = world_.signals[step.target];
                signal.pending = false;
                join(thread.view, signal.view);
                join(thread.clock, signal.clock);
                detail = mix_all(mix_all(0, signal.view), signal.clock);
                break;
            }
            case Kind::kTurn:
                ++world_.turn;
                for (const Thread& other : world_.threads) {
                    join(thread.view, other.view);
                    join(thread.clock, other.clock);
                }
                break;
        }
        append(thread, result, detail);
    }

    // Hash of the whole state. The logs record what the threads have done and seen, hence the
    // content of the words; 64 bits are enough to distinguish some 100,000 states.
    [[nodiscard]] std::uint64_t hash() const {
        std::uint64_t hash = mix(mix_all(0, world_.fences), world_.turn);
        for (const Thread& thread : world_.threads) {
            hash = mix(mix(hash, thread.log_hash), thread.log.size());
        }
        for (const Signal& signal : world_.signals) {
            hash = mix_all(mix(hash, signal.pending ? 1 : 0), signal.view);
            hash = mix_all(hash, signal.clock);
        }
        return hash;
    }

    void explore() {
        for (std::size_t i = 0; i != threads_.size(); ++i) {
            if (!advance(i)) {
                return;
            }
        }
        std::vector<World> open{world_};
        std::unordered_set<std::uint64_t> seen{hash()};
        while (!open.empty()) {
            const World from = std::move(open.back());
            open.pop_back();
            ++outcome_.states;
            bool moved = false;
            for (std::size_t i = 0; i != threads_.size(); ++i) {
                world_.turn = from.turn;
                world_.signals = from.signals;
                if (!enabled(from.threads[i])) {
                    continue;
                }
                moved = true;
                const Step& step = from.threads[i].next;
                const bool load = step.kind == Kind::kLoad;
                const std::size_t first = load ? from.threads[i].view[step.target] : 0;
                const std::size_t last = load ? from.words[step.target].size() - 1 : 0;
                for (std::size_t message = first; message <= last; ++message) {
                    world_ = from;
                    execute(world_.threads[i], i, message);
                    if (!advance(i)) {
                        return;
                    }
                    if (seen.insert(hash()).second) {
                        open.push_back(world_);
                    }
                }
            }
            if (!moved) {
                if (!std::all_of(from.threads.begin(), from.threads.end(),
                                 [](const Thread& thread) { return thread.ended; })) {
                    outcome_.violation = "a sleeper is not woken";
                    return;
                }
                ++outcome_.ends;
            }
            if (seen.size() > kMaxStates) {
                outcome_.complete = false;
                return;
            }
        }
    }

    std::vector<std::function<void()>> threads_;
    Mutation mutation_;
    std::unordered_map<const void*, std::size_t> words_;
    World world_;  // current state while a thread runs
    std::size_t running_ = 0;
    std::size_t position_ = 0;  // in the running thread's log
    Outcome outcome_;
};

// Calls available to a thread besides the code under test.
inline void ring(std::size_t signal, bool ordered = false) {
    Explorer::current()->perform({Kind::kRing, ordered, signal, 0});
}
inline void sleep(std::size_t signal) {
    Explorer::current()->perform({Kind::kSleep, false, signal, 0});
}
// Continues as the `number`th of all callers, and sees everything done so far.
inline void turn(std::uint64_t number) {
    Explorer::current()->perform({Kind::kTurn, false, 0, number});
}
inline void expect(bool right, const char* what_is_wrong_otherwise) {
    if (!right) {
        throw Violation(what_is_wrong_otherwise);
    }
}

// The memory policy.
struct ModelMemory {
    template <typename Word>
    static Word load_acquire(Word& word) {
        return load(word, true);
    }
    template <typename Word>
    static Word load_relaxed(Word& word) {
        return load(word, false);
    }
    template <typename Word>
    static void store_release(Word& word, Word value) {
        store(word, value, true);
    }
    template <typename Word>
    static void store_relaxed(Word& word, Word value) {
        store(word, value, false);
    }
    static void fence() { Explorer::current()->perform({Kind::kFence, false, 0, 0}); }
    static void prefetch(const std::uint64_t& /*word*/) {}
    static void prefetch_to_write(std::uint64_t& /*word*/) {}
    static std::uint64_t read(std::uint64_t& word) {
        return Explorer::current()->access_data(&word, false, 0);
    }
    static void write(std::uint64_t& word, std::uint64_t value) {
        Explorer::current()->access_data(&word, true, value);
    }

  private:
    template <typename Word>
    static Word load(Word& word, bool acquire) {
        return static_cast<Word>(
            Explorer::current()->perform({Kind::kLoad, acquire, Explorer::word(&word), 0}));
    }
    template <typename Word>
    static void store(Word& word, Word value, bool release) {
        Explorer::current()->perform({Kind::kStore, release, Explorer::word(&word), value});
    }
};

}  // namespace vgpu::ring::model
