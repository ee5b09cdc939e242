// SPDX-License-Identifier: MIT
//
// What a backend is asked to do and what comes of it. A Job is complete in itself: it holds values,
// no references into a connection's memory, so that it can be handed to another thread or process.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vgpu_protocol.h"

namespace vgpu {

// A backend's own name for an allocation: never 0, and never used twice, so that a stale one finds
// nothing. What a guest holds is a handle; who may use which buffer is decided before it gets here.
using BufferId = std::uint64_t;

// The submitter's name for a VM's shared memory, which it has handed to the backend
// (Backend::attach_region): never 0, and never used twice.
using RegionId = std::uint64_t;

struct Job {
    std::uint64_t token = 0;  // the submitter's, handed back with the completion
    std::uint32_t opcode = VGPU_OP_NOP;
    std::array<std::uint32_t, 2> params{};  // CUDA_KERNEL: a, b

    // The rest is for operations on buffers. That they lie within the buffers has been checked.
    std::array<BufferId, 3> buffers{};       // as many as the operation has, destination first
    std::array<std::uint64_t, 2> offsets{};  // MEMORY_COPY: bytes into buffers[0] and buffers[1]
    std::uint64_t length = 0;                // bytes, or elements of a vector
    std::uint32_t copy = VGPU_COPY_TO_DEVICE;
    std::uint32_t type = VGPU_TYPE_F32;
    std::uint32_t alpha = 0;                 // bits
    std::array<std::uint32_t, 3> extents{};  // MATMUL: m, n, k
    std::string data{};                      // VGPU_COPY_TO_DEVICE

    // The rest is for jobs that come from a queue in shared memory. Offsets are bytes from the
    // start of the region; that what they name lies in its heap, aligned, has been checked.
    RegionId region = 0;                  // 0: nothing of this job lies in shared memory
    std::uint32_t heap_operands = 0;      // bit i: operand i is heap[i], and buffers[i] is 0
    std::array<std::uint64_t, 3> heap{};  // offsets
    std::uint64_t heap_data = 0;          // MEMORY_COPY to and from the device: the other side of
                                          // the copy, `length` bytes from here; 0: it is `data`
    std::uint64_t heap_result = 0;        // where the result word goes as well; 0: nowhere
    // Jobs with the same number here, not 0, are carried out as if one after the other, in the
    // order in which they were submitted; the next may be submitted before the last has ended.
    std::uint64_t chain = 0;
    // When the job has succeeded and all that it does to memory can be seen, the device itself
    // stores timeline_value, 64 bits, at this offset. 0: no. Only where writes_timeline(), and not
    // for what needs no device, as NOP: whether it did is Outcome::timeline_written. A job that is
    // answered with an error because the device failed may have stored its value all the same.
    std::uint64_t timeline = 0;
    std::uint64_t timeline_value = 0;
    // When a job of a chain has a place for its value and ends without having stored it, no later
    // one of the chain with this number or a smaller one stores its value either: whoever sees a
    // value may rely on all before, and what the failed job is answered with is the submitter's to
    // write. It goes on with a greater number when it has done so.
    std::uint32_t timeline_run = 0;
};

struct Outcome {
    std::uint32_t status = VGPU_ERR_NONE;
    std::uint32_t exec_time_us = 0;  // time on the GPU, rounded up
    std::uint32_t result_count = 0;
    std::array<std::uint32_t, VGPU_INFO_RESULT_COUNT> results{};
    std::string data;     // where status is not 0: the sentence that explains it
    BufferId buffer = 0;  // MEMORY_ALLOC: the new one
    // The device failed, and it was not this job alone that can have done it.
    bool device_failed = false;
    // The device has stored the job's timeline_value itself. Never where status is not 0.
    bool timeline_written = false;

    [[nodiscard]] std::span<const std::uint32_t> result_words() const {
        return std::span(results).first(result_count);
    }
    static Outcome failure(std::uint32_t status, std::string sentence) {
        Outcome outcome;
        outcome.status = status;
        outcome.data = std::move(sentence);
        return outcome;
    }
};

// What has become of a device.
enum class DeviceChange : std::uint8_t {
    kNone,
    // It does nothing until it has recovered, and its buffers are gone; the outcome's data says
    // why.
    kFailed,
    kRecovered,  // it works again
};

struct Completion {
    std::uint64_t token = 0;
    Outcome outcome;
    // Not kNone: this is no job's end. outcome.data says why the device failed.
    DeviceChange change = DeviceChange::kNone;
};

// A device, as GET_DEVICE_INFO and the log describe it.
struct DeviceInfo {
    vgpu_backend backend = VGPU_BACKEND_CPU;
    std::string name;
    std::uint32_t compute_capability = 0;  // major << 16 | minor; 0 on the CPU backend
    std::uint32_t multiprocessors = 0;
    std::uint32_t driver_version = 0;
    std::uint64_t memory_total = 0;  // bytes
    std::uint64_t memory_free = 0;   // bytes
};

// The answer to GET_DEVICE_INFO.
Outcome device_info_outcome(const DeviceInfo& info);

// One result word.
Outcome word_outcome(std::uint32_t word);
// VGPU_ERR_CUDA: the device has failed, and not because of this job.
Outcome failed_device_outcome(std::string sentence);
// VGPU_ERR_CUDA_INVALID_HANDLE: the backend has lost this buffer.
Outcome lost_buffer_outcome();
// VGPU_ERR_CUDA: the device has not got this shared memory.
Outcome no_region_outcome();
// VGPU_ERR_CUDA_OUT_OF_MEMORY.
Outcome no_memory_outcome(std::uint64_t wanted);

}  // namespace vgpu
