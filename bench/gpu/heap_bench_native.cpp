// SPDX-License-Identifier: MIT
//
// The lower bound: the driver's functions alone.
#include <array>

#include "executor/cuda/cuda_context.h"
#include "executor/cuda/kernels.h"
#include "gpu/heap_bench_parts.h"

namespace vgpu::cuda {
namespace {

using namespace bench;

class Native {
  public:
    Native(const Api& api, const HeapBenchOptions& options) : api_(api), options_(options) {}
    Native(const Native&) = delete;
    Native& operator=(const Native&) = delete;
    ~Native() {
        if (context_ == nullptr) {
            return;
        }
        if (module_ != nullptr) {
            api_.module_unload(module_);
        }
        if (stream_ != nullptr) {
            api_.stream_destroy(stream_);
        }
        if (device_memory_ != 0) {
            api_.mem_free(device_memory_);
        }
        if (registered_) {
            api_.mem_host_unregister(region_.mapping.data());
        }
        api_.context_set_current(nullptr);
        api_.primary_context_release(device_);
    }

    Result<std::vector<Figure>> run(int ordinal) {
        auto region = Region::create(kBulk + options_.largest);
        if (!region) {
            return std::move(region).error();
        }
        region_ = std::move(region).value();
        if (!set_up(ordinal)) {
            return error();
        }
        calls();
        add_zero_copy();
        add_copied();
        for (const bool to_device : {true, false}) {
            copies_back_to_back(to_device, kMebibyte, options_.small_copies);
            copies_in_flight(to_device, true, kMebibyte, options_.small_copies);
            copies_in_flight(to_device, false, kMebibyte, options_.small_copies);
            copies_back_to_back(to_device, options_.largest, options_.large_copies);
        }
        if (status_ != kSuccess) {
            return error();
        }
        return std::move(figures_);
    }

  private:
    // Records the first failure. Returns true if nothing has failed.
    bool step(const char* what, Status status) {
        if (status_ == kSuccess && status != kSuccess) {
            status_ = status;
            what_ = what;
        }
        return status_ == kSuccess;
    }
    [[nodiscard]] Error error() const {
        return Error{std::string(what_) + ": " + api_.describe(status_)};
    }

    bool set_up(int ordinal) {
        std::byte* const base = region_.mapping.data();
        if (!step("cuInit", api_.init(0)) ||
            !step("cuDeviceGet", api_.device_get(&device_, ordinal)) ||
            !step("cuDevicePrimaryCtxRetain", api_.primary_context_retain(&context_, device_))) {
            context_ = nullptr;
            return false;
        }
        if (!step("cuCtxSetCurrent", api_.context_set_current(context_))) {
            return false;
        }
        const auto began = Clock::now();
        if (!step("cuMemHostRegister",
                  api_.mem_host_register(base, region_.mapping.size(),
                                         kHostRegisterPortable | kHostRegisterDeviceMap))) {
            return false;
        }
        registered_ = true;
        figures_.push_back({"register " + size_name(region_.mapping.size()) + ", native",
                            micros(Clock::now() - began), "us"});
        return step("cuMemHostGetDevicePointer",
                    api_.mem_host_get_device_pointer(&shared_, base, 0)) &&
               step("cuMemAlloc", api_.mem_alloc(&device_memory_, options_.largest)) &&
               step("cuStreamCreate", api_.stream_create(&stream_, kStreamNonBlocking)) &&
               step("cuModuleLoadDataEx",
                    api_.module_load_data_ex(&module_, kOperationsPtx, 0, nullptr, nullptr)) &&
               step("cuModuleGetFunction",
                    api_.module_get_function(&add_, module_, "vgpu_vector_add_i32"));
    }

    bool drain() {
        const auto deadline = Clock::now() + kLimit;
        Status status = api_.stream_query(stream_);
        while (status == kNotReady && Clock::now() < deadline) {
            status = api_.stream_query(stream_);
        }
        return step("cuStreamQuery", status);
    }
    bool launch_add(DeviceAddress operands, Finish finish) {
        DeviceAddress a = operands + 4;
        DeviceAddress b = operands + 8;
        std::uint64_t count = 1;
        std::array<void*, 5> params{&operands, &a, &b, &count, &finish};
        return step("cuLaunchKernel", api_.launch_kernel(add_, 1, 1, 1, 32, 1, 1, 0, stream_,
                                                         params.data(), nullptr));
    }
    // Stores by a kernel: the timeline value, then the job's number in the next word.
    [[nodiscard]] Finish finish(std::uint64_t value) const {
        return {shared_ + kTimeline, value, shared_ + kTimeline + 8, value};
    }

    // CPU time of one call of each function.
    void calls() {
        constexpr int kCalls = 200;
        const auto time = [&](const std::string& name, auto call) {
            std::vector<double> samples;
            for (int i = 0; i < kCalls && status_ == kSuccess; ++i) {
                const auto began = Clock::now();
                call();
                samples.push_back(micros(Clock::now() - began));
                drain();
            }
            figures_.push_back(of_samples("call of " + name, std::move(samples)));
        };
        time("cuLaunchKernel", [&] { launch_add(shared_ + kOperands, {}); });
        time("cuMemcpyHtoDAsync 1 MiB", [&] { copy(true, 0, kMebibyte); });
        if (writes()) {
            time("cuStreamWriteValue32", [&] { write32(1); });
            time("cuStreamBatchMemOp, timeline and word", [&] { write_both(1); });
        }
    }
    bool write32(std::uint32_t value) {
        return step("cuStreamWriteValue32",
                    api_.stream_write_value32(stream_, shared_ + kTimeline + 8, value, 0));
    }
    [[nodiscard]] bool writes() const {
        return api_.stream_write_value32 != nullptr && api_.stream_batch_mem_op != nullptr;
    }
    // As in CudaContext::mark().
    bool write_both(std::uint64_t value) {
        std::array both{
            MemoryOperation{
                .operation = kWriteValue64, .address = shared_ + kTimeline, .value = value},
            MemoryOperation{.operation = kWriteValue32,
                            .address = shared_ + kTimeline + 8,
                            .value = static_cast<std::uint32_t>(value)}};
        return step("cuStreamBatchMemOp",
                    api_.stream_batch_mem_op(stream_, both.size(), both.data(), 0));
    }
    bool copy(bool to_device, std::uint64_t at, std::uint64_t length) {
        std::byte* const host = region_.mapping.data() + kBulk + at;
        return step("cuMemcpyAsync",
                    to_device ? api_.memcpy_htod_async(device_memory_ + at, host, length, stream_)
                              : api_.memcpy_dtoh_async(host, device_memory_ + at, length, stream_));
    }

    void add_zero_copy() {
        std::vector<double> samples;
        for (int i = 1; i <= options_.adds && status_ == kSuccess; ++i) {
            const auto began = Clock::now();
            launch_add(shared_ + kOperands, finish(++value_));
            if (!region_.wait_for(kTimeline, value_)) {
                step("the timeline", kNotReady);
            }
            samples.push_back(micros(Clock::now() - began));
            drain();
        }
        figures_.push_back(of_samples("add n=1, native zero-copy", std::move(samples)));
    }
    void add_copied() {
        std::vector<double> samples;
        std::byte* const host = region_.mapping.data() + kOperands;
        for (int i = 1; i <= options_.adds && status_ == kSuccess; ++i) {
            const auto began = Clock::now();
            step("cuMemcpyHtoDAsync",
                 api_.memcpy_htod_async(device_memory_ + 4, host + 4, 8, stream_));
            launch_add(device_memory_, {});
            step("cuMemcpyDtoHAsync", api_.memcpy_dtoh_async(host, device_memory_, 4, stream_));
            drain();
            samples.push_back(micros(Clock::now() - began));
        }
        figures_.push_back(of_samples("add n=1, native copy-launch-copy", std::move(samples)));
    }

    void copies_back_to_back(bool to_device, std::uint64_t length, int count) {
        copy(to_device, 0, length);
        drain();
        const auto began = Clock::now();
        for (int i = 0; i < count; ++i) {
            copy(to_device, place(i, length, options_.largest), length);
        }
        drain();
        figures_.push_back(bandwidth(copy_name(to_device, length) + ", native",
                                     length * static_cast<std::uint64_t>(count),
                                     Clock::now() - began));
    }
    // Each copy is followed by its completion signal: a word, or a timeline value and a word.
    void copies_in_flight(bool to_device, bool with_timeline, std::uint64_t length, int count) {
        if (!writes()) {
            return;
        }
        const auto first = value_;
        const auto began = Clock::now();
        for (int i = 0; i < count && status_ == kSuccess; ++i) {
            if (i >= kInFlight) {
                wait_for_word(static_cast<std::uint32_t>(first) + 1 +
                              static_cast<std::uint32_t>(i - kInFlight));
            }
            copy(to_device, place(i, length, options_.largest), length);
            ++value_;
            if (with_timeline) {
                write_both(value_);
            } else {
                write32(static_cast<std::uint32_t>(value_));
            }
        }
        drain();
        figures_.push_back(
            bandwidth(copy_name(to_device, length) + ", native, " + std::to_string(kInFlight) +
                          " in flight, " + (with_timeline ? "timeline and word" : "word"),
                      length * static_cast<std::uint64_t>(count), Clock::now() - began));
    }
    // Waits until the word has reached or passed `number`, modulo 2^32.
    void wait_for_word(std::uint32_t number) {
        const auto deadline = Clock::now() + kLimit;
        for (;;) {
            const auto now = static_cast<std::uint32_t>(region_.word(kTimeline + 8));
            if (static_cast<std::int32_t>(now - number) >= 0) {
                return;
            }
            if (Clock::now() > deadline) {
                step("a word", kNotReady);
                return;
            }
            relax_processor();
        }
    }

    const Api& api_;
    HeapBenchOptions options_;
    Region region_;
    Device device_ = 0;
    Context context_ = nullptr;
    Module module_ = nullptr;
    Function add_ = nullptr;
    Stream stream_ = nullptr;
    DeviceAddress shared_ = 0;
    DeviceAddress device_memory_ = 0;
    bool registered_ = false;
    std::uint64_t value_ = 0;
    Status status_ = kSuccess;
    const char* what_ = "";
    std::vector<Figure> figures_;
};

}  // namespace

Result<std::vector<Figure>> measure_native(const Api& api, int ordinal,
                                           const HeapBenchOptions& options) {
    return Native(api, options).run(ordinal);
}

}  // namespace vgpu::cuda
