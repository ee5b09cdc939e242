// SPDX-License-Identifier: MIT
//
// vgpu-bench-cuda-heap [--index N] [--json FILE] [--quick]: measures work in shared memory on a GPU
// (heap_bench.h) and prints a table. Exit status: 0, 1 with an error message, or 77 if there is no
// GPU. The backend in another process is this program, started again as the mediator does it.
#include <cstdio>
#include <string>
#include <string_view>

#include "base/number.h"
#include "executor/cuda/cuda_backend.h"
#include "executor/worker/worker.h"
#include "executor/worker/worker_backend.h"
#include "gpu/heap_bench.h"

namespace vgpu::cuda {
namespace {

constexpr int kSkipped = 77;
constexpr std::chrono::microseconds kSpin{1000};

int fail(const std::string& message, int status) {
    static_cast<void>(std::fprintf(stderr, "vgpu-bench-cuda-heap: %s\n", message.c_str()));
    return status;
}

int run(int index, const std::string& json, const HeapBenchOptions& options) {
    const auto api = Api::load();
    if (!api) {
        return fail(api.error().message, kSkipped);
    }
    std::string device;
    {
        auto made = CudaBackend::create(*api, index);
        if (!made) {
            return fail(made.error().message, kSkipped);
        }
        device = (*made)->info().name;
    }
    std::vector<Figure> figures;
    const auto add = [&figures](Result<std::vector<Figure>> measured) {
        if (!measured) {
            return fail(measured.error().message, 1);
        }
        figures.insert(figures.end(), measured->begin(), measured->end());
        return 0;
    };
    if (const int status = add(measure_native(*api, index, options)); status != 0) {
        return status;
    }
    {
        auto made = CudaBackend::create(*api, index);
        if (!made) {
            return fail(made.error().message, 1);
        }
        if (const int status = add(measure_backend(**made, "CudaBackend", options)); status != 0) {
            return status;
        }
    }
    auto made = worker::WorkerBackend::create(
        {.command = {.program = "/proc/self/exe",
                     .arguments = worker::cuda_worker_arguments(index, kSpin)}});
    if (!made) {
        return fail(made.error().message, 1);
    }
    if (const int status = add(measure_backend(**made, "WorkerBackend", options)); status != 0) {
        return status;
    }
    static_cast<void>(std::printf("%s\n%s", device.c_str(), as_table(figures).c_str()));
    if (!json.empty()) {
        std::FILE* const file = std::fopen(json.c_str(), "w");
        if (file == nullptr || std::fputs(as_json(device, figures).c_str(), file) < 0 ||
            std::fclose(file) != 0) {
            return fail("cannot write " + json, 1);
        }
    }
    return 0;
}

int main_of(int argc, char** argv) {
    if (argc > 1 && std::string_view(argv[1]) == worker::kWorkerArgument) {
        return worker::cuda_worker_main(argc, argv);
    }
    int index = 0;
    std::string json;
    HeapBenchOptions options;
    for (int i = 1; i < argc; ++i) {
        const std::string_view argument = argv[i];
        if (argument == "--index" && i + 1 < argc) {
            const auto number = parse_number(argv[++i]);
            if (!number || *number > 1023) {
                return fail("--index: '" + std::string(argv[i]) + "' is not a number up to 1023",
                            2);
            }
            index = static_cast<int>(*number);
        } else if (argument == "--json" && i + 1 < argc) {
            json = argv[++i];
        } else if (argument == "--quick") {
            options = {.large_copies = 2, .small_copies = 200, .adds = 500};
        } else {
            return fail("usage: vgpu-bench-cuda-heap [--index N] [--json FILE] [--quick]", 2);
        }
    }
    return run(index, json, options);
}

}  // namespace
}  // namespace vgpu::cuda

int main(int argc, char** argv) {
    return vgpu::cuda::main_of(argc, argv);
}
