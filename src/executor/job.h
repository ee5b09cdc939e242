// SPDX-License-Identifier: MIT
//
// Jobs and their outcomes. A Job is self-contained: it holds values and no references into a
// connection's memory, so it can be passed to another thread or process.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vgpu_protocol.h"

namespace vgpu {

// A backend's identifier of an allocation. Never 0 and never reused, so a stale id matches no
// buffer. Guests hold handles; access rights are checked before a job reaches the backend.
using BufferId = std::uint64_t;

// Identifies a VM's shared memory; assigned by the submitter and passed to
// Backend::attach_region(). Never 0 and never reused.
using RegionId = std::uint64_t;

struct Job {
    std::uint64_t token = 0;  // assigned by the submitter, returned in the completion
    std::uint32_t opcode = VGPU_OP_NOP;
    std::array<std::uint32_t, 2> params{};  // CUDA_KERNEL: a, b

    // The fields below are for operations on buffers. Bounds have already been checked.
    std::array<BufferId, 3> buffers{};       // one per buffer operand, destination first
    std::array<std::uint64_t, 2> offsets{};  // MEMORY_COPY: bytes into buffers[0] and buffers[1]
    std::uint64_t length = 0;                // bytes, or elements of a vector
    std::uint32_t copy = VGPU_COPY_TO_DEVICE;
    std::uint32_t type = VGPU_TYPE_F32;
    std::uint32_t alpha = 0;                 // bit pattern
    std::array<std::uint32_t, 3> extents{};  // MATMUL: m, n, k
    std::string data{};                      // payload of VGPU_COPY_TO_DEVICE

    // The fields below are for jobs from a queue in shared memory. Offsets are bytes from the start
    // of the region; the ranges they refer to have been checked to be aligned and inside its heap.
    RegionId region = 0;                  // 0: the job uses no shared memory
    std::uint32_t heap_operands = 0;      // bit i set: operand i is heap[i], and buffers[i] is 0
    std::array<std::uint64_t, 3> heap{};  // offsets
    std::uint64_t heap_data = 0;          // MEMORY_COPY to or from the device: offset of the
                                          // host side, `length` bytes; 0: the host side is `data`
    std::uint64_t heap_result = 0;        // offset where the result word is also stored; 0: none
    // Jobs with the same nonzero chain execute as if sequentially, in submission order. The next
    // may be submitted before the previous one has ended.
    std::uint64_t chain = 0;
    // When the job has succeeded and all its memory effects are visible, the device itself stores
    // timeline_value (64 bits) at this offset. 0: no timeline. Effective only if writes_timeline(),
    // and not for jobs that need no device, such as NOP; Outcome::timeline_written reports whether
    // it was stored. A job that fails because the device failed may still have stored its value.
    std::uint64_t timeline = 0;
    std::uint64_t timeline_value = 0;
    // If a job of a chain with a timeline ends without having stored its value, no later job of the
    // chain with this number or a smaller one stores its value either: an observed value implies
    // that all earlier jobs are complete. The submitter itself writes the failed job's reply, and
    // then continues with a greater number.
    std::uint32_t timeline_run = 0;
};

struct Outcome {
    std::uint32_t status = VGPU_ERR_NONE;
    std::uint32_t exec_time_us = 0;  // time on the GPU, rounded up
    std::uint32_t result_count = 0;
    std::array<std::uint32_t, VGPU_INFO_RESULT_COUNT> results{};
    std::string data;     // error text if status is not 0
    BufferId buffer = 0;  // MEMORY_ALLOC: the new one
    // The device failed, and this job is not the only possible cause.
    bool device_failed = false;
    // The device itself stored the job's timeline_value. Never set if status is not 0.
    bool timeline_written = false;

    [[nodiscard]] std::span<const std::uint32_t> result_words() const {
        return std::span(results).first(result_count);
    }
    static Outcome failure(std::uint32_t status, std::string message) {
        Outcome outcome;
        outcome.status = status;
        outcome.data = std::move(message);
        return outcome;
    }
};

// State change of a device.
enum class DeviceChange : std::uint8_t {
    kNone,
    // The device is unusable until it recovers, and its buffers are lost; outcome.data holds the
    // reason.
    kFailed,
    kRecovered,  // operational again
};

struct Completion {
    std::uint64_t token = 0;
    Outcome outcome;
    // If not kNone, this is not the end of a job. outcome.data holds the reason for a failure.
    DeviceChange change = DeviceChange::kNone;
    // The second completion of an attach, with an error: no job ends.
    bool again = false;
};

// A device as described by GET_DEVICE_INFO and the log.
struct DeviceInfo {
    vgpu_backend backend = VGPU_BACKEND_CPU;
    std::string name;
    std::uint32_t compute_capability = 0;  // major << 16 | minor; 0 on the CPU backend
    std::uint32_t multiprocessors = 0;
    std::uint32_t driver_version = 0;
    std::uint64_t memory_total = 0;  // bytes
    std::uint64_t memory_free = 0;   // bytes
};

// The reply to GET_DEVICE_INFO.
Outcome device_info_outcome(const DeviceInfo& info);

// Success with one result word.
Outcome word_outcome(std::uint32_t word);
// VGPU_ERR_CUDA with device_failed: the device failed, not necessarily because of this job.
Outcome failed_device_outcome(std::string message);
// VGPU_ERR_CUDA_INVALID_HANDLE: the backend has lost this buffer.
Outcome lost_buffer_outcome();
// VGPU_ERR_CUDA: the shared memory is not available to the device.
Outcome no_region_outcome();
// VGPU_ERR_CUDA_OUT_OF_MEMORY.
Outcome no_memory_outcome(std::uint64_t wanted);

}  // namespace vgpu
