// SPDX-License-Identifier: MIT
//
// CudaContext: all that is lost together when a GPU's context is lost: the primary context, the
// module with the kernels, and the lanes. It is made as a whole and destroyed as a whole.
//
// A lane is where one job runs: a stream of its own and a cell of pinned host memory that the GPU
// sees. When a job is done the GPU itself stores the job's sequence number in the cell; whoever
// looks at that word knows it without asking the driver.
//
//   stream:  kernel ── result ──► cell.result      write value ── sequence ──► cell.done
//
// The kernel of an addition stores both at once: a command less for the driver, and a good
// microsecond less on its way. Where the driver cannot write values from a stream, an event stands
// for the word.
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
};
inline constexpr std::size_t kKernelCount = 11;

class CudaContext {
  public:
    static constexpr std::size_t kLanes = 16;
    static constexpr std::size_t kMostReduceBlocks = 1024;

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

    // Starts result = a + b on the lane and the completion mark after it. Never waits.
    // Precondition: what ran on this lane before is done.
    Status start_add(std::size_t lane, std::uint32_t a, std::uint32_t b);

    // For other work on a lane: what to give the driver, and the completion mark after it.
    [[nodiscard]] Function function(Kernel kernel) const {
        return functions_[static_cast<std::size_t>(kernel)];
    }
    [[nodiscard]] Stream stream(std::size_t lane) const { return lanes_[lane].stream; }
    // VGPU_COPY_MAX_LENGTH bytes of pinned host memory.
    [[nodiscard]] std::byte* staging(std::size_t lane) { return cells_[lane].staging.data(); }
    // Device memory for the sums of kMostReduceBlocks blocks.
    [[nodiscard]] DeviceAddress scratch(std::size_t lane) const {
        return scratch_ + lane * kMostReduceBlocks * sizeof(double);
    }
    // Where the GPU puts what result() gives.
    [[nodiscard]] DeviceAddress result_address(std::size_t lane) const {
        return device_cells_ + lane * sizeof(Cell) + offsetof(Cell, result);
    }
    Status mark(std::size_t lane);

    // kSuccess: done. kNotReady: not yet. Else: the context is lost. `thorough` asks the driver in
    // any case; without it, a job that faulted looks like one that is not ready.
    Status check(std::size_t lane, bool thorough);
    // Precondition: check() returned kSuccess.
    [[nodiscard]] std::uint32_t result(std::size_t lane) const { return cells_[lane].result; }

    // Whether completions are words in memory rather than events.
    [[nodiscard]] bool writes_words() const { return write_words_; }

  private:
    struct alignas(64) Cell {  // written by the GPU; the first two as one 64-bit word by kAdd
        std::uint32_t done;
        std::uint32_t result;
        std::array<std::byte, VGPU_COPY_MAX_LENGTH> staging;
    };
    struct Lane {
        Stream stream = nullptr;
        Event event = nullptr;
        std::uint32_t sequence = 0;  // of the last job started
    };

    CudaContext(const Api& api, Device device) : api_(api), device_(device) {}
    Result<void> build();
    Result<void> load_modules();
    // The kernels from `first` on, `count` of them, stand in this PTX.
    Result<void> load_module(Module& module, const char* ptx, std::size_t first, std::size_t count);
    // Looks until what runs on the lane is done or a limit is over. As check().
    Status finish(std::size_t lane);
    // Runs one job to its end, to find out whether words are written.
    Result<void> prove();

    const Api& api_;
    Device device_;
    Context context_ = nullptr;
    std::array<Module, 2> modules_{};
    std::array<Function, kKernelCount> functions_{};
    DeviceAddress scratch_ = 0;
    Cell* cells_ = nullptr;  // kLanes of them
    DeviceAddress device_cells_ = 0;
    std::array<Lane, kLanes> lanes_{};
    bool write_words_ = false;
};

}  // namespace vgpu::cuda
