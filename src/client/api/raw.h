// SPDX-License-Identifier: MIT
//
// Raw access to the device, for self-tests and fuzzers. Not part of the stable API: not installed,
// and not exported by the shared library.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include "client/include/vgpu.hpp"

extern "C" {

// Like vgpu_submit(), but sends `length` (1 to 1024) raw bytes without validation.
int vgpu_submit_bytes(vgpu_device* device, const void* bytes, size_t length, uint32_t* request_id,
                      struct vgpu_failure* why);

// Waits for the device's interrupt without reading STATUS. The interrupt is level-triggered: a
// completion before the call counts until its response is fetched. With "unix:PATH", waits for the
// response instead. Errors: VGPU_E_WAIT_TIMEOUT; VGPU_E_NO_INTERRUPT, also if opened with
// VGPU_WAIT_POLL.
int vgpu_wait_interrupt(vgpu_device* device, uint32_t timeout_ms, struct vgpu_failure* why);

// Performs exactly one access of `width` bytes (1, 2, 4 or 8) at byte `offset` of BAR0, with all
// its side effects. VGPU_E_ARGUMENT if the access is not within BAR0, or if the device has no
// registers
// ("unix:PATH"). Takes the register lock, as a request does.
int vgpu_mmio_read(vgpu_device* device, uint32_t offset, uint32_t width, uint64_t* value,
                   struct vgpu_failure* why);
int vgpu_mmio_write(vgpu_device* device, uint32_t offset, uint32_t width, uint64_t value,
                    struct vgpu_failure* why);
}

namespace vgpu::raw {

// Sends a request of raw bytes. Returns the request number, for Device::wait().
inline Expected<std::uint32_t> submit_bytes(Device& device, std::span<const std::byte> request) {
    vgpu_failure why{};
    std::uint32_t id = 0;
    if (vgpu_submit_bytes(device.get(), request.data(), request.size(), &id, &why) != VGPU_OK) {
        return detail::to_failure(why);
    }
    return id;
}

inline Expected<void> wait_interrupt(Device& device, std::chrono::nanoseconds limit) {
    vgpu_failure why{};
    if (vgpu_wait_interrupt(device.get(), detail::to_ms(limit), &why) != VGPU_OK) {
        return detail::to_failure(why);
    }
    return {};
}

}  // namespace vgpu::raw
