// SPDX-License-Identifier: MIT
//
// OrderCheck: proves from the mediator's event stream that a strict pool starts its requests in the
// documented order. The rule, for each request that starts in a pool:
//
//   at that point of the stream no request of this pool with a higher priority waits, and none with
//   the same priority that was accepted earlier.
//
// A request waits from its "accepted" event to its "started" or "dropped" event. The control loop
// emits both where it queues and dequeues, so the stream is the order of the scheduler's decisions.
// The rule is exact where a device has one slot (nothing of a VM runs when its next request is
// chosen), aging is off, and no request asks for BOOST. SYNCHRONIZE never waits in the scheduler
// and is left out.
//
// When the stream has lost events, what waits is unknown: the check forgets all that waits and
// continues with what is accepted after that. It may then miss a decision, and never reports one
// that was right.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>

namespace vgpu::test {

class OrderCheck {
  public:
    static constexpr std::size_t kLevels = 3;
    using Levels = std::array<std::uint64_t, kLevels>;

    struct Figures {
        std::uint64_t accepted = 0;
        std::uint64_t started = 0;
        // Starts while requests of another priority waited in the same pool.
        std::uint64_t contended = 0;
        // Of them, those that overtook a request accepted earlier: arrival alone would have chosen
        // otherwise.
        std::uint64_t overtaking = 0;
        std::uint64_t wrong_priority = 0;  // a higher one waited
        std::uint64_t wrong_arrival = 0;   // one of this priority waited for longer
        Levels contended_by{};             // low, medium, high
    };

    // A line of a report.
    static std::string text(char pool, const Figures& figures);

    // One line of the stream. Not to be called for a stream that has ended: see reset().
    void line(std::string_view text);
    // Another stream begins: nothing waits.
    void reset() { pools_.clear(); }

    [[nodiscard]] const std::map<char, Figures>& pools() const { return figures_; }
    [[nodiscard]] std::uint64_t lost() const { return lost_; }
    // The first violation as a sentence; empty if there was none.
    [[nodiscard]] const std::string& first_violation() const { return first_violation_; }

  private:
    struct Event {
        std::string_view kind;
        std::uint64_t session = 0;
        std::uint64_t vm = 0;
        std::uint64_t request = 0;
        std::uint64_t opcode = 0;
        char pool = 0;
        std::size_t level = 0;
    };
    // What waits in a pool, by the number of its acceptance.
    using Lane = std::map<std::uint64_t, std::string>;  // the key of the request
    struct Pool {
        std::array<Lane, kLevels> lanes;
        // Of a request that waits, the number of its acceptance.
        std::unordered_multimap<std::string, std::uint64_t> by_key;
    };

    // False if the line is not a request's, or is malformed.
    static bool parse(std::string_view text, Event& event);
    void start(const Event& event, Pool& pool, const std::string& key);
    static void remove(Pool& pool, std::size_t level, const std::string& key, std::uint64_t number);
    // The oldest with this key, or 0.
    static std::uint64_t find(const Pool& pool, const std::string& key);

    std::map<char, Pool> pools_;
    std::map<char, Figures> figures_;
    std::uint64_t next_ = 1;
    std::uint64_t lost_ = 0;
    std::string first_violation_;
};

}  // namespace vgpu::test
