// SPDX-License-Identifier: MIT
//
// CudaContext: everything that is lost together with a GPU's context: the primary context, the
// modules with the kernels, and the lanes. Created and destroyed as a unit.
//
// A lane runs jobs sequentially. It has a stream and, for each job in flight, a cell of pinned host
// memory mapped to the GPU. The jobs of a lane are numbered; when one is done the GPU itself stores
// its number in its cell, so polling that word detects completion without a driver call. If a job
// has a timeline value, the GPU stores that first, in memory that a guest sees:
//
//   stream:  work ── data, result ──►   value ──► timeline   number ──► cell.done   next job's work
//   …
//
// A single-block kernel stores all of this itself (kernels/finish.cuh), which saves driver commands
// and microseconds of latency. After other work the stream stores the two words, or a kernel if the
// driver does not support that.
//
// Between two copies that would idle the copy engine for 4 us, at 1 MiB a sixth of the bandwidth.
// The words of a copy that follows other work are therefore stored aside, by the lane's second
// stream, which waits for the copy; before anything stores words in the first stream again, that
// stream waits for the second. So the words of a lane are stored in order.
//
//   stream:  copy ──┬── copy ──┬── copy ──┬──                 ┌── kernel, its words
//   words:          └─ words   └─ words   └─ words ── joined ─┘
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/result.h"
#include "executor/cuda/cuda_api.h"
#include "vgpu_protocol.h"

namespace vgpu::cuda {

// The kernels in kernels/*.cu.
enum class Kernel : std::uint8_t {
    kAdd,
    kVectorAddF32,
    kVectorAddI32,
    kSaxpyF32,
    kSaxpyI32,
    kMatmulF32,
    kMatmulI32,
    kReduceF32,
    kReduceI32,
    kReduceFinishF32,
    kReduceFinishI32,
    kEndJob,
};
inline constexpr std::size_t kKernelCount = 12;

// Destination of a job's timeline value, as a device address; 0: none.
struct Timeline {
    DeviceAddress address = 0;
    std::uint64_t value = 0;
};

// How a kernel ends its job: the struct of the same name in kernels/finish.cuh. All 0: it does not.
struct Finish {
    DeviceAddress timeline = 0;
    std::uint64_t value = 0;
    DeviceAddress cell = 0;
    std::uint64_t sequence = 0;
};

class CudaContext {
  public:
    static constexpr std::size_t kLanes = 16;
    static constexpr std::size_t kDepth = 64;  // jobs in flight per lane
    static constexpr std::size_t kMostReduceBlocks = 1024;

    // A job's place in a lane.
    struct Place {
        std::size_t lane = 0;
        std::uint32_t sequence = 0;
    };

    // Creates the context and leaves it current on the calling thread. Borrows api.
    static Result<std::unique_ptr<CudaContext>> create(const Api& api, Device device);

    CudaContext(const CudaContext&) = delete;
    CudaContext& operator=(const CudaContext&) = delete;
    // Leaves no context current. Ignores errors.
    ~CudaContext();

    // Marks the context as lost: the destructor leaves its resources to the end of the process.
    void abandon() { context_ = nullptr; }

    // Makes the context (true) or no context (false) current on the calling thread.
    void make_current(bool current) const;

    // Returns the place of the lane's next job; the same one until take() marks it as started.
    // Precondition: fewer than kDepth jobs are in flight in the lane.
    [[nodiscard]] Place next(std::size_t lane) const { return {lane, lanes_[lane].sequence + 1}; }
    void take(const Place& place) { lanes_[place.lane].sequence = place.sequence; }

    // Driver arguments for work at a place.
    [[nodiscard]] Function function(Kernel kernel) const {
        return functions_[static_cast<std::size_t>(kernel)];
    }
    [[nodiscard]] Stream stream(const Place& place) const { return lanes_[place.lane].stream; }
    // VGPU_COPY_MAX_LENGTH bytes of pinned host memory.
    [[nodiscard]] std::byte* staging(const Place& place) {
        return cells_[index(place)].staging.data();
    }
    // Device memory for the partial sums of kMostReduceBlocks blocks.
    [[nodiscard]] DeviceAddress scratch(const Place& place) const {
        return scratch_ + place.lane * kMostReduceBlocks * sizeof(double);
    }
    // Where the GPU stores the value of result().
    [[nodiscard]] DeviceAddress result_address(const Place& place) const {
        return cell_address(place) + offsetof(Cell, result);
    }

    // End a job in one of two ways: as an argument of its last kernel, which has one block; or as a
    // separate command after all its work. Neither blocks.
    [[nodiscard]] Finish finish(const Place& place, const Timeline& timeline) const {
        return {timeline.address, timeline.value, cell_address(place), place.sequence};
    }
    Status mark(const Place& place, const Timeline& timeline);
    // As mark(), but aside, for a copy. Precondition: stores_aside().
    Status mark_aside(const Place& place, const Timeline& timeline);
    [[nodiscard]] bool stores_aside() const { return streams_write_; }
    // Call before work that is not marked aside. `follows`: other jobs are in flight in the lane.
    Status join(const Place& place, bool follows);

    // kSuccess: done. kNotReady: not yet. Otherwise the context is lost. `thorough` also queries
    // the driver; without it, a job that faulted appears not ready.
    Status check(const Place& place, bool thorough);
    // Precondition: check() returned kSuccess.
    [[nodiscard]] std::uint32_t result(const Place& place) const {
        return cells_[index(place)].result;
    }

  private:
    struct alignas(64) Cell {  // written by the GPU; kAdd writes the first two as one 64-bit word
        std::uint32_t done;
        std::uint32_t result;
        std::uint64_t word;  // for prove()
        std::array<std::byte, VGPU_COPY_MAX_LENGTH> staging;
    };
    static_assert(offsetof(Cell, done) == 0 && offsetof(Cell, result) == 4);
    struct Lane {
        Stream stream = nullptr;
        Stream words = nullptr;      // stores words aside
        Event copied = nullptr;      // in `stream`
        Event stored = nullptr;      // in `words`
        bool aside = false;          // words may be in flight that `stream` does not wait for
        std::uint32_t sequence = 0;  // of the last job started
    };

    CudaContext(const Api& api, Device device) : api_(api), device_(device) {}
    Result<void> build();
    Status build(Lane& lane) const;
    Status store_words(Stream stream, const Place& place, const Timeline& timeline) const;
    Result<void> load_modules();
    // Loads `count` kernels, starting with `first`, from this PTX.
    Result<void> load_module(Module& module, const char* ptx, std::size_t first, std::size_t count);
    // Takes the place, and polls until its work is done or a time-out expires. Returns as check().
    Status end(const Place& place);
    // Runs test jobs to completion, to determine whether streams can write words.
    Result<void> prove();

    [[nodiscard]] static std::size_t index(const Place& place) {
        return place.lane * kDepth + place.sequence % kDepth;
    }
    [[nodiscard]] DeviceAddress cell_address(const Place& place) const {
        return device_cells_ + index(place) * sizeof(Cell);
    }

    const Api& api_;
    Device device_;
    Context context_ = nullptr;
    std::array<Module, 2> modules_{};
    std::array<Function, kKernelCount> functions_{};
    DeviceAddress scratch_ = 0;
    Cell* cells_ = nullptr;  // kLanes * kDepth of them
    DeviceAddress device_cells_ = 0;
    std::array<Lane, kLanes> lanes_{};
    bool streams_write_ = false;  // can write 32-bit and 64-bit words
};

}  // namespace vgpu::cuda
