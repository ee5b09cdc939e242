// SPDX-License-Identifier: MIT
//
// What passes between the mediator and a worker, the process that drives one GPU for it: the layout
// of their shared memory and of the greeting, and the way from a Job or a Completion into it and
// out again. Both ends are the same program, so nothing here is versioned.
//
//   mediator (WorkerBackend)                     worker (run_worker)
//                     <---- greeting, on the socket ----
//          write ---- jobs ---->                 read
//          read  <---- completions ----          write
//                     ---- a region's descriptor, on the socket ---->
//                     <---- one byte on the socket wakes a sleeper ---->
//                          end of file: the other side is gone
//
// A worker is trusted until it crashes, and then its memory may hold anything: what is read here is
// checked, lengths first.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/result.h"
#include "executor/operation.h"
#include "executor/worker/ring.h"

namespace vgpu::worker {

// Bytes of data or of a sentence that a record can hold; longer sentences are cut.
inline constexpr std::size_t kDataCapacity = 1024;
inline constexpr std::uint32_t kRingSlots = 64;

// What a record in the ring of jobs asks for. Regions go through it too, so that they keep their
// order with jobs; the descriptor of one that is attached is on the socket by then.
enum class Order : std::uint32_t { kJob, kAttach, kDetach };

// In cache lines: what every job has; what most jobs from shared memory have; what is used of
// buffers. `data` is only touched where there is any.
struct alignas(64) JobRecord {
    std::uint64_t token;
    std::uint32_t order;  // Order
    std::uint32_t opcode;
    std::array<std::uint32_t, 2> params;
    RegionId region;
    std::uint64_t chain;
    std::uint64_t timeline;
    std::uint64_t timeline_value;
    std::uint32_t timeline_run;
    std::uint32_t data_length;

    std::uint64_t length;  // kAttach: of the region, bytes
    std::uint64_t heap_data;
    std::uint64_t heap_result;
    std::array<std::uint64_t, 3> heap;
    std::uint32_t heap_operands;
    std::uint32_t copy;
    std::uint32_t type;
    std::uint32_t alpha;

    std::array<BufferId, 3> buffers;
    std::array<std::uint64_t, 2> offsets;
    std::array<std::uint32_t, 3> extents;
    std::array<char, kDataCapacity> data;
};
static_assert(offsetof(JobRecord, length) == 64 && offsetof(JobRecord, buffers) == 128);

struct alignas(64) CompletionRecord {
    std::uint64_t token;
    BufferId buffer;
    std::uint32_t status;
    std::uint32_t exec_time_us;
    std::uint32_t result_count;
    std::uint32_t data_length;
    std::uint16_t device_failed;
    std::uint16_t timeline_written;
    std::uint32_t change;
    std::array<std::uint32_t, VGPU_INFO_RESULT_COUNT> results;  // result_count of them are written
    std::array<char, kDataCapacity> data;
};

struct SharedMemory {
    Ring<JobRecord, kRingSlots> jobs;
    Ring<CompletionRecord, kRingSlots> completions;
    // Backend::bytes_copied_by_processor() of the worker's, as of its last completion.
    alignas(64) std::atomic<std::uint64_t> bytes_copied{0};
};

// The worker's first message on the socket: the device it drives, or why there is none.
struct Greeting {
    static constexpr std::uint32_t kMagic = 0x76475748;

    std::uint32_t magic;
    std::uint32_t works;
    std::uint32_t backend;
    std::uint32_t compute_capability;
    std::uint32_t multiprocessors;
    std::uint32_t driver_version;
    std::uint32_t writes_timeline;
    std::uint32_t reserved;
    std::uint64_t memory_total;
    std::uint64_t memory_free;
    std::uint32_t text_length;
    std::array<char, kDataCapacity> text;  // the device's name, or the sentence
};

// False if the job's data does not fit; the record is then not to be sent.
[[nodiscard]] bool write_job(const Job& job, JobRecord& record);
void write_completion(const Completion& completion, CompletionRecord& record);
// Nothing if the record cannot have been written by the functions above.
[[nodiscard]] std::optional<Job> read_job(const JobRecord& record);
[[nodiscard]] std::optional<Completion> read_completion(const CompletionRecord& record);

Greeting greeting_of(const Result<DeviceInfo>& device, bool writes_timeline = false);
// The error is the sentence of a worker that has no device.
Result<DeviceInfo> read_greeting(const Greeting& greeting);

}  // namespace vgpu::worker
