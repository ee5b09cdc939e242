// SPDX-License-Identifier: MIT
//
// The interface between the mediator and a worker, the process that drives one GPU for it: the
// layout of their shared memory and of the greeting, and the conversion of Jobs and Completions to
// and from records. Both ends are the same program, so nothing here is versioned.
//
//   mediator (WorkerBackend)                     worker (run_worker)
//                     <---- greeting, on the socket ----
//          write ---- jobs ---->                 read
//          read  <---- completions ----          write
//                     ---- a region's descriptor, on the socket ---->
//                     <---- one byte on the socket: wake-up ---->
//                          end of file: the peer has disconnected
//
// The worker is trusted until it crashes; then its memory may hold anything. All data read here is
// therefore validated, lengths first.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/result.h"
#include "executor/job.h"
#include "executor/worker/ring.h"

namespace vgpu::worker {

// Bytes of data or error text that a record can hold; longer error texts are truncated.
inline constexpr std::size_t kDataCapacity = 1024;
inline constexpr std::uint32_t kRingSlots = 64;

// Type of a record in the job ring. Regions go through the ring too, to keep their order with jobs;
// the descriptor of an attached region has already been sent on the socket.
enum class Order : std::uint32_t { kJob, kAttach, kDetach };

// Grouped by cache line: fields of all jobs, of most jobs from shared memory, and of jobs on
// buffers. `data` is accessed only if there is any.
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

    std::uint64_t length;  // kAttach: size of the region, bytes
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
    std::array<std::uint32_t, VGPU_INFO_RESULT_COUNT> results;  // only result_count are written
    std::array<char, kDataCapacity> data;
};

struct WorkerMemory {
    Ring<JobRecord, kRingSlots> jobs;
    Ring<CompletionRecord, kRingSlots> completions;
    // The worker's Backend::bytes_copied_by_processor() as of its last completion.
    alignas(64) std::atomic<std::uint64_t> bytes_copied{0};
};

// The worker's first message on the socket: its device, or the reason why it has none.
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
    std::array<char, kDataCapacity> text;  // device name or error text
};

// Returns false if the job's data does not fit; the record must then not be sent.
[[nodiscard]] bool write_job(const Job& job, JobRecord& record);
void write_completion(const Completion& completion, CompletionRecord& record);
// Return nullopt if the record is invalid: the functions above cannot have written it.
[[nodiscard]] std::optional<Job> read_job(const JobRecord& record);
[[nodiscard]] std::optional<Completion> read_completion(const CompletionRecord& record);

Greeting greeting_of(const Result<DeviceInfo>& device, bool writes_timeline = false);
// The error is the error text of a worker that has no device.
Result<DeviceInfo> read_greeting(const Greeting& greeting);

}  // namespace vgpu::worker
