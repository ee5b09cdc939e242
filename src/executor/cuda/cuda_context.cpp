// SPDX-License-Identifier: MIT
#include "executor/cuda/cuda_context.h"

#include <array>
#include <chrono>
#include <cstring>
#include <string>
#include <utility>

#include "base/relax.h"
#include "executor/cuda/kernels.h"

namespace vgpu::cuda {
namespace {

constexpr std::chrono::seconds kProofLimit{10};

// In the order of enum Kernel.
constexpr std::array<const char*, kKernelCount> kNames{
    "vgpu_add_u32",    "vgpu_vector_add_f32",    "vgpu_vector_add_i32",    "vgpu_saxpy_f32",
    "vgpu_saxpy_i32",  "vgpu_matmul_f32",        "vgpu_matmul_i32",        "vgpu_reduce_f32",
    "vgpu_reduce_i32", "vgpu_reduce_finish_f32", "vgpu_reduce_finish_i32", "vgpu_end_job"};

}  // namespace

Result<std::unique_ptr<CudaContext>> CudaContext::create(const Api& api, Device device) {
    std::unique_ptr<CudaContext> made(new CudaContext(api, device));
    if (auto built = made->build(); !built) {
        return std::move(built).error();
    }
    return made;
}

Result<void> CudaContext::build() {
    const auto failed = [&](const char* what, Status status) {
        return Error{std::string(what) + ": " + api_.describe(status)};
    };
    if (const Status status = api_.primary_context_retain(&context_, device_); status != kSuccess) {
        context_ = nullptr;
        return failed("cannot make a CUDA context", status);
    }
    if (const Status status = api_.context_set_current(context_); status != kSuccess) {
        return failed("cannot use the CUDA context", status);
    }
    if (auto loaded = load_modules(); !loaded) {
        return loaded;
    }
    Status status = api_.mem_alloc(&scratch_, kLanes * kMostReduceBlocks * sizeof(double));
    if (status != kSuccess) {
        scratch_ = 0;
        return failed("cannot allocate GPU memory", status);
    }
    void* cells = nullptr;
    status = api_.mem_host_alloc(&cells, kLanes * kDepth * sizeof(Cell),
                                 kHostAllocPortable | kHostAllocDeviceMap);
    if (status != kSuccess) {
        return failed("cannot allocate pinned memory", status);
    }
    std::memset(cells, 0, kLanes * kDepth * sizeof(Cell));
    cells_ = static_cast<Cell*>(cells);
    status = api_.mem_host_get_device_pointer(&device_cells_, cells, 0);
    if (status != kSuccess) {
        return failed("cannot map pinned memory", status);
    }
    for (Lane& lane : lanes_) {
        if (status = build(lane); status != kSuccess) {
            return failed("cannot create a CUDA stream", status);
        }
    }
    streams_write_ = api_.stream_write_value32 != nullptr && api_.stream_batch_mem_op != nullptr;
    return prove();
}

Status CudaContext::build(Lane& lane) const {
    Status status = api_.stream_create(&lane.stream, kStreamNonBlocking);
    if (status == kSuccess) {
        status = api_.stream_create(&lane.words, kStreamNonBlocking);
    }
    for (Event* const event : {&lane.copied, &lane.stored}) {
        if (status == kSuccess) {
            status = api_.event_create(event, kEventDisableTiming);
        }
    }
    return status;
}

Result<void> CudaContext::load_modules() {
    auto loaded = load_module(modules_[0], kAddPtx, 0, 1);
    return loaded ? load_module(modules_[1], kOperationsPtx, 1, kKernelCount - 1) : loaded;
}

Result<void> CudaContext::load_module(Module& module, const char* ptx, std::size_t first,
                                      std::size_t count) {
    std::array<char, 4096> log{};
    std::array options{kJitErrorLogBuffer, kJitErrorLogBufferSize};
    // The driver takes option values as pointers; a size is passed in the pointer's bits.
    // NOLINTNEXTLINE(performance-no-int-to-ptr)
    std::array<void*, 2> values{log.data(), reinterpret_cast<void*>(log.size() - 1)};
    Status status = api_.module_load_data_ex(&module, ptx, static_cast<unsigned>(options.size()),
                                             options.data(), values.data());
    for (std::size_t i = first; i < first + count && status == kSuccess; ++i) {
        status = api_.module_get_function(&functions_.at(i), module, kNames.at(i));
    }
    if (status != kSuccess) {
        return Error{"cannot load the kernels: " + api_.describe(status) +
                     (log[0] != '\0' ? std::string(": ") + log.data() : std::string())};
    }
    return {};
}

Status CudaContext::end(const Place& place) {
    take(place);
    const auto deadline = std::chrono::steady_clock::now() + kProofLimit;
    Status status = check(place, true);
    while (status == kNotReady && std::chrono::steady_clock::now() < deadline) {
        relax_processor();
        status = check(place, true);
    }
    return status;
}

Result<void> CudaContext::prove() {
    constexpr std::uint64_t kWord = 0x0123456789ABCDEF;
    const auto failed = [&](const std::string& why) {
        return Error{"the GPU does not answer: " + why};
    };
    Place place = next(0);
    const auto word = [&] { return __atomic_load_n(&cells_[index(place)].word, __ATOMIC_ACQUIRE); };
    const auto word_timeline = [&] {
        return Timeline{cell_address(place) + offsetof(Cell, word), kWord};
    };
    std::uint32_t a = 40;
    std::uint32_t b = 2;
    DeviceAddress nowhere = 0;
    Finish ending = finish(place, word_timeline());
    std::array<void*, 4> params{&a, &b, &nowhere, &ending};
    Status status = api_.launch_kernel(function(Kernel::kAdd), 1, 1, 1, 1, 1, 1, 0, stream(place),
                                       params.data(), nullptr);
    if (status == kSuccess) {
        status = end(place);
    }
    if (status != kSuccess) {
        return failed(api_.describe(status));
    }
    if (result(place) != 42 || word() != kWord) {
        return failed("wrong result");
    }
    place = next(0);
    status = mark(place, word_timeline());
    if (status == kSuccess) {
        status = end(place);
    }
    if (status == kSuccess && word() == kWord) {
        return {};
    }
    if (!streams_write_ || api_.stream_query(stream(place)) != kSuccess) {
        return failed(api_.describe(status));
    }
    // The context works and the words did not arrive: this driver cannot write them.
    streams_write_ = false;
    return prove();
}

CudaContext::~CudaContext() {
    if (context_ == nullptr) {
        return;
    }
    api_.context_set_current(context_);
    for (const Lane& lane : lanes_) {
        for (Stream stream : {lane.stream, lane.words}) {
            if (stream != nullptr) {
                api_.stream_destroy(stream);
            }
        }
        for (Event event : {lane.copied, lane.stored}) {
            if (event != nullptr) {
                api_.event_destroy(event);
            }
        }
    }
    if (cells_ != nullptr) {
        api_.mem_free_host(cells_);
    }
    if (scratch_ != 0) {
        api_.mem_free(scratch_);
    }
    for (Module module : modules_) {
        if (module != nullptr) {
            api_.module_unload(module);
        }
    }
    api_.context_set_current(nullptr);
    api_.primary_context_release(device_);
}

void CudaContext::make_current(bool current) const {
    api_.context_set_current(current ? context_ : nullptr);
}

Status CudaContext::mark(const Place& place, const Timeline& timeline) {
    if (!streams_write_) {
        Finish ending = finish(place, timeline);
        std::array<void*, 1> params{&ending};
        return api_.launch_kernel(function(Kernel::kEndJob), 1, 1, 1, 1, 1, 1, 0, stream(place),
                                  params.data(), nullptr);
    }
    return store_words(stream(place), place, timeline);
}

Status CudaContext::mark_aside(const Place& place, const Timeline& timeline) {
    Lane& lane = lanes_[place.lane];
    lane.aside = true;
    const Status status = api_.put_behind(lane.words, lane.stream, lane.copied);
    return status == kSuccess ? store_words(lane.words, place, timeline) : status;
}

Status CudaContext::join(const Place& place, bool follows) {
    Lane& lane = lanes_[place.lane];
    // With no job in flight, all words have been observed.
    if (lane.aside && follows) {
        const Status status = api_.put_behind(lane.stream, lane.words, lane.stored);
        if (status != kSuccess) {
            return status;
        }
    }
    lane.aside = false;
    return kSuccess;
}

Status CudaContext::store_words(Stream stream, const Place& place, const Timeline& timeline) const {
    // A write from a stream is observed only after all that the stream did or waited for before,
    // including other writes and a kernel's stores.
    const DeviceAddress done = cell_address(place) + offsetof(Cell, done);
    if (timeline.address == 0) {
        return api_.stream_write_value32(stream, done, place.sequence, 0);
    }
    // Both in one command, because each command takes GPU time.
    std::array both{
        MemoryOperation{
            .operation = kWriteValue64, .address = timeline.address, .value = timeline.value},
        MemoryOperation{.operation = kWriteValue32, .address = done, .value = place.sequence}};
    return api_.stream_batch_mem_op(stream, both.size(), both.data(), 0);
}

Status CudaContext::check(const Place& place, bool thorough) {
    const std::uint32_t& done = cells_[index(place)].done;
    if (__atomic_load_n(&done, __ATOMIC_ACQUIRE) == place.sequence) {
        return kSuccess;
    }
    if (!thorough) {
        return kNotReady;
    }
    for (Stream one : {lanes_[place.lane].stream, lanes_[place.lane].words}) {
        if (const Status status = api_.stream_query(one); status != kSuccess) {
            return status;
        }
    }
    // The streams are empty: the word has arrived, or it was never written.
    return __atomic_load_n(&done, __ATOMIC_ACQUIRE) == place.sequence ? kSuccess : kNotReady;
}

}  // namespace vgpu::cuda
