// SPDX-License-Identifier: MIT
//
// Definition of the C API's opaque vgpu_device. Private to the library and its tests.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "client/core/transport.h"
#include "client/include/expected.h"
#include "client/include/vgpu.h"
#include "client/queue/queue.h"
#include "client/queue/region.h"

struct vgpu_device {
    // Carries requests. Null until the first request if the device was opened for queues.
    std::unique_ptr<vgpu::client::Transport> transport;
    std::function<vgpu::Expected<std::unique_ptr<vgpu::client::Transport>>()> make_transport;
    // Fills all properties except has_interrupt. Null: read them from the transport's registers.
    std::function<void(vgpu_properties&)> describe;
    std::string address;

    // Queues and heap. Null if there are none, for the reason in why_no_queues.
    std::shared_ptr<vgpu::client::Region> region;
    std::string why_no_queues;
    vgpu::client::Waiting waiting;
    bool has_interrupt = false;  // for queues
};

namespace vgpu::client {

// Returns the device's transport, and creates it on first use. Errors as for vgpu_open.
Expected<Transport*> transport_of(vgpu_device& device);

}  // namespace vgpu::client
