// SPDX-License-Identifier: MIT
#include "queue_device.h"

#include <stdexcept>

namespace vgpu::bench {

QueueDevice::QueueDevice(const std::string& socket, std::uint32_t vm, Wait wait,
                         std::uint64_t shm_size) {
    const std::string address = "unix:" + socket;
    vgpu_options options = VGPU_OPTIONS_INIT;
    options.address = address.c_str();
    options.vm_id = vm;
    options.shm_size = shm_size;
    options.queue_count = 1;
    if (wait == Wait::kSleep) {
        options.wait_mode = VGPU_WAIT_INTERRUPT;
    } else if (wait == Wait::kSpin) {
        options.spin_us = VGPU_SPIN_ALWAYS;
    }
    check(vgpu_open(&options, &device_, &why_));
    if (const int code = vgpu_queue_open(device_, VGPU_QUEUE_ANY, kLimitMs, &queue_, &why_);
        code != VGPU_OK) {
        vgpu_close(device_);
        fail();
    }
}

QueueDevice::~QueueDevice() {
    vgpu_queue_close(queue_);
    vgpu_close(device_);
}

vgpu_gpu_info QueueDevice::info() const {
    vgpu_gpu_info info{};
    vgpu_failure why{};
    if (vgpu_queue_device_info(queue_, kLimitMs, &info, &why) != VGPU_OK) {
        throw std::runtime_error(why.message);
    }
    return info;
}

vgpu_heap_block QueueDevice::allocate(std::uint64_t size) {
    vgpu_heap_block block{};
    check(vgpu_heap_alloc(device_, size, 4096, &block, &why_));
    return block;
}

std::uint32_t QueueDevice::allocate_buffer(std::uint64_t size) {
    std::uint32_t handle = 0;
    check(vgpu_queue_alloc(queue_, size, kLimitMs, &handle, &why_));
    return handle;
}

void QueueDevice::synchronize() {
    check(vgpu_queue_synchronize(queue_, kLimitMs, &why_));
}

void QueueDevice::fail() const {
    throw std::runtime_error(std::string("the fast path failed: ") + why_.message);
}

}  // namespace vgpu::bench
