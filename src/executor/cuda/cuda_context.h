// SPDX-License-Identifier: MIT
//
// CudaContext: all that is lost together when a GPU's context is lost: the primary context, the
// module with the kernels, and the lanes. It is made as a whole and destroyed as a whole.
//
// A lane is where jobs run one after the other: a stream of its own, and for each job under way in
// it a cell of pinned host memory that the GPU sees. The jobs of a lane are numbered; when one is
// done the GPU itself stores its number in its cell, and whoever looks at that word knows it
// without asking the driver. Where a job has a timeline value, the GPU stores that before, in
// memory that a guest sees:
//
//   stream:  work ── data, result ──►   value ──► timeline   number ──► cell.done   next job's work
//   …
//
// A kernel of a single block stores all of this itself (kernels/finish.cuh): commands less for the
// driver, and microseconds less on its way. After other work the stream stores the two words, or,
// where the driver cannot do that, a kernel.
//
// Between two copies that would cost 4 us of the copy engine's time, in which it stands still, and
// at 1 MiB a sixth of the bandwidth. So a copy that follows other work has its words stored aside,
// by the lane's second stream, which waits for the copy; and before anything that stores words in
// the first stream again, that one waits for the second: the words of a lane come in order.
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

// The kernels of kernels/*.cu.
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

// Where a job's timeline value goes, in device addresses; 0: it has none.
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
    static constexpr std::size_t kDepth = 64;  // jobs under way in a lane
    static constexpr std::size_t kMostReduceBlocks = 1024;

    // One job's place in a lane.
    struct Place {
        std::size_t lane = 0;
        std::uint32_t sequence = 0;
    };

    // Makes all of it and leaves the context current on the calling thread. Borrows api.
    static Result<std::unique_ptr<CudaContext>> create(const Api& api, Device device);

    CudaContext(const CudaContext&) = delete;
    CudaContext& operator=(const CudaContext&) = delete;
    // Leaves no context current. Errors are ignored.
    ~CudaContext();

    // The context is lost: the destructor is to leave to the end of the process what it held.
    void abandon() { context_ = nullptr; }

    // Makes the context current on the calling thread, or (false) none.
    void make_current(bool current) const;

    // The place of the lane's next job; the same one until take() says that it has been started.
    // Precondition: fewer than kDepth jobs are under way in the lane.
    [[nodiscard]] Place next(std::size_t lane) const { return {lane, lanes_[lane].sequence + 1}; }
    void take(const Place& place) { lanes_[place.lane].sequence = place.sequence; }

    // For work at a place: what to give the driver.
    [[nodiscard]] Function function(Kernel kernel) const {
        return functions_[static_cast<std::size_t>(kernel)];
    }
    [[nodiscard]] Stream stream(const Place& place) const { return lanes_[place.lane].stream; }
    // VGPU_COPY_MAX_LENGTH bytes of pinned host memory.
    [[nodiscard]] std::byte* staging(const Place& place) {
        return cells_[index(place)].staging.data();
    }
    // Device memory for the sums of kMostReduceBlocks blocks.
    [[nodiscard]] DeviceAddress scratch(const Place& place) const {
        return scratch_ + place.lane * kMostReduceBlocks * sizeof(double);
    }
    // Where the GPU puts what result() gives.
    [[nodiscard]] DeviceAddress result_address(const Place& place) const {
        return cell_address(place) + offsetof(Cell, result);
    }

    // The end of a job, in one of two ways: given to its last kernel, which has one block; or after
    // all its work as something of its own. Neither waits.
    [[nodiscard]] Finish finish(const Place& place, const Timeline& timeline) const {
        return {timeline.address, timeline.value, cell_address(place), place.sequence};
    }
    Status mark(const Place& place, const Timeline& timeline);
    // The same aside, for a copy. Precondition: stores_aside().
    Status mark_aside(const Place& place, const Timeline& timeline);
    [[nodiscard]] bool stores_aside() const { return streams_write_; }
    // Before work that is not marked aside. `follows`: other jobs are under way in the lane.
    Status join(const Place& place, bool follows);

    // kSuccess: done. kNotReady: not yet. Else: the context is lost. `thorough` asks the driver in
    // any case; without it, a job that faulted looks like one that is not ready.
    Status check(const Place& place, bool thorough);
    // Precondition: check() returned kSuccess.
    [[nodiscard]] std::uint32_t result(const Place& place) const {
        return cells_[index(place)].result;
    }

  private:
    struct alignas(64) Cell {  // written by the GPU; the first two as one 64-bit word by kAdd
        std::uint32_t done;
        std::uint32_t result;
        std::uint64_t word;  // for prove()
        std::array<std::byte, VGPU_COPY_MAX_LENGTH> staging;
    };
    static_assert(offsetof(Cell, done) == 0 && offsetof(Cell, result) == 4);
    struct Lane {
        Stream stream = nullptr;
        Stream words = nullptr;      // stores aside
        Event copied = nullptr;      // in `stream`
        Event stored = nullptr;      // in `words`
        bool aside = false;          // words may be under way that `stream` does not wait for
        std::uint32_t sequence = 0;  // of the last job started
    };

    CudaContext(const Api& api, Device device) : api_(api), device_(device) {}
    Result<void> build();
    Status build(Lane& lane) const;
    Status store_words(Stream stream, const Place& place, const Timeline& timeline) const;
    Result<void> load_modules();
    // The kernels from `first` on, `count` of them, stand in this PTX.
    Result<void> load_module(Module& module, const char* ptx, std::size_t first, std::size_t count);
    // Takes the place, and looks until what runs there is done or a limit is over. As check().
    Status end(const Place& place);
    // Runs jobs to their end, to find out which words are written.
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
    bool streams_write_ = false;  // words of both sizes
};

}  // namespace vgpu::cuda
