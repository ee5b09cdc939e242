// SPDX-License-Identifier: MIT
//
// OrderCheck: verifies from the mediator's event stream that a strict pool starts its requests in
// the documented order. The rule, for each request that starts in a pool:
//
//   at that point of the stream no request of this pool with a higher priority waits, and none with
//   the same priority that was accepted earlier.
//
// A request waits from its "accepted" event to its "started" or "dropped" event. The control loop
// emits them where it enqueues and dequeues, so the stream is the order of the scheduler's
// decisions. The rule is exact if a device has one slot (nothing of a VM runs when its next request
// is chosen), aging is off, and no request uses BOOST. SYNCHRONIZE never waits in the scheduler and
// is ignored.
//
// When the stream has lost events, the set of waiting requests is unknown: the check clears it and
// continues with requests accepted later. It may then miss violations but never reports a false
// one.
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
        // Of those, starts that overtook a request accepted earlier, where FIFO order would have
        // chosen differently.
        std::uint64_t overtaking = 0;
        std::uint64_t wrong_priority = 0;  // a higher priority waited
        std::uint64_t wrong_arrival = 0;   // an earlier request of this priority waited
        Levels contended_by{};             // low, medium, high
    };

    // Returns a line of a report.
    static std::string text(char pool, const Figures& figures);

    // Processes one line of the stream. Call reset() before the first line of another stream.
    void line(std::string_view text);
    // Starts a new stream: no request waits.
    void reset() { pools_.clear(); }

    [[nodiscard]] const std::map<char, Figures>& pools() const { return figures_; }
    [[nodiscard]] std::uint64_t lost() const { return lost_; }
    // Text of the first violation; empty if there was none.
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
    // Waiting requests of a pool by acceptance number.
    using Lane = std::map<std::uint64_t, std::string>;  // key of the request
    struct Pool {
        std::array<Lane, kLevels> lanes;
        // Acceptance numbers of waiting requests.
        std::unordered_multimap<std::string, std::uint64_t> by_key;
    };

    // Returns false if the line is not a request event or is malformed.
    static bool parse(std::string_view text, Event& event);
    void start(const Event& event, Pool& pool, const std::string& key);
    static void remove(Pool& pool, std::size_t level, const std::string& key, std::uint64_t number);
    // Returns the oldest acceptance number with this key, or 0.
    static std::uint64_t find(const Pool& pool, const std::string& key);

    std::map<char, Pool> pools_;
    std::map<char, Figures> figures_;
    std::uint64_t next_ = 1;
    std::uint64_t lost_ = 0;
    std::string first_violation_;
};

}  // namespace vgpu::test
