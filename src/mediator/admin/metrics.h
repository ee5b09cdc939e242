// SPDX-License-Identifier: MIT
//
// Metrics: aggregates the event stream for Prometheus. An event costs a hash table look-up and a
// few additions; text is generated on request.
//
// A guest chooses its VM id, pool, priority and opcode, so the number of distinct series is
// bounded; the rest is counted as "other". Control loop only.
#pragma once

#include <prometheus/metric_family.h>

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
    static constexpr std::size_t kMostSeries = 16384;  // of vgpu_requests_total
    static constexpr std::size_t kBuckets = 22;
    static const std::array<double, kBuckets> kBounds;  // seconds

    // Pools by id; all others are counted as "other".
    explicit Metrics(const std::vector<char>& pools);

    // Returns a function that appends all metrics, as of its first call, in Prometheus text format,
    // a bounded part per call. It returns whether there is more. Borrows both until the end.
    [[nodiscard]] std::function<bool(std::string& text)> writer(const AdminControl& control) const;

    void on_event(const Event& event) override { dispatch(*this, event); }
    void on(const SessionClosed& event);
    void on(const RequestStarted& event);
    void on(const RequestFinished& event);
    void on(const RequestRun& event);
    void on(const QueueStopped& event);
    void on(const RequestRefused& event);
    void on(const RequestDropped& event);

  private:
    enum class Outcome : std::uint8_t { kDone, kFailed, kRefused, kLimited, kDropped };
    struct Histogram {
        std::array<std::uint64_t, kBuckets + 1> counts{};  // per bucket, not cumulative
        double sum = 0;                                    // seconds
        std::uint64_t count = 0;

        // Adds `times` observations.
        void observe(double seconds, std::uint64_t times = 1);
    };
    struct PoolTimes {
        char id = '?';
        std::array<Histogram, VGPU_PRIORITY_COUNT> wait;
        std::array<Histogram, VGPU_PRIORITY_COUNT> execution;
    };
    static constexpr std::size_t kNoPool = 0xFF;

    using Series = std::pair<std::uint64_t, std::uint64_t>;
    [[nodiscard]] prometheus::MetricFamily requests_family(std::span<const Series> series) const;
    [[nodiscard]] static prometheus::MetricFamily faults_family(std::span<const Series> series);
    // Everything else.
    void append_rest(std::string& text, const AdminControl& control) const;
    void count(const RequestInfo& request, Outcome outcome, std::uint64_t times = 1);
    void count_fault(std::uint32_t vm_id);
    // Returns the id, or kOtherVm for a VM that is not tracked.
    std::uint64_t vm_key(std::uint32_t vm_id);
    // Returns null for a pool or level that does not exist.
    Histogram* times_of(const RequestInfo& request,
                        std::array<Histogram, VGPU_PRIORITY_COUNT> PoolTimes::*which);

    std::array<std::uint8_t, 256> pool_index_{};
    std::vector<PoolTimes> pools_;
    std::unordered_map<std::uint32_t, std::uint64_t> faults_;  // by tracked VM, zeros included
    std::uint64_t other_faults_ = 0;
    std::unordered_map<std::uint64_t, std::uint64_t> requests_;  // by packed labels
};

}  // namespace vgpu
