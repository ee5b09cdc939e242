// SPDX-License-Identifier: MIT
//
// Validates the options and opens a device on the PCI bus, a mediator's socket, or the files of the
// old file protocol.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "client/api/device.h"
#include "client/file/file_transport.h"
#include "client/include/expected.h"
#include "client/include/vgpu.h"
#include "client/pci/pci_sysfs.h"
#include "client/queue/queue.h"
#include "client/unix/unix_link.h"

namespace vgpu::client {

struct OpenSettings {
    Roots roots;
    std::string address;                      // PCI address; empty: the first device
    std::optional<UnixSettings> unix_socket;  // set: use this socket instead
    std::optional<FileSettings> files;        // set: use these files instead
    Waiting waiting;
    bool for_queues = false;
};

// Validates the options; null means the defaults. Error: VGPU_E_ARGUMENT.
Expected<OpenSettings> settings_of(const vgpu_options* options);

// Reads the properties, except address and has_interrupt, from the device's registers.
void describe_registers(RegisterWindow& window, vgpu_properties& properties);

// Errors as for vgpu_open.
Expected<std::unique_ptr<vgpu_device>> open_device(const OpenSettings& settings);

}  // namespace vgpu::client
