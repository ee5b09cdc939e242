// SPDX-License-Identifier: MIT
#include "executor/cuda/cuda_backend.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

namespace vgpu::cuda {
namespace {

// How often a running job's stream is queried for errors: a query costs about as much as a launch.
constexpr std::chrono::microseconds kThoroughCheckEvery{200};

constexpr const char* kReset = "the GPU failed and is being reset: ";

// The CUresult values used here.
constexpr Status kDeviceUnavailable = 46;
constexpr Status kNoDevice = 100;
constexpr Status kEccUncorrectable = 214;
constexpr Status kIllegalAddress = 700;
constexpr Status kLaunchTimeout = 702;
constexpr Status kContextIsDestroyed = 709;
constexpr Status kAssert = 710;
constexpr Status kHardwareStackError = 714;
constexpr Status kLaunchFailed = 719;
constexpr Status kSystemNotReady = 802;
constexpr Status kExternalDevice = 911;
constexpr Status kUnknown = 999;

bool is_fault(Status status) {
    return status == kIllegalAddress || status == kLaunchTimeout || status == kAssert ||
           (status >= kHardwareStackError && status <= kLaunchFailed);
}

bool is_loss(Status status) {
    return status == kDeviceUnavailable || status == kNoDevice || status == kEccUncorrectable ||
           status == kContextIsDestroyed || status == kSystemNotReady ||
           status == kExternalDevice || status == kUnknown;
}

}  // namespace

std::uint32_t error_of(Status status) {
    return status == kOutOfMemory ? VGPU_ERR_CUDA_OUT_OF_MEMORY : VGPU_ERR_CUDA;
}

bool loses_context(Status status) {
    return is_fault(status) || is_loss(status);
}

Result<std::unique_ptr<CudaBackend>> CudaBackend::create(const Api& api, int ordinal) {
    const auto failed = [&](const char* what, Status status) {
        return Error{std::string(what) + ": " + api.describe(status)};
    };
    if (const Status status = api.init(0); status != kSuccess) {
        return failed("the CUDA driver does not start", status);
    }
    int count = 0;
    if (const Status status = api.device_get_count(&count); status != kSuccess) {
        return failed("cannot count the GPUs", status);
    }
    if (ordinal < 0 || ordinal >= count) {
        return Error{"there is no CUDA device " + std::to_string(ordinal) + ": the driver has " +
                     std::to_string(count)};
    }
    Device device = 0;
    if (const Status status = api.device_get(&device, ordinal); status != kSuccess) {
        return failed("cannot open the GPU", status);
    }
    std::unique_ptr<CudaBackend> made(new CudaBackend(api));
    DeviceInfo& info = made->info_;
    info.backend = VGPU_BACKEND_CUDA;
    std::array<char, 256> name{};
    int version = 0;
    int multiprocessors = 0;
    int major = 0;
    int minor = 0;
    std::size_t total = 0;
    for (const Status status :
         {api.device_get_name(name.data(), static_cast<int>(name.size() - 1), device),
          api.driver_get_version(&version),
          api.device_get_attribute(&multiprocessors, kAttributeMultiprocessorCount, device),
          api.device_get_attribute(&major, kAttributeComputeCapabilityMajor, device),
          api.device_get_attribute(&minor, kAttributeComputeCapabilityMinor, device),
          api.device_total_mem(&total, device)}) {
        if (status != kSuccess) {
            return failed("cannot ask the GPU what it is", status);
        }
    }
    info.name = name.data();
    info.compute_capability =
        static_cast<std::uint32_t>(major) << 16U | static_cast<std::uint32_t>(minor);
    info.multiprocessors = static_cast<std::uint32_t>(multiprocessors);
    info.driver_version = static_cast<std::uint32_t>(version);
    info.memory_total = total;

    auto context = CudaContext::create(made->api_, device);
    if (!context) {
        return std::move(context).error();
    }
    made->context_ = std::move(context).value();
    if (auto opened = made->memory_.open(device); !opened) {
        return std::move(opened).error();
    }
    std::size_t free = 0;
    if (api.mem_get_info(&free, &total) == kSuccess) {
        info.memory_free = free;
    }
    made->context_->make_current(false);
    return made;
}

CudaBackend::~CudaBackend() {
    if (lost_) {
        context_->abandon();
    } else if (context_) {
        context_->make_current(true);
        for (const auto& [id, region] : regions_) {
            api_.mem_host_unregister(region.mapping.data());
        }
        memory_.close();
    }
}

Outcome CudaBackend::run(const Job& job) {
    if (job.opcode != VGPU_OP_NOP) {
        return Outcome::failure(VGPU_ERR_UNSUPPORTED_OPERATION, "this is no immediate operation");
    }
    return {};
}

void CudaBackend::attach_thread() {
    if (!lost_) {
        context_->make_current(true);
    }
}

void CudaBackend::detach_thread() {
    if (!lost_) {
        context_->make_current(false);
    }
}

// --- Shared memory ------------------------------------------------------------------------------

void CudaBackend::attach_region(std::uint64_t token, RegionId region, int fd, std::uint64_t size) {
    const auto failed = [&](const std::string& message) {
        ended_.push_back({token, failed_device_outcome(message)});
    };
    if (lost_) {
        failed(kReset + lost_because_);
        return;
    }
    auto mapped = map_region(fd, size);
    if (!mapped) {
        failed(mapped.error().message);
        return;
    }
    std::byte* const host = mapped->data();
    DeviceAddress device = 0;
    Status status =
        api_.mem_host_register(host, size, kHostRegisterPortable | kHostRegisterDeviceMap);
    if (status == kSuccess) {
        status = api_.mem_host_get_device_pointer(&device, host, 0);
        if (status != kSuccess) {
            api_.mem_host_unregister(host);
        }
    }
    if (status != kSuccess) {
        failed("the GPU does not take the shared memory: " + api_.describe(status));
        if (loses_context(status)) {
            lose_context(status, nullptr);
        }
        return;
    }
    regions_.insert_or_assign(region, Region{std::move(mapped).value(), {host, device}});
    ended_.push_back({token, {}});
}

void CudaBackend::detach_region(std::uint64_t token, RegionId region) {
    const auto found = regions_.find(region);
    if (found != regions_.end() && !lost_) {
        const Status status = api_.mem_host_unregister(found->second.mapping.data());
        regions_.erase(found);
        runs_.forget(region);
        if (loses_context(status)) {
            lose_context(status, nullptr);
        }
    }
    ended_.push_back({token, {}});
}

// --- Jobs ---------------------------------------------------------------------------------------

void CudaBackend::submit(const Job& job) {
    if (lost_) {
        ended_.push_back({job.token, failed_device_outcome(kReset + lost_because_)});
        return;
    }
    // NOP has no effect, so it may complete before earlier jobs of its chain.
    if (job.opcode == VGPU_OP_NOP || (job.chain == 0 && !is_stream_operation(job.opcode))) {
        do_now(job);
        return;
    }
    const std::size_t lane = lane_for(job);
    if (lanes_[lane].waiting.empty() && is_stream_operation(job.opcode) &&
        lanes_[lane].running.size() < CudaContext::kDepth) {
        start(lane, job);
    } else {
        lanes_[lane].waiting.push_back(job);
        advance(lane);
    }
}

std::size_t CudaBackend::lane_for(const Job& job) {
    const auto emptiest = [this] {
        const auto found = std::min_element(
            lanes_.begin(), lanes_.end(),
            [](const Lane& one, const Lane& other) { return one.load() < other.load(); });
        return static_cast<std::size_t>(found - lanes_.begin());
    };
    if (job.chain == 0) {
        return emptiest();
    }
    const auto found = chains_.find(job.chain);
    if (found != chains_.end()) {
        ++found->second.jobs;
        return found->second.lane;
    }
    const std::size_t lane = emptiest();
    chains_.emplace(job.chain, Chain{lane, 1});
    return lane;
}

void CudaBackend::advance(std::size_t lane_index) {
    Lane& lane = lanes_[lane_index];
    while (!lost_ && !lane.waiting.empty()) {
        const bool for_gpu = is_stream_operation(lane.waiting.front().opcode);
        if (for_gpu ? lane.running.size() >= CudaContext::kDepth : !lane.running.empty()) {
            return;
        }
        const Job job = std::move(lane.waiting.front());
        lane.waiting.pop_front();
        if (for_gpu) {
            start(lane_index, job);
        } else {
            do_now(job);
        }
    }
}

void CudaBackend::do_now(const Job& job) {
    switch (job.opcode) {
        case VGPU_OP_NOP:
            // NOP is not counted in its chain.
            if (job.timeline != 0) {
                runs_.close(job);
            }
            ended_.push_back({job.token, {}});
            break;
        case VGPU_OP_GET_DEVICE_INFO:
            report_device(job);
            break;
        case VGPU_OP_MEMORY_FREE:
            free_buffer(job);
            break;
        default:
            end(job, Outcome::failure(VGPU_ERR_UNSUPPORTED_OPERATION,
                                      "the CUDA backend does not know this operation"));
    }
}

bool CudaBackend::in_use(BufferId buffer) const {
    const auto uses = [buffer](const Running& running) {
        const auto& buffers = running.job.buffers;
        return std::find(buffers.begin(), buffers.end(), buffer) != buffers.end();
    };
    return buffer != 0 && std::any_of(lanes_.begin(), lanes_.end(), [&](const Lane& lane) {
               return std::any_of(lane.running.begin(), lane.running.end(), uses);
           });
}

bool CudaBackend::idle() const {
    return std::all_of(lanes_.begin(), lanes_.end(),
                       [](const Lane& lane) { return lane.load() == 0; });
}

void CudaBackend::free_buffer(const Job& job) {
    if (in_use(job.buffers[0])) {
        memory_.hide(job.buffers[0]);
        frees_.push_back(job);
        return;
    }
    const Status status = memory_.release(job.buffers[0]);
    if (status == kSuccess) {
        end(job, {});
        if (idle()) {
            memory_.give_back();
        }
    } else {
        fail(job, status, "the memory cannot be freed");
    }
}

void CudaBackend::report_device(const Job& job) {
    DeviceInfo current = info_;
    std::size_t free = 0;
    std::size_t total = 0;
    const Status status = api_.mem_get_info(&free, &total);
    if (status != kSuccess) {
        fail(job, status, "cannot ask the GPU for its memory");
        return;
    }
    current.memory_free = free + memory_.unused();
    current.memory_total = total;
    end(job, device_info_outcome(current));
}

void CudaBackend::start(std::size_t lane, const Job& job) {
    const auto began = Clock::now();
    for (const BufferId buffer : job.buffers) {
        if (buffer != 0 && memory_.address(buffer) == 0) {
            end(job, lost_buffer_outcome());
            return;
        }
    }
    SharedRegion region;
    if (job.region != 0) {
        const auto found = regions_.find(job.region);
        if (found == regions_.end()) {
            end(job, no_region_outcome());
            return;
        }
        region = found->second.shared;
    }
    Timeline timeline;
    if (job.timeline != 0 && region.host != nullptr && runs_.open(job)) {
        timeline = {region.device + job.timeline, job.timeline_value};
    }
    const auto place = context_->next(lane);
    const Started started = start_operation(api_, *context_, memory_, place, job, region, timeline,
                                            !lanes_[lane].running.empty());
    if (started.status == kSuccess) {
        context_->take(place);
        const bool stores = timeline.address != 0;
        if (job.timeline != 0 && !stores) {
            runs_.close(job);
        }
        lanes_[lane].running.push_back({.place = place,
                                        .job = job,
                                        .buffer = started.buffer,
                                        .temporary = started.temporary,
                                        .stores_timeline = stores,
                                        .began = began});
        next_thorough_check_ = began + kThoroughCheckEvery;
    } else if (started.begun) {
        // Part of the work is in flight and will access memory: failing this job alone is unsafe.
        lose_context(started.status, &job);
    } else if (started.status == kOutOfMemory) {
        end(job, no_memory_outcome(job.length));
    } else {
        fail(job, started.status, "the work cannot be started");
    }
}

void CudaBackend::poll(std::vector<Completion>& ended) {
    const auto now = Clock::now();
    const bool thorough = now >= next_thorough_check_;
    if (thorough) {
        next_thorough_check_ = now + kThoroughCheckEvery;
    }
    for (std::size_t index = 0; index < lanes_.size() && !lost_; ++index) {
        Lane& lane = lanes_[index];
        if (lane.running.empty()) {
            continue;
        }
        Status status = kSuccess;
        while (!lane.running.empty()) {
            Running& running = lane.running.front();
            status = context_->check(running.place, thorough);
            if (status != kSuccess) {
                break;
            }
            Outcome outcome = outcome_of(running);
            // Execution starts when the stream becomes free for the job.
            const auto took = std::chrono::ceil<std::chrono::microseconds>(
                now - std::max(running.began, lane.last_end));
            outcome.exec_time_us =
                static_cast<std::uint32_t>(std::max<std::int64_t>(took.count(), 1));
            end(running.job, std::move(outcome));
            lane.running.pop_front();
            lane.last_end = now;
        }
        if (status != kSuccess && status != kNotReady) {
            lose_context(status, nullptr);
            break;
        }
        advance(index);
    }
    for (const Job& job : std::exchange(frees_, {})) {
        free_buffer(job);
    }
    ended.insert(ended.end(), std::make_move_iterator(ended_.begin()),
                 std::make_move_iterator(ended_.end()));
    ended_.clear();
}

Outcome CudaBackend::outcome_of(const Running& running) {
    memory_.release(running.temporary);
    Outcome outcome;
    switch (running.job.opcode) {
        case VGPU_OP_CUDA_KERNEL:
        case VGPU_OP_REDUCE_SUM:
            outcome = word_outcome(context_->result(running.place));
            break;
        case VGPU_OP_MEMORY_ALLOC:
            outcome.buffer = running.buffer;
            break;
        case VGPU_OP_MEMORY_COPY:
            if (running.job.copy == VGPU_COPY_FROM_DEVICE && running.job.heap_data == 0) {
                outcome.data.assign(reinterpret_cast<const char*>(context_->staging(running.place)),
                                    running.job.length);
            }
            break;
        default:
            break;
    }
    outcome.timeline_written = running.stores_timeline;
    return outcome;
}

void CudaBackend::end(const Job& job, Outcome outcome) {
    if (job.timeline != 0 && !outcome.timeline_written) {
        runs_.close(job);
    }
    if (job.chain != 0) {
        const auto found = chains_.find(job.chain);
        if (found != chains_.end() && --found->second.jobs == 0) {
            chains_.erase(found);
        }
    }
    ended_.push_back({job.token, std::move(outcome)});
}

void CudaBackend::fail(const Job& job, Status status, const char* what) {
    if (loses_context(status)) {
        lose_context(status, &job);
        return;
    }
    end(job, Outcome::failure(error_of(status), std::string(what) + ": " + api_.describe(status)));
}

void CudaBackend::lose_context(Status status, const Job* starting) {
    lost_ = true;
    lost_because_ = api_.describe(status);
    std::vector<std::uint64_t> tokens;
    std::vector<std::uint64_t> behind;
    for (Lane& lane : lanes_) {
        for (const Running& running : std::exchange(lane.running, {})) {
            tokens.push_back(running.job.token);
        }
        for (const Job& job : std::exchange(lane.waiting, {})) {
            behind.push_back(job.token);
        }
    }
    for (const Job& job : std::exchange(frees_, {})) {
        behind.push_back(job.token);
    }
    if (starting != nullptr) {
        tokens.push_back(starting->token);
    }
    ended_.push_back({0, failed_device_outcome(lost_because_), DeviceChange::kFailed});
    Outcome failure = failed_device_outcome(kReset + lost_because_);
    for (const std::uint64_t token : behind) {
        ended_.push_back({token, failure});
    }
    // If several jobs were running, the one that caused it is unknown.
    failure.device_failed = tokens.size() != 1 || !is_fault(status);
    for (const std::uint64_t token : tokens) {
        ended_.push_back({token, failure});
    }
    chains_.clear();
    memory_.forget_all();
}

}  // namespace vgpu::cuda
