// SPDX-License-Identifier: MIT
//
// Finding vgpu-stub among the PCI devices that sysfs shows, and taking hold of its BAR0. The
// roots of sysfs and /dev are parameters, so that the tests bring their own trees.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/mapping.h"
#include "client/include/outcome.h"

namespace vgpu::client {

struct Roots {
    std::string sysfs = "/sys";
    std::string dev = "/dev";
};

struct PciDevice {
    std::string address;  // "0000:00:04.0"
    std::string folder;   // its folder in sysfs
    std::string uio;      // "uio0", or empty
};

// All devices with vgpu-stub's vendor, device, class and revision, sorted by address.
// VGPU_E_SYSTEM if sysfs cannot be read.
Outcome<std::vector<PciDevice>> find_devices(const Roots& roots);

// The device at `address` (with or without the domain), or the first if it is empty.
// VGPU_E_NO_DEVICE.
Outcome<PciDevice> choose_device(const Roots& roots, const std::string& address);

// A BAR, mapped, and its open file.
struct Bar {
    Fd file;
    Mapping mapping;
    bool just_enabled = false;  // the device was switched off until now
};

// Opens resource0, enables the device if nobody has, and maps the BAR. `lock`: first takes the file
// for this open file alone, as long as it is open (VGPU_E_IN_USE if another process has it, which
// the message names where /proc/locks does). VGPU_E_NO_PERMISSION, VGPU_E_SYSTEM.
enum class BarLock : bool { kShared, kExclusive };
Outcome<Bar> open_bar(const PciDevice& device, BarLock lock);

// Opens resource2 and maps `size` bytes of it: shared memory, write-back or uncached, never
// write-combining. VGPU_E_NO_QUEUES if the guest's kernel has found no address space for it, as in
// a hot-plug port; VGPU_E_NO_PERMISSION, VGPU_E_SYSTEM.
Outcome<Bar> open_shared_memory(const PciDevice& device, std::uint64_t size);

}  // namespace vgpu::client
