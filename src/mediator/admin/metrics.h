// SPDX-License-Identifier: MIT
//
// Metrics: the event stream, counted for Prometheus. An event costs a look-up in a hash table and a
// few additions; text is made when somebody asks for it.
//
// A guest chooses its VM id, pool, priority and opcode: what it can make the mediator tell apart is
// bounded, and the rest is counted as "other". Control loop only.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mediator/admin/control.h"
#include "mediator/events/events.h"

namespace vgpu {

class Metrics final : public EventSink {
  public:
    static constexpr std::size_t kMostVms = 1024;
    static constexpr std::size_t kMostSeries = 16384;  // of requests
    static constexpr std::size_t kBuckets = 22;
    static const std::array<double, kBuckets> kBounds;  // seconds

    // Pools by their ids; others are "other".
    explicit Metrics(const std::vector<char>& pools);

    // Writes all of it in Prometheus' text format, a bounded part with each call, as it was at the
    // first: appends to the text, and says whether there is more. Borrows both until the end.
    [[nodiscard]] std::function<bool(std::string& text)> writer(const AdminControl& control) const;

    void session_closed(const SessionClosed& event) override;
    void request_started(const RequestStarted& event) override;
    void request_finished(const RequestFinished& event) override;
    void request_run(const RequestRun& event) override;
    void queue_stopped(const QueueStopped& event) override;
    void request_refused(const RequestRefused& event) override;
    void request_dropped(const RequestDropped& event) override;

  private:
    enum class Outcome : std::uint8_t { kDone, kFailed, kRefused, kLimited, kDropped };
    struct Histogram {
        std::array<std::uint64_t, kBuckets + 1> counts{};  // each bucket alone
        double sum = 0;                                    // seconds
        std::uint64_t count = 0;

        // `times` observations of this.
        void observe(double seconds, std::uint64_t times = 1);
    };
    struct PoolTimes {
        char id = '?';
        std::array<Histogram, VGPU_PRIORITY_COUNT> wait;
        std::array<Histogram, VGPU_PRIORITY_COUNT> execution;
    };
    static constexpr std::size_t kNoPool = 0xFF;

    using Series = std::pair<std::uint64_t, std::uint64_t>;
    // These of requests, the first of them with the family's head.
    void append_requests(std::string& text, std::span<const Series> series, bool first) const;
    void append_rest(std::string& text, const AdminControl& control) const;
    void count(const RequestInfo& request, Outcome outcome, std::uint64_t times = 1);
    void count_fault(std::uint32_t vm_id);
    // The id, or what stands for all that are not told apart.
    std::uint64_t vm_key(std::uint32_t vm_id);
    // Null for a pool or level that does not exist.
    Histogram* times_of(const RequestInfo& request,
                        std::array<Histogram, VGPU_PRIORITY_COUNT> PoolTimes::*which);

    std::array<std::uint8_t, 256> pool_index_{};
    std::vector<PoolTimes> pools_;
    std::unordered_map<std::uint32_t, std::uint64_t> faults_;  // by VM told apart, also with none
    std::uint64_t other_faults_ = 0;
    std::unordered_map<std::uint64_t, std::uint64_t> requests_;  // by packed labels
};

}  // namespace vgpu
