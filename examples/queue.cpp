// SPDX-License-Identifier: MIT
//
// Adds two vectors on the GPU in place, in memory that it shares with this program (zero-copy).
//
//   c++ -std=c++20 queue.cpp $(pkg-config --cflags --libs vgpu) -o queue && ./queue
//
// On the host, pass the mediator's socket: ./queue unix:/run/vgpu/mediator.sock
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <iostream>
#include <span>
#include <string>

#include <vgpu/vgpu.hpp>

namespace {

constexpr std::chrono::seconds kLimit{35};
constexpr std::uint64_t kCount = 1'000'000;
constexpr std::uint64_t kBytes = kCount * sizeof(float);

int report(const std::string& what, const vgpu::Failure& failure) {
    std::cerr << "queue: " << what << ": " << failure.message << " ("
              << vgpu_code_name(failure.code) << ")\n";
    return 1;
}

int run(const std::string& address) {
    vgpu::OpenOptions options;
    options.address = address;
    options.for_queues = true;  // share the device with other processes
    auto gpu = vgpu::Device::open(options);
    if (!gpu) {
        return report("cannot open the device", gpu.failure());
    }
    // Declared before the queue, so that the queue is closed before the block is freed.
    auto block = vgpu::HeapBlock::take(*gpu, 3 * kBytes);
    if (!block) {
        return report("cannot get shared memory", block.failure());
    }
    auto queue = vgpu::Queue::open(*gpu);
    if (!queue) {
        return report("cannot open a queue", queue.failure());
    }
    const std::span<float> a = block->as<float>().first(kCount);
    const std::span<float> b = block->as<float>().subspan(kCount, kCount);
    const std::span<float> sums = block->as<float>().subspan(2 * kCount, kCount);
    for (std::uint64_t i = 0; i < kCount; ++i) {
        a[i] = static_cast<float>(i % 1000);
        b[i] = 0.5F;
    }
    const auto start = std::chrono::steady_clock::now();
    const auto done = queue->vector_add(VGPU_TYPE_F32, block->operand(2 * kBytes),
                                        block->operand(0), block->operand(kBytes), kCount, kLimit);
    if (!done) {
        return report("the addition failed", done.failure());
    }
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
    for (std::uint64_t i = 0; i < kCount; ++i) {
        if (sums[i] != a[i] + b[i]) {
            std::cerr << "queue: element " << i << " is " << sums[i] << '\n';
            return 1;
        }
    }
    std::cout << kCount << " sums, all right, in " << took.count() << " \u00b5s\n";
    return 0;
}

// Fails if the output could not be written.
int finish(int status) {
    if (!std::cout.flush()) {
        std::cerr << "queue: cannot write to standard output: " << std::strerror(errno) << '\n';
        return 1;
    }
    return status;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        if (argc > 2) {
            std::cerr << "usage: queue [PCI address, or unix:PATH]\n";
            return 2;
        }
        return finish(run(argc == 2 ? argv[1] : ""));
    } catch (const std::exception& error) {
        std::cerr << "queue: " << error.what() << '\n';
        return 1;
    }
}
