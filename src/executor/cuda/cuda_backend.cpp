// SPDX-License-Identifier: MIT
#include "executor/cuda/cuda_backend.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "executor/cuda/cuda_operations.h"

namespace vgpu::cuda {
namespace {

// How often a running job's stream is asked for errors: such a question costs about a launch.
constexpr std::chrono::microseconds kThoroughCheckEvery{200};

constexpr const char* kReset = "the GPU failed and is being reset: ";

// Numbers of CUresult that matter here.
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
        memory_.release_all();
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

void CudaBackend::submit(const Job& job) {
    if (lost_) {
        fail_without_context(job.token);
        return;
    }
    if (job.opcode == VGPU_OP_NOP) {
        ended_.push_back({job.token, {}});
    } else if (job.opcode == VGPU_OP_GET_DEVICE_INFO) {
        report_device(job);
    } else if (job.opcode == VGPU_OP_MEMORY_FREE) {
        free_buffer(job);
    } else if (job.opcode == VGPU_OP_CUDA_KERNEL || is_stream_operation(job.opcode)) {
        waiting_.push_back(job);
        start_waiting();
    } else {
        ended_.push_back(
            {job.token, Outcome::failure(VGPU_ERR_UNSUPPORTED_OPERATION,
                                         "the CUDA backend does not know this operation")});
    }
}

void CudaBackend::attach_region(std::uint64_t token, RegionId /*region*/, int /*fd*/,
                                std::uint64_t /*size*/) {
    ended_.push_back({token, no_region_outcome()});
}

void CudaBackend::detach_region(std::uint64_t token, RegionId /*region*/) {
    ended_.push_back({token, {}});
}

void CudaBackend::free_buffer(const Job& job) {
    const Status status = memory_.release(job.buffers[0]);
    if (status == kSuccess) {
        ended_.push_back({job.token, {}});
    } else {
        fail(job.token, status, "the memory cannot be freed");
    }
}

void CudaBackend::report_device(const Job& job) {
    DeviceInfo current = info_;
    std::size_t free = 0;
    std::size_t total = 0;
    const Status status = api_.mem_get_info(&free, &total);
    if (status != kSuccess) {
        fail(job.token, status, "cannot ask the GPU for its memory");
        return;
    }
    current.memory_free = free;
    current.memory_total = total;
    ended_.push_back({job.token, device_info_outcome(current)});
}

void CudaBackend::start_waiting() {
    for (std::size_t lane = 0; lane < running_.size() && !waiting_.empty(); ++lane) {
        if (!running_[lane].busy) {
            Job job = std::move(waiting_.front());
            waiting_.pop_front();
            start(lane, std::move(job));
        }
    }
}

void CudaBackend::start(std::size_t lane, Job job) {
    const auto began = Clock::now();
    if (lost_) {
        fail_without_context(job.token);
        return;
    }
    for (const BufferId buffer : job.buffers) {
        if (buffer != 0 && memory_.address(buffer) == 0) {
            ended_.push_back({job.token, lost_buffer_outcome()});
            return;
        }
    }
    Started started;
    if (job.opcode == VGPU_OP_CUDA_KERNEL) {
        started.status = context_->start_add(lane, job.params[0], job.params[1]);
    } else {
        started = start_operation(api_, *context_, memory_, lane, job);
    }
    if (started.status == kOutOfMemory) {
        ended_.push_back({job.token, no_memory_outcome(job.length)});
        return;
    }
    if (started.status != kSuccess) {
        fail(job.token, started.status, "the work cannot be started");
        return;
    }
    running_[lane] = {.busy = true,
                      .job = std::move(job),
                      .buffer = started.buffer,
                      .temporary = started.temporary,
                      .began = began};
    next_thorough_check_ = began + kThoroughCheckEvery;
}

void CudaBackend::poll(std::vector<Completion>& ended) {
    const auto now = Clock::now();
    const bool thorough = now >= next_thorough_check_;
    if (thorough) {
        next_thorough_check_ = now + kThoroughCheckEvery;
    }
    for (std::size_t lane = 0; lane < running_.size(); ++lane) {
        if (!running_[lane].busy) {
            continue;
        }
        const Status status = context_->check(lane, thorough);
        if (status == kNotReady) {
            continue;
        }
        if (status != kSuccess) {
            lose_context(status);
            break;
        }
        Outcome outcome = outcome_of(lane);
        outcome.exec_time_us = static_cast<std::uint32_t>(
            std::chrono::ceil<std::chrono::microseconds>(now - running_[lane].began).count());
        ended_.push_back({running_[lane].job.token, std::move(outcome)});
        running_[lane].busy = false;
    }
    start_waiting();
    ended.insert(ended.end(), std::make_move_iterator(ended_.begin()),
                 std::make_move_iterator(ended_.end()));
    ended_.clear();
}

Outcome CudaBackend::outcome_of(std::size_t lane) {
    const Running& running = running_[lane];
    memory_.release(running.temporary);
    switch (running.job.opcode) {
        case VGPU_OP_CUDA_KERNEL:
        case VGPU_OP_REDUCE_SUM:
            return word_outcome(context_->result(lane));
        case VGPU_OP_MEMORY_ALLOC: {
            Outcome outcome;
            outcome.buffer = running.buffer;
            return outcome;
        }
        case VGPU_OP_MEMORY_COPY: {
            Outcome outcome;
            if (running.job.copy == VGPU_COPY_FROM_DEVICE) {
                outcome.data.assign(reinterpret_cast<const char*>(context_->staging(lane)),
                                    running.job.length);
            }
            return outcome;
        }
        default:
            return {};
    }
}

void CudaBackend::fail(std::uint64_t token, Status status, const char* what) {
    if (loses_context(status)) {
        lose_context(status, token);
        return;
    }
    ended_.push_back({token, Outcome::failure(error_of(status),
                                              std::string(what) + ": " + api_.describe(status))});
}

void CudaBackend::fail_without_context(std::uint64_t token) {
    ended_.push_back({token, failed_device_outcome(kReset + lost_because_)});
}

void CudaBackend::lose_context(Status status, std::optional<std::uint64_t> starting) {
    lost_ = true;
    lost_because_ = api_.describe(status);
    std::vector<std::uint64_t> tokens;
    for (Running& running : running_) {
        if (running.busy) {
            running.busy = false;
            tokens.push_back(running.job.token);
        }
    }
    if (starting) {
        tokens.push_back(*starting);
    }
    ended_.push_back({0, failed_device_outcome(lost_because_), DeviceChange::kFailed});
    Outcome failure = failed_device_outcome(kReset + lost_because_);
    // Which of several jobs did it, nobody can say.
    failure.device_failed = tokens.size() != 1 || !is_fault(status);
    for (const std::uint64_t token : tokens) {
        ended_.push_back({token, failure});
    }
    for (const Job& job : std::exchange(waiting_, {})) {
        fail_without_context(job.token);
    }
    memory_.forget_all();
}

}  // namespace vgpu::cuda
