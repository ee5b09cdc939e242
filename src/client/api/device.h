// SPDX-License-Identifier: MIT
//
// What stands behind the C API's opaque vgpu_device. Private to the library and its tests.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "client/core/transport.h"
#include "client/include/outcome.h"
#include "client/include/vgpu.h"
#include "client/queue/queue.h"
#include "client/queue/region.h"

struct vgpu_device {
    // Requests. Null until the first one where the device was opened for queues.
    std::unique_ptr<vgpu::client::Transport> transport;
    std::function<vgpu::Outcome<std::unique_ptr<vgpu::client::Transport>>()> make_transport;
    // Tells what vgpu_get_properties gives, except has_interrupt. Null: the transport's registers
    // do.
    std::function<void(vgpu_properties&)> describe;
    std::string address;

    // Queues and heap. Null if there is no shared memory: then why.
    std::shared_ptr<vgpu::client::Region> region;
    std::string why_no_queues;
    vgpu::client::Waiting waiting;
    bool has_interrupt = false;  // for queues
};

namespace vgpu::client {

// The device's transport, made if there is none yet. VGPU_E_IN_USE and all that opening can give.
Outcome<Transport*> transport_of(vgpu_device& device);

}  // namespace vgpu::client
