// SPDX-License-Identifier: MIT
//
// Calls every function of the C++ API, and checks each result. The API reference takes its examples
// from here: the first block between two comments with the same words in brackets that begins with
// the name of a class and calls a member of it is that member's example.
//
//   c++ -std=c++20 api.cpp $(pkg-config --cflags --libs vgpu) -o api && ./api
//
// On the host, pass the mediator's socket: ./api unix:/run/vgpu/mediator.sock
// Exit status: 0 success, 1 failure (with an error message), 2 usage error.
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iostream>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include <vgpu/vgpu.hpp>

namespace {

using namespace std::chrono_literals;
constexpr std::chrono::seconds kLimit{35};

void expect(bool right, const std::string& what) {
    if (!right) {
        throw std::runtime_error("wrong result: " + what);
    }
}

// Returns the value of a result, or throws its failure.
template <typename T>
T need(vgpu::Expected<T> result) {
    if (!result) {
        throw std::runtime_error(result.failure().message);
    }
    if constexpr (!std::is_void_v<T>) {
        return *std::move(result);
    }
}

void list() {
    // [list_devices]
    const auto devices = vgpu::list_devices();
    if (!devices) {
        std::cerr << devices.failure().message << '\n';
        return;
    }
    for (const vgpu::DeviceEntry& entry : *devices) {
        std::cout << entry.address << ' ' << entry.uio << '\n';
    }
    // [list_devices]
}

// An operation of the program's own that can fail.
// [Expected of a program's own functions]
vgpu::Expected<int> half(int number) {
    if (number % 2 != 0) {
        return vgpu::Failure{VGPU_E_ARGUMENT, "the number is odd", 0};
    }
    return number / 2;
}

vgpu::Expected<void> require_even(int number) {
    const vgpu::Expected<int> result = half(number);
    if (!result.has_value()) {
        return vgpu::Failure(result.failure());
    }
    std::cout << *result << '\n';
    return vgpu::Expected<void>();
}
// [Expected of a program's own functions]

void open(const std::string& address) {
    // [Device: open]
    vgpu::OpenOptions options;
    options.address = address;  // empty: the first device of this VM
    auto gpu = vgpu::Device::open(options);
    if (!gpu) {
        std::cerr << gpu.failure().message << " (" << vgpu_code_name(gpu.failure().code) << ")\n";
        return;
    }
    const vgpu::Properties properties = gpu->properties();
    std::cout << "pool " << properties.pool << ", VM id " << properties.vm_id << '\n';

    // From a handle of the C API, which the Device closes:
    vgpu_device* handle = nullptr;
    if (vgpu_open(nullptr, &handle, nullptr) == VGPU_OK) {
        const vgpu::Device adopted = vgpu::Device::adopt(handle);
        std::cout << vgpu_interrupt_count(adopted.get()) << '\n';
    }
    // [Device: open]
    expect(properties.pool == 'A', "Device::properties");
}

void requests(vgpu::Device& gpu) {
    // [Device: requests]
    const auto sum = gpu.add(100, 200, 1s);
    if (!sum) {
        std::cerr << sum.failure().message << '\n';
        return;
    }
    // *sum == 300
    need(gpu.nop(1s));
    const vgpu::GpuInfo info = need(gpu.info(1s));
    std::cout << info.name << ", " << info.memory_free << " bytes free\n";

    // Any operation, and one without waiting for it:
    const std::array<std::uint32_t, 2> numbers{1, 2};
    const vgpu::Reply reply = need(gpu.call(VGPU_OP_CUDA_KERNEL, numbers, {}, 1s));
    // reply.results[0] == 3
    vgpu_command command{};
    if (vgpu_submit(gpu.get(), &command, nullptr, nullptr) == VGPU_OK) {
        need(gpu.wait(1s));
    }
    if (vgpu_submit(gpu.get(), &command, nullptr, nullptr) == VGPU_OK) {
        need(gpu.drain(1s));  // ignores the response
    }
    std::cout << "completed at " << gpu.timestamp() << " ns, " << gpu.interrupt_count()
              << " interrupts\n";
    // [Device: requests]
    expect(*sum == 300 && reply.results[0] == 3, "Device: requests");
}

void buffers(vgpu::Device& gpu) {
    // [Device: buffers]
    const std::array<std::int32_t, 4> values{1, 2, 3, 4};
    std::array<std::int32_t, 4> results{};
    const auto a = need(gpu.alloc(sizeof(values)));
    const auto b = need(gpu.alloc(sizeof(values)));
    need(gpu.copy_to(a, 0, std::as_bytes(std::span(values))));
    // b = a + a, then b = 10 * a + b, without waiting: the last argument.
    need(gpu.vector_add(VGPU_TYPE_I32, b, a, a, 4, kLimit, VGPU_FLAG_ASYNC));
    need(gpu.saxpy(VGPU_TYPE_I32, b, a, 10, 4, kLimit, VGPU_FLAG_ASYNC));
    need(gpu.synchronize());  // reports their errors
    need(gpu.copy_from(b, 0, std::as_writable_bytes(std::span(results))));
    const std::uint32_t sum = need(gpu.reduce_sum(VGPU_TYPE_I32, b, 4));
    need(gpu.matmul(VGPU_TYPE_I32, b, a, a, 1, 1, 1));
    need(gpu.copy_within(b, 4, b, 0, 4));
    need(gpu.free(a));
    need(gpu.free(b));
    // results: 12, 24, 36, 48; sum == 120
    // [Device: buffers]
    expect(results[0] == 12 && results[3] == 48 && sum == 120, "Device: buffers");
}

void shared_memory(vgpu::Device& gpu) {
    // [Device: shared memory]
    const vgpu::ShmInfo shm = gpu.shm_info();
    std::cout << shm.size << " bytes of shared memory, " << shm.queue_count << " queues\n";
    if (gpu.generation() == 0) {
        std::cout << "no mediator serves the queues: use Device::call\n";
    }
    const vgpu::HeapInfo heap = need(gpu.heap_info());
    std::cout << heap.available << " bytes can be allocated\n";
    // [Device: shared memory]
    expect(heap.available <= shm.heap_size, "Device: shared memory");
}

void commands(vgpu::Device& gpu, vgpu::Queue& queue) {
    // [HeapBlock and its operands]
    auto block = vgpu::HeapBlock::take(gpu, 4096);
    if (!block) {
        std::cerr << block.failure().message << '\n';
        return;
    }
    const std::span<std::int32_t> a = block->as<std::int32_t>().first(4);
    const std::span<std::int32_t> b = block->as<std::int32_t>().subspan(4, 4);
    const std::uint64_t at_a = block->operand();  // for the GPU
    const std::uint64_t at_b = block->operand(16);
    const vgpu::ReplyPlace place = block->reply_place(1024, 256, /*cookie=*/7);
    std::cout << block->size() << " bytes at " << block->offset() << ", "
              << block->bytes().size_bytes() << " in this process\n";
    vgpu::HeapBlock owner = *std::move(block);  // the block is freed with `owner`
    // [HeapBlock and its operands]

    // [Queue: commands]
    for (int i = 0; i < 4; ++i) {
        a[i] = i + 1;
    }
    need(queue.push_nop());
    need(queue.push_vector_add(VGPU_TYPE_I32, at_b, at_a, at_a, 4));  // b = a + a
    need(queue.push_saxpy(VGPU_TYPE_I32, at_b, at_a, 10, 4));         // b = 10 * a + b
    const auto point = need(queue.push_reduce_sum(VGPU_TYPE_I32, at_b, 4, place));
    need(queue.flush());  // visible to the mediator
    std::cout << queue.completed() << " of " << queue.submitted() << " completed\n";
    need(queue.wait(point, kLimit));
    const vgpu::ReplyView sum = need(queue.read_reply(place));
    // b is 12, 24, 36, 48; sum.results[0] == 120
    // [Queue: commands]
    expect(b[3] == 48 && sum.results[0] == 120, "Queue: commands");

    // [Queue: commands with replies]
    auto last = need(queue.push_add(100, 200, place));
    const std::uint32_t total = need(queue.finish(last, place, kLimit)).results[0];  // 300
    last = need(queue.push_alloc(4096, place));
    const std::uint32_t handle = need(queue.finish(last, place, kLimit)).results[0];
    need(queue.push_copy_to(handle, 0, owner.offset(), 16));
    need(queue.push_copy_within(handle, 2048, handle, 0, 16));
    need(queue.push_copy_from(handle, 2048, owner.offset() + 512, 16));
    need(queue.push_matmul(VGPU_TYPE_I32, at_b, at_a, at_a, 1, 1, 1));
    need(queue.push_free(handle));
    need(queue.push_synchronize());
    last = need(queue.push_device_info(owner.reply_place(2048, 512)));
    need(queue.wait(last, kLimit));
    // A record that is filled in by hand:
    vgpu::QueueCommand command{};
    command.opcode = VGPU_OP_NOP;
    last = need(queue.push(command));
    need(queue.wait(last, kLimit));
    // [Queue: commands with replies]
    expect(total == 300 && owner.as<std::int32_t>()[128] == 1, "Queue: commands with replies");
}

void calls(vgpu::Queue& queue) {
    // [Queue: blocking calls]
    const std::uint32_t sum = need(queue.add(100, 200, kLimit));  // 300
    need(queue.nop());
    const vgpu::GpuInfo info = need(queue.info());
    vgpu::QueueCommand command{};
    command.opcode = VGPU_OP_NOP;
    const vgpu::Reply reply = need(queue.call(command, kLimit));

    const std::array<std::int32_t, 4> values{1, 2, 3, 4};
    std::array<std::int32_t, 4> results{};
    const auto a = need(queue.alloc(1024));
    const auto b = need(queue.alloc(1024));
    need(queue.copy_to(a, 0, std::as_bytes(std::span(values))));
    need(queue.vector_add(VGPU_TYPE_I32, b, a, a, 4));
    need(queue.saxpy(VGPU_TYPE_I32, b, a, 10, 4));
    const std::uint32_t total = need(queue.reduce_sum(VGPU_TYPE_I32, b, 4));
    need(queue.copy_within(b, 512, b, 0, sizeof(values)));
    need(queue.copy_from(b, 512, std::as_writable_bytes(std::span(results))));
    need(queue.matmul(VGPU_TYPE_I32, b, a, a, 1, 1, 1));
    need(queue.synchronize());
    need(queue.free(a));
    need(queue.free(b));
    // results: 12, 24, 36, 48; total == 120
    // [Queue: blocking calls]
    expect(sum == 300 && total == 120 && results[3] == 48 && reply.result_count == 0 &&
               info.name[0] != '\0',
           "Queue: blocking calls");
}

void run(const std::string& address) {
    list();
    expect(require_even(4).has_value() && !require_even(3), "Expected");
    open(address);

    vgpu::OpenOptions options;
    options.address = address;
    vgpu::Device gpu = need(vgpu::Device::open(options));
    requests(gpu);
    buffers(gpu);
    shared_memory(gpu);

    // [Queue: open]
    auto queue = vgpu::Queue::open(gpu);
    if (!queue) {
        throw std::runtime_error(queue.failure().message);  // or continue with Device::call
    }
    std::cout << "queue " << queue->index() << '\n';
    // For hot loops, the C API:
    const std::uint64_t completed = vgpu_queue_completed(queue->get());
    // [Queue: open]
    expect(completed == queue->completed(), "Queue: open");
    commands(gpu, *queue);
    calls(*queue);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        if (argc > 2) {
            std::cerr << "usage: api [PCI address, or unix:PATH]\n";
            return 2;
        }
        run(argc == 2 ? argv[1] : "");
        if (!std::cout.flush()) {
            std::cerr << "api: cannot write to standard output\n";
            return 1;
        }
        return 0;
    } catch (const std::exception& error) {
        std::cerr << "api: " << error.what() << '\n';
        return 1;
    }
}
