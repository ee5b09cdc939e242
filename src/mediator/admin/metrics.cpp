// SPDX-License-Identifier: MIT
#include "mediator/admin/metrics.h"

#include <fmt/format.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include "mediator/config/names.h"
#include "mediator/vms/vm_table.h"
#include "vgpu_names.h"

namespace vgpu {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

// Packed labels of a request: VM id in the low 32 bits, then "other VM", pool, level, operation,
// outcome.
constexpr std::uint64_t kOtherVm = std::uint64_t{1} << 32U;
constexpr unsigned kPoolShift = 33;
constexpr unsigned kLevelShift = 41;
constexpr unsigned kOperationShift = 44;
constexpr unsigned kOutcomeShift = 52;

std::string vm_label(std::uint64_t key) {
    return (key & kOtherVm) != 0 ? "other" : fmt::format_int(static_cast<std::uint32_t>(key)).str();
}

constexpr std::array<std::uint32_t, 11> kOperations{
    VGPU_OP_NOP,         VGPU_OP_CUDA_KERNEL,     VGPU_OP_MEMORY_ALLOC, VGPU_OP_MEMORY_FREE,
    VGPU_OP_MEMORY_COPY, VGPU_OP_GET_DEVICE_INFO, VGPU_OP_SYNCHRONIZE,  VGPU_OP_VECTOR_ADD,
    VGPU_OP_SAXPY,       VGPU_OP_MATMUL,          VGPU_OP_REDUCE_SUM};
// Series serialized per call. Each takes some 2 us.
constexpr std::size_t kAtOnce = 128;

constexpr std::array<const char*, 5> kOutcomes{"done", "failed", "refused", "limited", "dropped"};

std::uint64_t operation_index(std::uint32_t opcode) {
    const auto* const found = std::find(kOperations.begin(), kOperations.end(), opcode);
    return static_cast<std::uint64_t>(found - kOperations.begin());
}

std::uint64_t field(std::uint64_t key, unsigned shift, unsigned bits) {
    return (key >> shift) & ((std::uint64_t{1} << bits) - 1);
}

MetricFamily family(const char* name, const char* help, MetricType type) {
    MetricFamily made;
    made.name = name;
    made.help = help;
    made.type = type;
    return made;
}

void add_value(MetricFamily& to, Labels labels, double value) {
    ClientMetric metric;
    metric.label = std::move(labels);
    (to.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
    to.metric.push_back(std::move(metric));
}

MetricFamily single(const char* name, const char* help, MetricType type, double value) {
    MetricFamily made = family(name, help, type);
    add_value(made, {}, value);
    return made;
}

void add_pools(std::vector<MetricFamily>& to, const AdminControl& control) {
    MetricFamily depth = family("vgpu_queue_depth", "Queued requests.", MetricType::Gauge);
    for (const PoolView& pool : control.pools()) {
        for (std::size_t level = 0; level < pool.queued.size(); ++level) {
            add_value(depth, {{"pool", std::string(1, pool.id)}, {"priority", level_name(level)}},
                      static_cast<double>(pool.queued.at(level)));
        }
    }
    to.push_back(std::move(depth));
}

void add_gpus(std::vector<MetricFamily>& to, const AdminControl& control) {
    MetricFamily busy = family("vgpu_gpu_busy_seconds_total", "Time spent executing requests.",
                               MetricType::Counter);
    MetricFamily memory = family("vgpu_gpu_memory_bytes", "Device memory.", MetricType::Gauge);
    MetricFamily recoveries = family(
        "vgpu_gpu_recoveries_total",
        "Recoveries of a GPU after a failure, with a new worker process.", MetricType::Counter);
    for (const GpuView& gpu : control.gpus()) {
        const std::string index = fmt::format_int(gpu.index).str();
        add_value(busy, {{"gpu", index}}, std::chrono::duration<double>(gpu.busy).count());
        add_value(memory, {{"gpu", index}, {"state", "total"}},
                  static_cast<double>(gpu.memory_total));
        add_value(memory, {{"gpu", index}, {"state", "free"}},
                  static_cast<double>(gpu.memory_free));
        add_value(recoveries, {{"gpu", index}}, static_cast<double>(gpu.recoveries));
    }
    to.push_back(std::move(busy));
    to.push_back(std::move(memory));
    to.push_back(std::move(recoveries));
}

void add_status(std::vector<MetricFamily>& to, const AdminControl& control) {
    const StatusView status = control.status();
    to.push_back(single("vgpu_connections", "Open connections of devices.", MetricType::Gauge,
                        static_cast<double>(status.connections)));
    to.push_back(single("vgpu_quarantined_vms", "Quarantined VMs.", MetricType::Gauge,
                        static_cast<double>(status.quarantined_vms)));
    to.push_back(single("vgpu_log_lines_suppressed_total",
                        "Log lines suppressed because a VM caused too many.", MetricType::Counter,
                        static_cast<double>(status.log_lines_suppressed)));
    to.push_back(single("vgpu_shared_memory_devices", "Devices whose shared memory is served.",
                        MetricType::Gauge, static_cast<double>(status.shared_memory_devices)));
    to.push_back(single("vgpu_shared_memory_bytes", "Shared memory that is served.",
                        MetricType::Gauge, static_cast<double>(status.shared_memory_bytes)));
    to.push_back(
        single("vgpu_heap_bytes_copied_by_processor_total",
               "Bytes of shared memory that a processor copied; GPUs copy them themselves.",
               MetricType::Counter, static_cast<double>(status.heap_bytes_copied)));
    MetricFamily latency = family(
        "vgpu_loop_latency_seconds",
        "Longest time between two polls of a kind of source by the control loop, of the last "
        "30 to 60 seconds.",
        MetricType::Gauge);
    for (std::size_t source = 0; source < kLoopSources; ++source) {
        add_value(latency, {{"source", kLoopSourceNames.at(source)}},
                  std::chrono::duration<double>(status.loop_latency.at(source)).count());
    }
    to.push_back(std::move(latency));
    MetricFamily build = family("vgpu_build_info", "The mediator's version.", MetricType::Gauge);
    add_value(build, {{"version", VGPU_VERSION}}, 1);
    to.push_back(std::move(build));
}

}  // namespace

const std::array<double, Metrics::kBuckets> Metrics::kBounds{
    1e-6, 2.5e-6, 5e-6,  1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3,
    5e-3, 1e-2,   0.025, 0.05, 0.1,    0.25, 0.5,  1.0,    2.5,  5.0,  10.0};

void Metrics::Histogram::observe(double seconds, std::uint64_t times) {
    const auto* const bucket = std::lower_bound(kBounds.begin(), kBounds.end(), seconds);
    counts.at(static_cast<std::size_t>(bucket - kBounds.begin())) += times;
    sum += seconds * static_cast<double>(times);
    count += times;
}

Metrics::Metrics(const std::vector<char>& pools) {
    pool_index_.fill(kNoPool);
    for (const char id : pools) {
        pool_index_.at(static_cast<std::uint8_t>(id)) = static_cast<std::uint8_t>(pools_.size());
        pools_.emplace_back().id = id;
    }
}

std::uint64_t Metrics::vm_key(std::uint32_t vm_id) {
    if (faults_.contains(vm_id)) {
        return vm_id;
    }
    if (faults_.size() >= kMostVms) {
        return kOtherVm;
    }
    faults_.emplace(vm_id, 0);
    return vm_id;
}

void Metrics::count(const RequestInfo& request, Outcome outcome, std::uint64_t times) {
    const std::uint64_t rest =
        std::uint64_t{pool_index_.at(request.pool)} << kPoolShift |
        std::uint64_t{std::min<std::uint8_t>(request.priority, VGPU_PRIORITY_COUNT)}
            << kLevelShift |
        operation_index(request.opcode) << kOperationShift |
        static_cast<std::uint64_t>(outcome) << kOutcomeShift;
    const std::uint64_t key = vm_key(request.vm_id) | rest;
    if (const auto found = requests_.find(key); found != requests_.end()) {
        found->second += times;
    } else {
        requests_[requests_.size() < kMostSeries ? key : kOtherVm | rest] += times;
    }
}

void Metrics::count_fault(std::uint32_t vm_id) {
    const std::uint64_t key = vm_key(vm_id);
    ++(key == kOtherVm ? other_faults_ : faults_.at(vm_id));
}

Metrics::Histogram* Metrics::times_of(
    const RequestInfo& request, std::array<Histogram, VGPU_PRIORITY_COUNT> PoolTimes::*which) {
    const std::size_t pool = pool_index_.at(request.pool);
    if (pool == kNoPool || request.priority >= VGPU_PRIORITY_COUNT) {
        return nullptr;
    }
    return &(pools_[pool].*which).at(request.priority);
}

void Metrics::on(const SessionClosed& event) {
    // A fault of a rejected connection is not counted for the VM whose id it claimed.
    if (event.vm_id && event.identified && is_fault(event.reason)) {
        count_fault(*event.vm_id);
    }
}

void Metrics::on(const RequestStarted& event) {
    if (Histogram* const wait = times_of(event.request, &PoolTimes::wait)) {
        wait->observe(std::chrono::duration<double>(event.waited).count());
    }
}

void Metrics::on(const RequestFinished& event) {
    count(event.request, event.status == VGPU_ERR_NONE ? Outcome::kDone : Outcome::kFailed);
    if (event.fault) {
        count_fault(event.request.vm_id);
    }
    if (Histogram* const execution = times_of(event.request, &PoolTimes::execution)) {
        execution->observe(static_cast<double>(event.exec_time_us) / 1e6);
    }
}

void Metrics::on(const RequestRun& event) {
    count(event.request, Outcome::kDone, event.count);
    if (Histogram* const wait = times_of(event.request, &PoolTimes::wait)) {
        wait->observe(std::chrono::duration<double>(event.waited).count(), event.count);
    }
    if (Histogram* const execution = times_of(event.request, &PoolTimes::execution)) {
        execution->observe(
            static_cast<double>(event.exec_time_us) / 1e6 / static_cast<double>(event.count),
            event.count);
    }
}

void Metrics::on(const QueueStopped& event) {
    count_fault(event.vm_id);
}

void Metrics::on(const RequestRefused& event) {
    count(event.request, is_limit(event.status) ? Outcome::kLimited : Outcome::kRefused);
    if (is_vm_fault(event.status)) {
        count_fault(event.request.vm_id);
    }
}

void Metrics::on(const RequestDropped& event) {
    count(event.request, Outcome::kDropped);
}

namespace {

// Appends one part of a family. Only the first has the family's HELP and TYPE lines.
void append_part(std::string& text, const MetricFamily& family, bool first) {
    const std::string part = prometheus::TextSerializer().Serialize({family});
    const std::size_t begin = first ? 0 : part.find('\n', part.find('\n') + 1) + 1;
    text.append(part, begin);
}

}  // namespace

std::function<bool(std::string& text)> Metrics::writer(const AdminControl& control) const {
    // A snapshot, so that all parts of one text are consistent.
    struct Rest {
        std::vector<Series> requests;
        std::vector<Series> faults;
        std::size_t next = 0;  // index into requests, then into faults
    };
    return [this, &control, rest = std::optional<Rest>()](std::string& text) mutable {
        if (!rest) {
            rest.emplace(Rest{.requests = {requests_.begin(), requests_.end()},
                              .faults = {faults_.begin(), faults_.end()}});
            rest->faults.emplace_back(kOtherVm, other_faults_);
            append_rest(text, control);
            return true;
        }
        const bool requests = rest->next < rest->requests.size();
        const std::size_t begin = rest->next - (requests ? 0 : rest->requests.size());
        const auto all = std::span(std::as_const(requests ? rest->requests : rest->faults));
        const auto part = all.subspan(begin, std::min(kAtOnce, all.size() - begin));
        append_part(text, requests ? requests_family(part) : faults_family(part), begin == 0);
        rest->next += part.size();
        return rest->next < rest->requests.size() + rest->faults.size();
    };
}

MetricFamily Metrics::requests_family(std::span<const Series> series) const {
    MetricFamily requests =
        family("vgpu_requests_total", "Requests by outcome.", MetricType::Counter);
    for (const auto& [key, value] : series) {
        const std::uint64_t pool = field(key, kPoolShift, 8);
        const std::uint64_t level = field(key, kLevelShift, 3);
        const std::uint64_t operation = field(key, kOperationShift, 8);
        add_value(requests,
                  {{"vm", vm_label(key)},
                   {"pool", pool == kNoPool ? "other" : std::string(1, pools_.at(pool).id)},
                   {"priority", level < VGPU_PRIORITY_COUNT ? level_name(level) : "other"},
                   {"opcode", operation < kOperations.size()
                                  ? vgpu_operation_name(kOperations.at(operation))
                                  : "other"},
                   {"outcome", kOutcomes.at(field(key, kOutcomeShift, 3))}},
                  static_cast<double>(value));
    }
    return requests;
}

MetricFamily Metrics::faults_family(std::span<const Series> series) {
    MetricFamily faults = family("vgpu_faults_total", "Faults of a VM, such as invalid requests.",
                                 MetricType::Counter);
    for (const auto& [key, value] : series) {
        add_value(faults, {{"vm", vm_label(key)}}, static_cast<double>(value));
    }
    return faults;
}

void Metrics::append_rest(std::string& text, const AdminControl& control) const {
    std::vector<MetricFamily> families;
    add_pools(families, control);
    const auto add_times = [&](const char* name, const char* help,
                               std::array<Histogram, VGPU_PRIORITY_COUNT> PoolTimes::*which) {
        MetricFamily times = family(name, help, MetricType::Histogram);
        for (const PoolTimes& pool : pools_) {
            for (std::size_t level = 0; level < VGPU_PRIORITY_COUNT; ++level) {
                const Histogram& from = (pool.*which).at(level);
                ClientMetric metric;
                metric.label = {{"pool", std::string(1, pool.id)}, {"priority", level_name(level)}};
                metric.histogram.sample_count = from.count;
                metric.histogram.sample_sum = from.sum;
                std::uint64_t cumulative = 0;
                for (std::size_t bucket = 0; bucket < kBuckets; ++bucket) {
                    cumulative += from.counts.at(bucket);
                    metric.histogram.bucket.push_back({cumulative, kBounds.at(bucket)});
                }
                times.metric.push_back(std::move(metric));
            }
        }
        families.push_back(std::move(times));
    };
    add_times("vgpu_wait_seconds", "Time from acceptance to start.", &PoolTimes::wait);
    add_times("vgpu_execution_seconds", "Execution time, as measured by the device.",
              &PoolTimes::execution);
    add_gpus(families, control);
    add_status(families, control);
    text += prometheus::TextSerializer().Serialize(families);
}

}  // namespace vgpu
