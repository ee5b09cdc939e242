// SPDX-License-Identifier: MIT
#include "vm/order_check.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace vgpu::test {
namespace {

constexpr std::uint64_t kSynchronize = 6;

// Returns the text between `"name":` and the next comma or brace, without quotes. The values of
// these members contain no escapes.
std::string_view member(std::string_view text, std::string_view name) {
    const std::string wanted = "\"" + std::string(name) + "\":";
    const auto at = text.find(wanted);
    if (at == std::string_view::npos) {
        return {};
    }
    text.remove_prefix(at + wanted.size());
    text = text.substr(0, text.find_first_of(",}"));
    if (text.size() >= 2 && text.front() == '"') {
        text = text.substr(1, text.size() - 2);
    }
    return text;
}

bool number(std::string_view text, std::uint64_t& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size();
}

}  // namespace

std::string OrderCheck::text(char pool, const Figures& figures) {
    const auto count = [](std::uint64_t number, const char* what) {
        return std::to_string(number) + what;
    };
    return "pool " + std::string(1, pool) + ": " + count(figures.started, " started, ") +
           count(figures.contended, " of them while another priority waited (") +
           count(figures.contended_by[2], " high, ") + count(figures.contended_by[1], " medium, ") +
           count(figures.contended_by[0], " low), ") +
           count(figures.overtaking, " overtook an earlier one; ") +
           count(figures.wrong_priority, " against priority, ") +
           count(figures.wrong_arrival, " against arrival");
}

bool OrderCheck::parse(std::string_view text, Event& event) {
    event.kind = member(text, "event");
    const auto pool = member(text, "pool");
    const auto level = member(text, "priority");
    constexpr std::array<std::string_view, kLevels> kNames{"low", "medium", "high"};
    const auto* const found = std::find(kNames.begin(), kNames.end(), level);
    if (pool.size() != 1 || found == kNames.end()) {
        return false;
    }
    event.pool = pool[0];
    event.level = static_cast<std::size_t>(found - kNames.begin());
    return number(member(text, "session"), event.session) && number(member(text, "vm"), event.vm) &&
           number(member(text, "request_id"), event.request) &&
           number(member(text, "opcode"), event.opcode);
}

void OrderCheck::line(std::string_view text) {
    if (member(text, "event") == "lost") {
        std::uint64_t count = 0;
        (void)number(member(text, "count"), count);
        lost_ += count;
        reset();
        return;
    }
    Event event;
    if (!parse(text, event) || event.opcode == kSynchronize) {
        return;
    }
    Pool& pool = pools_[event.pool];
    const std::string key = std::to_string(event.session) + "/" + std::to_string(event.request) +
                            "/" + std::to_string(event.opcode);
    if (event.kind == "request_accepted") {
        ++figures_[event.pool].accepted;
        pool.lanes.at(event.level).emplace(next_, key);
        pool.by_key.emplace(key, next_);
        ++next_;
    } else if (event.kind == "request_started") {
        start(event, pool, key);
    } else if (event.kind == "request_dropped") {
        if (const auto waiting = find(pool, key)) {
            remove(pool, event.level, key, waiting);
        }
    }
}

void OrderCheck::start(const Event& event, Pool& pool, const std::string& key) {
    const std::uint64_t waiting = find(pool, key);
    // Not found if its "accepted" event was lost.
    const std::uint64_t accepted = waiting == 0 ? next_ : waiting;
    Figures& figures = figures_[event.pool];
    ++figures.started;
    bool contended = false;
    bool overtook = false;
    for (std::size_t level = 0; level != kLevels; ++level) {
        const Lane& lane = pool.lanes.at(level);
        if (level == event.level || lane.empty()) {
            continue;
        }
        contended = true;
        if (level > event.level) {
            ++figures.wrong_priority;
            if (first_violation_.empty()) {
                first_violation_ = "pool " + std::string(1, event.pool) + ": request " + key +
                                   " (session/id/opcode) of VM " + std::to_string(event.vm) +
                                   " started while " + lane.begin()->second +
                                   " of a higher priority waited";
            }
        } else {
            overtook = overtook || lane.begin()->first < accepted;
        }
    }
    figures.contended += contended ? 1 : 0;
    figures.overtaking += overtook ? 1 : 0;
    figures.contended_by.at(event.level) += contended ? 1 : 0;
    if (waiting == 0) {
        return;
    }
    const Lane& own = pool.lanes.at(event.level);
    if (!own.empty() && own.begin()->first < waiting) {
        ++figures.wrong_arrival;
        if (first_violation_.empty()) {
            first_violation_ = "pool " + std::string(1, event.pool) + ": request " + key +
                               " (session/id/opcode) of VM " + std::to_string(event.vm) +
                               " started before " + own.begin()->second +
                               ", which has its priority and was accepted earlier";
        }
    }
    remove(pool, event.level, key, waiting);
}

std::uint64_t OrderCheck::find(const Pool& pool, const std::string& key) {
    std::uint64_t oldest = 0;
    const auto [begin, end] = pool.by_key.equal_range(key);
    for (auto at = begin; at != end; ++at) {
        oldest = oldest == 0 ? at->second : std::min(oldest, at->second);
    }
    return oldest;
}

void OrderCheck::remove(Pool& pool, std::size_t level, const std::string& key,
                        std::uint64_t number) {
    pool.lanes.at(level).erase(number);
    const auto [begin, end] = pool.by_key.equal_range(key);
    for (auto at = begin; at != end; ++at) {
        if (at->second == number) {
            pool.by_key.erase(at);
            return;
        }
    }
}

}  // namespace vgpu::test
