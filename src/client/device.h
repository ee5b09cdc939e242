// SPDX-License-Identifier: MIT
//
// What stands behind the C API's opaque vgpu_device. Private to the library and its tests.
#pragma once

#include <memory>
#include <string>

#include "base/fd.h"
#include "client/transport.h"

struct vgpu_device {
    // Declared first so that it is given up last: while the transport lives, the device is locked.
    vgpu::Fd lock;
    std::unique_ptr<vgpu::client::Transport> transport;
    std::string address;
};
