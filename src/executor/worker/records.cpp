// SPDX-License-Identifier: MIT
#include "executor/worker/records.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace vgpu::worker {
namespace {

std::uint32_t write_text(const std::string& text, std::array<char, kDataCapacity>& to) {
    const std::size_t length = std::min(text.size(), to.size());
    if (length != 0) {
        std::memcpy(to.data(), text.data(), length);
    }
    return static_cast<std::uint32_t>(length);
}

}  // namespace

bool write_job(const Job& job, JobRecord& record) {
    if (job.data.size() > kDataCapacity) {
        return false;
    }
    record.token = job.token;
    record.order = static_cast<std::uint32_t>(Order::kJob);
    record.opcode = job.opcode;
    record.params = job.params;
    record.region = job.region;
    record.chain = job.chain;
    record.timeline = job.timeline;
    record.timeline_value = job.timeline_value;
    record.timeline_run = job.timeline_run;
    record.length = job.length;
    record.heap_data = job.heap_data;
    record.heap_result = job.heap_result;
    record.heap = job.heap;
    record.heap_operands = job.heap_operands;
    record.copy = job.copy;
    record.type = job.type;
    record.alpha = job.alpha;
    record.buffers = job.buffers;
    record.offsets = job.offsets;
    record.extents = job.extents;
    record.data_length = write_text(job.data, record.data);
    return true;
}

std::optional<Job> read_job(const JobRecord& record) {
    const std::uint32_t data_length = record.data_length;
    if (data_length > kDataCapacity) {
        return std::nullopt;
    }
    Job job{.token = record.token, .opcode = record.opcode, .params = record.params};
    job.region = record.region;
    job.chain = record.chain;
    job.timeline = record.timeline;
    job.timeline_value = record.timeline_value;
    job.timeline_run = record.timeline_run;
    job.length = record.length;
    job.heap_data = record.heap_data;
    job.heap_result = record.heap_result;
    job.heap = record.heap;
    job.heap_operands = record.heap_operands;
    job.copy = record.copy;
    job.type = record.type;
    job.alpha = record.alpha;
    job.buffers = record.buffers;
    job.offsets = record.offsets;
    job.extents = record.extents;
    job.data.assign(record.data.data(), data_length);
    return job;
}

void write_completion(const Completion& completion, CompletionRecord& record) {
    const Outcome& outcome = completion.outcome;
    record.token = completion.token;
    record.buffer = outcome.buffer;
    record.status = outcome.status;
    record.exec_time_us = outcome.exec_time_us;
    record.result_count = outcome.result_count;
    std::copy_n(outcome.results.begin(), outcome.result_count, record.results.begin());
    record.device_failed = outcome.device_failed ? 1 : 0;
    record.timeline_written = outcome.timeline_written ? 1 : 0;
    record.change = static_cast<std::uint32_t>(completion.change);
    record.data_length = write_text(outcome.data, record.data);
}

std::optional<Completion> read_completion(const CompletionRecord& record) {
    const std::uint32_t data_length = record.data_length;
    const std::uint32_t result_count = record.result_count;
    const std::uint32_t change = record.change;
    if (data_length > kDataCapacity || result_count > VGPU_INFO_RESULT_COUNT ||
        change > static_cast<std::uint32_t>(DeviceChange::kRecovered)) {
        return std::nullopt;
    }
    Completion completion;
    completion.token = record.token;
    completion.change = static_cast<DeviceChange>(change);
    Outcome& outcome = completion.outcome;
    outcome.buffer = record.buffer;
    outcome.status = record.status;
    outcome.exec_time_us = record.exec_time_us;
    outcome.result_count = result_count;
    std::copy_n(record.results.begin(), result_count, outcome.results.begin());
    outcome.device_failed = record.device_failed != 0;
    outcome.timeline_written = record.timeline_written != 0 && outcome.status == VGPU_ERR_NONE;
    outcome.data.assign(record.data.data(), data_length);
    return completion;
}

Greeting greeting_of(const Result<DeviceInfo>& device, bool writes_timeline) {
    Greeting greeting{};
    greeting.magic = Greeting::kMagic;
    if (!device) {
        greeting.text_length = write_text(device.error().message, greeting.text);
        return greeting;
    }
    greeting.works = 1;
    greeting.backend = device->backend;
    greeting.compute_capability = device->compute_capability;
    greeting.multiprocessors = device->multiprocessors;
    greeting.driver_version = device->driver_version;
    greeting.writes_timeline = writes_timeline ? 1 : 0;
    greeting.memory_total = device->memory_total;
    greeting.memory_free = device->memory_free;
    greeting.text_length = write_text(device->name, greeting.text);
    return greeting;
}

Result<DeviceInfo> read_greeting(const Greeting& greeting) {
    if (greeting.magic != Greeting::kMagic || greeting.text_length > kDataCapacity ||
        greeting.backend > VGPU_BACKEND_CUDA) {
        return Error{"the GPU's worker process sent an invalid message"};
    }
    std::string text(greeting.text.data(), greeting.text_length);
    if (greeting.works == 0) {
        return Error{std::move(text)};
    }
    DeviceInfo device;
    device.backend = static_cast<vgpu_backend>(greeting.backend);
    device.name = std::move(text);
    device.compute_capability = greeting.compute_capability;
    device.multiprocessors = greeting.multiprocessors;
    device.driver_version = greeting.driver_version;
    device.memory_total = greeting.memory_total;
    device.memory_free = greeting.memory_free;
    return device;
}

}  // namespace vgpu::worker
