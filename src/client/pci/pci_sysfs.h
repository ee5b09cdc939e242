// SPDX-License-Identifier: MIT
//
// Finds vgpu-stub devices in sysfs and maps their BARs. The roots of sysfs and /dev are parameters,
// so that tests can supply their own trees.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/mapping.h"
#include "client/include/expected.h"

namespace vgpu::client {

struct Roots {
    std::string sysfs = "/sys";
    std::string dev = "/dev";
};

struct PciDevice {
    std::string address;  // "0000:00:04.0"
    std::string folder;   // its directory in sysfs
    std::string uio;      // "uio0", or empty
};

// Returns all devices with vgpu-stub's vendor, device, class and revision, sorted by address.
// Error: VGPU_E_SYSTEM if sysfs cannot be read.
Expected<std::vector<PciDevice>> find_devices(const Roots& roots);

// Returns the device at `address` (with or without the domain), or the first if it is empty.
// Errors: VGPU_E_NO_DEVICE, and those of find_devices().
Expected<PciDevice> choose_device(const Roots& roots, const std::string& address);

// A mapped BAR and its open file.
struct Bar {
    Fd file;
    Mapping mapping;
    bool just_enabled = false;  // open_bar() enabled the device
};

// Opens resource0, enables the device if it is disabled, and maps the BAR. kExclusive first locks
// the file for as long as it is open: VGPU_E_IN_USE if another process holds the lock; the message
// names it if /proc/locks lists it. Other errors: VGPU_E_NO_PERMISSION, VGPU_E_SYSTEM.
enum class BarLock : bool { kShared, kExclusive };
Expected<Bar> open_bar(const PciDevice& device, BarLock lock);

// Opens resource2 and maps `size` bytes of shared memory, write-back or uncached, never
// write-combining. Errors: VGPU_E_NO_QUEUES if the guest kernel assigned no address space to the
// BAR, for example in a hot-plug port; VGPU_E_NO_PERMISSION, VGPU_E_SYSTEM.
Expected<Bar> open_shared_memory(const PciDevice& device, std::uint64_t size);

}  // namespace vgpu::client
