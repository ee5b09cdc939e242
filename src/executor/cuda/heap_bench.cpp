// SPDX-License-Identifier: MIT
#include "executor/cuda/heap_bench.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <deque>
#include <memory>
#include <utility>

#include "base/fd.h"
#include "base/mapping.h"
#include "executor/cuda/cuda_context.h"
#include "executor/cuda/kernels.h"
#include "executor/relax.h"

namespace vgpu::cuda {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kMebibyte = std::uint64_t{1} << 20U;
constexpr std::uint64_t kTimeline = 64;
constexpr std::uint64_t kOperands = 4096;  // three words
constexpr std::uint64_t kBulk = kMebibyte;
constexpr int kInFlight = 4;
constexpr int kManyInFlight = 64;
constexpr std::chrono::seconds kLimit{20};
constexpr RegionId kRegion = 1;

double micros(Clock::duration time) {
    return std::chrono::duration<double, std::micro>(time).count();
}

// Takes the samples.
Figure of_samples(std::string name, std::vector<double> samples) {
    if (samples.empty()) {
        return {std::move(name), 0, "us", 0};
    }
    std::sort(samples.begin(), samples.end());
    return {std::move(name), samples[samples.size() / 2], "us", samples[samples.size() * 99 / 100]};
}

Figure bandwidth(std::string name, std::uint64_t bytes, Clock::duration time) {
    return {std::move(name), static_cast<double>(bytes) / micros(time) / 1000.0, "GB/s"};
}

std::string size_name(std::uint64_t bytes) {
    return std::to_string(bytes / kMebibyte) + " MiB";
}

// Memory as a VM shares it, with all its pages there.
struct Region {
    Fd fd;
    Mapping mapping;

    static Result<Region> create(std::uint64_t size) {
        Region made{Fd(::memfd_create("vgpu-bench", MFD_CLOEXEC | MFD_ALLOW_SEALING)), {}};
        if (!made.fd || ::ftruncate(made.fd.get(), static_cast<off_t>(size)) != 0 ||
            ::fcntl(made.fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
            return Error::from_errno("cannot make shared memory", errno);
        }
        auto mapped = Mapping::create(made.fd.get(), size, PROT_READ | PROT_WRITE);
        if (!mapped) {
            return std::move(mapped).error();
        }
        made.mapping = std::move(mapped).value();
        std::fill_n(made.mapping.data(), size, std::byte{1});
        return made;
    }
    [[nodiscard]] std::uint64_t word(std::uint64_t offset) const {
        return std::atomic_ref(*reinterpret_cast<std::uint64_t*>(mapping.data() + offset))
            .load(std::memory_order_acquire);
    }
    [[nodiscard]] bool wait_for(std::uint64_t offset, std::uint64_t value) const {
        const auto deadline = Clock::now() + kLimit;
        while (word(offset) != value) {
            if (Clock::now() > deadline) {
                return false;
            }
            relax_processor();
        }
        return true;
    }
};

// --- The driver alone ---------------------------------------------------------------------------

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
    // Does nothing once something has failed. True: all is well.
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
    // Stores in a kernel: timeline, then the number of the job in the word behind it.
    [[nodiscard]] Finish finish(std::uint64_t value) const {
        return {shared_ + kTimeline, value, shared_ + kTimeline + 8, value};
    }

    // What the processor spends in one call of each.
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
        if (api_.stream_write_value32 != nullptr && api_.stream_write_value64 != nullptr) {
            time("cuStreamWriteValue32", [&] { write32(1); });
            time("cuStreamWriteValue64", [&] { write64(1); });
        }
    }
    bool write32(std::uint32_t value) {
        return step("cuStreamWriteValue32",
                    api_.stream_write_value32(stream_, shared_ + kTimeline + 8, value, 0));
    }
    bool write64(std::uint64_t value) {
        return step("cuStreamWriteValue64",
                    api_.stream_write_value64(stream_, shared_ + kTimeline, value, 0));
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

    [[nodiscard]] static std::string direction(bool to_device) {
        return to_device ? "heap to GPU " : "GPU to heap ";
    }
    [[nodiscard]] std::uint64_t place(int number, std::uint64_t length) const {
        const std::uint64_t places = std::max<std::uint64_t>(
            std::min<std::uint64_t>(options_.largest / length, kInFlight), 1);
        return static_cast<std::uint64_t>(number) % places * length;
    }
    void copies_back_to_back(bool to_device, std::uint64_t length, int count) {
        copy(to_device, 0, length);
        drain();
        const auto began = Clock::now();
        for (int i = 0; i < count; ++i) {
            copy(to_device, place(i, length), length);
        }
        drain();
        figures_.push_back(bandwidth(direction(to_device) + size_name(length) + ", native",
                                     length * static_cast<std::uint64_t>(count),
                                     Clock::now() - began));
    }
    // Each copy is followed by what says that it is done: a word, or a timeline value and a word.
    void copies_in_flight(bool to_device, bool with_timeline, std::uint64_t length, int count) {
        if (api_.stream_write_value32 == nullptr || api_.stream_write_value64 == nullptr) {
            return;
        }
        const auto first = value_;
        const auto began = Clock::now();
        for (int i = 0; i < count && status_ == kSuccess; ++i) {
            if (i >= kInFlight) {
                wait_for_word(static_cast<std::uint32_t>(first) + 1 +
                              static_cast<std::uint32_t>(i - kInFlight));
            }
            copy(to_device, place(i, length), length);
            ++value_;
            if (with_timeline) {
                write64(value_);
            }
            write32(static_cast<std::uint32_t>(value_));
        }
        drain();
        figures_.push_back(bandwidth(
            direction(to_device) + size_name(length) + ", native, " + std::to_string(kInFlight) +
                " in flight, " + (with_timeline ? "timeline and word" : "word"),
            length * static_cast<std::uint64_t>(count), Clock::now() - began));
    }
    // Reached or passed, as the numbers go.
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

// --- A backend ----------------------------------------------------------------------------------

class Measured {
  public:
    Measured(Backend& backend, std::string who, const HeapBenchOptions& options)
        : backend_(backend), who_(std::move(who)), options_(options) {}

    Result<std::vector<Figure>> run() {
        auto region = Region::create(kBulk + options_.largest);
        if (!region) {
            return std::move(region).error();
        }
        region_ = std::move(region).value();
        const auto began = Clock::now();
        ++submitted_;
        backend_.attach_region(0, kRegion, region_.fd.get(), region_.mapping.size());
        wait_for_all_but(0);
        figures_.push_back({"register " + size_name(region_.mapping.size()) + ", " + who_,
                            micros(Clock::now() - began), "us"});
        Job alloc{.opcode = VGPU_OP_MEMORY_ALLOC, .params = {}};
        alloc.length = options_.largest;
        submit(alloc);
        wait_for_all_but(0);
        add();
        adds_in_flight();
        for (const bool to_device : {true, false}) {
            copies(to_device, kMebibyte, options_.small_copies);
            copies(to_device, options_.largest, options_.large_copies);
        }
        Job release{.opcode = VGPU_OP_MEMORY_FREE, .params = {}};
        release.buffers[0] = buffer_;
        submit(release);
        wait_for_all_but(0);
        ++submitted_;
        backend_.detach_region(0, kRegion);
        wait_for_all_but(0);
        figures_.push_back({"copied by a processor, " + who_,
                            static_cast<double>(backend_.bytes_copied_by_processor()), "bytes"});
        if (!failure_.empty()) {
            return Error{who_ + ": " + failure_};
        }
        return std::move(figures_);
    }

  private:
    void submit(const Job& job) {
        ++submitted_;
        backend_.submit(job);
    }
    // Until no more than so many are under way.
    void wait_for_all_but(std::uint64_t count) {
        const auto deadline = Clock::now() + kLimit;
        while (submitted_ - answered_ > count && failure_.empty()) {
            ended_.clear();
            backend_.poll(ended_);
            for (const Completion& one : ended_) {
                answered_ += one.change == DeviceChange::kNone ? 1 : 0;
                if (one.outcome.status != VGPU_ERR_NONE) {
                    failure_ = one.outcome.data;
                }
                if (one.outcome.buffer != 0) {
                    buffer_ = one.outcome.buffer;
                }
            }
            if (ended_.empty() && Clock::now() > deadline) {
                failure_ = "a job did not end";
            }
        }
    }
    [[nodiscard]] Job in_chain(std::uint32_t opcode) {
        Job job{.opcode = opcode, .params = {}};
        job.region = kRegion;
        job.chain = 1;
        job.timeline = kTimeline;
        job.timeline_value = ++value_;
        return job;
    }
    [[nodiscard]] Job add_job() {
        Job job = in_chain(VGPU_OP_VECTOR_ADD);
        job.type = VGPU_TYPE_I32;
        job.heap_operands = 0b111;
        job.heap = {kOperands, kOperands + 4, kOperands + 8};
        job.length = 1;
        return job;
    }

    void add() {
        std::vector<double> seen;
        std::vector<double> completed;
        for (int i = 0; i < options_.adds && failure_.empty(); ++i) {
            const Job job = add_job();
            const auto began = Clock::now();
            submit(job);
            if (!region_.wait_for(kTimeline, value_)) {
                failure_ = "the timeline did not come";
            }
            seen.push_back(micros(Clock::now() - began));
            wait_for_all_but(0);
            completed.push_back(micros(Clock::now() - began));
        }
        figures_.push_back(of_samples("add n=1, " + who_ + ", on the timeline", std::move(seen)));
        figures_.push_back(of_samples("add n=1, " + who_ + ", completion", std::move(completed)));
    }
    void adds_in_flight() {
        const auto began = Clock::now();
        for (int i = 0; i < options_.adds && failure_.empty(); ++i) {
            wait_for_all_but(kManyInFlight - 1);
            submit(add_job());
        }
        wait_for_all_but(0);
        figures_.push_back(
            {"add n=1, " + who_ + ", " + std::to_string(kManyInFlight) + " in flight, each",
             micros(Clock::now() - began) / options_.adds, "us"});
    }
    void copies(bool to_device, std::uint64_t length, int count) {
        const std::uint64_t places = std::max<std::uint64_t>(
            std::min<std::uint64_t>(options_.largest / length, kInFlight), 1);
        const auto began = Clock::now();
        for (int i = 0; i < count && failure_.empty(); ++i) {
            wait_for_all_but(kInFlight - 1);
            Job job = in_chain(VGPU_OP_MEMORY_COPY);
            job.copy = to_device ? VGPU_COPY_TO_DEVICE : VGPU_COPY_FROM_DEVICE;
            job.buffers[0] = buffer_;
            job.offsets[0] = static_cast<std::uint64_t>(i) % places * length;
            job.heap_data = kBulk + job.offsets[0];
            job.length = length;
            submit(job);
        }
        wait_for_all_but(0);
        figures_.push_back(
            bandwidth((to_device ? "heap to GPU " : "GPU to heap ") + size_name(length) + ", " +
                          who_ + ", " + std::to_string(kInFlight) + " in flight",
                      length * static_cast<std::uint64_t>(count), Clock::now() - began));
    }

    Backend& backend_;
    std::string who_;
    HeapBenchOptions options_;
    Region region_;
    BufferId buffer_ = 0;
    std::uint64_t submitted_ = 0;
    std::uint64_t answered_ = 0;
    std::uint64_t value_ = 0;
    std::string failure_;
    std::vector<Completion> ended_;
    std::vector<Figure> figures_;
};

std::string printed(const char* format, double value) {
    std::array<char, 64> text{};
    static_cast<void>(std::snprintf(text.data(), text.size(), format, value));
    return text.data();
}

}  // namespace

Result<std::vector<Figure>> measure_native(const Api& api, int ordinal,
                                           const HeapBenchOptions& options) {
    return Native(api, options).run(ordinal);
}

Result<std::vector<Figure>> measure_backend(Backend& backend, const std::string& who,
                                            const HeapBenchOptions& options) {
    backend.attach_thread();
    auto figures = Measured(backend, who, options).run();
    backend.detach_thread();
    return figures;
}

std::string as_table(const std::vector<Figure>& figures) {
    constexpr std::size_t kNameWidth = 62;
    std::string text;
    for (const Figure& figure : figures) {
        std::string line = figure.name;
        line.resize(std::max(line.size() + 1, kNameWidth), ' ');
        line += printed("%12.2f ", figure.value) + figure.unit;
        if (figure.worst > 0) {
            line += printed("   99 %%: %.2f ", figure.worst) + figure.unit;
        }
        text += line + "\n";
    }
    return text;
}

std::string as_json(const std::string& device, const std::vector<Figure>& figures) {
    std::string text = R"({"device": ")" + device + R"(", "figures": [)";
    const char* separator = "\n";
    for (const Figure& figure : figures) {
        text += separator + (R"(  {"name": ")" + figure.name) + R"(", "value": )" +
                printed("%.3f", figure.value) + R"(, "unit": ")" + figure.unit + "\"";
        if (figure.worst > 0) {
            text += R"(, "percentile_99": )" + printed("%.3f", figure.worst);
        }
        text += "}";
        separator = ",\n";
    }
    return text + "\n]}\n";
}

}  // namespace vgpu::cuda
