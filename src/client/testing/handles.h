// SPDX-License-Identifier: MIT
//
// Owners of the C API's handles, for tests.
#pragma once

#include <memory>

#include "client/include/vgpu.h"
#include "client/include/vgpu_queue.h"

namespace vgpu::client::test {

struct CloseDevice {
    void operator()(vgpu_device* device) const { vgpu_close(device); }
};
using DevicePtr = std::unique_ptr<vgpu_device, CloseDevice>;
struct CloseQueue {
    void operator()(vgpu_queue* queue) const { vgpu_queue_close(queue); }
};
using QueuePtr = std::unique_ptr<vgpu_queue, CloseQueue>;

}  // namespace vgpu::client::test
