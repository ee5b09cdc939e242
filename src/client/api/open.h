// SPDX-License-Identifier: MIT
//
// Opening a device: options into settings, and the parts put together, for a device on the PCI bus
// or a mediator's socket.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "client/api/device.h"
#include "client/include/outcome.h"
#include "client/include/vgpu.h"
#include "client/pci/pci_sysfs.h"
#include "client/queue/queue.h"
#include "client/unix/unix_link.h"

namespace vgpu::client {

struct OpenSettings {
    Roots roots;
    std::string address;                      // PCI; empty: the first
    std::optional<UnixSettings> unix_socket;  // instead
    Waiting waiting;
    bool for_queues = false;
};

// VGPU_E_ARGUMENT.
Outcome<OpenSettings> settings_of(const vgpu_options* options);

// What the registers say of a device.
void describe_registers(RegisterWindow& window, vgpu_properties& properties);

// Errors as for vgpu_open.
Outcome<std::unique_ptr<vgpu_device>> open_device(const OpenSettings& settings);

}  // namespace vgpu::client
