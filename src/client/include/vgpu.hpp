// SPDX-License-Identifier: MIT
//
// vgpu.hpp: the C++ API of libvgpu, a header-only wrapper of vgpu.h with the same contracts (units,
// time-outs, codes, one thread at a time per Device). vgpu_queue.hpp adds queues. Functions that
// can fail return an Expected and throw nothing themselves; standard containers may throw
// bad_alloc.
//
//   auto gpu = vgpu::Device::open();
//   if (!gpu) { std::cerr << gpu.failure().message; return 1; }
//   const auto sum = gpu->add(100, 200);
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "expected.h"
#include "vgpu.h"

namespace vgpu {

using DeviceEntry = ::vgpu_device_entry;  // a device found in sysfs
using Properties = ::vgpu_properties;     // properties of an open device
using GpuInfo = ::vgpu_gpu_info;          // the GPU and this VM's share of it
using Reply = ::vgpu_reply;               // the reply to a request that succeeded

// Options, see vgpu_options. An empty string selects the default. The members from vm_id on are for
// an address of "unix:PATH" only.
struct OpenOptions {
    std::string address;                               // PCI address, or "unix:PATH"
    vgpu_wait_mode wait_mode = VGPU_WAIT_AUTO;         // how to wait for a completion
    std::string sysfs_root;                            // instead of /sys
    std::string dev_root;                              // instead of /dev
    bool for_queues = false;                           // VGPU_OPEN_QUEUES
    std::uint32_t spin_us = 50;                        // microseconds; VGPU_SPIN_ALWAYS: no limit
    std::uint32_t vm_id = 0;                           // VM id of this process
    char pool = 'A';                                   // ASCII letter
    vgpu_priority priority = VGPU_PRIORITY_MEDIUM;     // priority of its requests
    std::uint64_t shm_size = std::uint64_t{64} << 20;  // bytes; 0: none, no queues
    std::uint32_t queue_count = 8;                     // 1 to 64
    std::uint32_t hello_timeout_ms = VGPU_HELLO_TIMEOUT_MS;  // milliseconds
};

namespace detail {

// The result refers to the strings of `options`.
inline vgpu_options to_c(const OpenOptions& options) {
    const auto text = [](const std::string& s) { return s.empty() ? nullptr : s.c_str(); };
    vgpu_options made = VGPU_OPTIONS_INIT;
    made.address = text(options.address);
    made.wait_mode = options.wait_mode;
    made.sysfs_root = text(options.sysfs_root);
    made.dev_root = text(options.dev_root);
    made.flags = options.for_queues ? VGPU_OPEN_QUEUES : 0;
    made.spin_us = options.spin_us;
    made.vm_id = options.vm_id;
    made.pool = options.pool;
    made.priority = options.priority;
    made.shm_size = options.shm_size;
    made.queue_count = options.queue_count;
    made.hello_timeout_ms = options.hello_timeout_ms;
    return made;
}

inline Failure to_failure(const vgpu_failure& why) {
    return {why.code, why.message, why.sys_errno};
}

// Rounds up to milliseconds. Negative values become 0, values out of range VGPU_NO_TIMEOUT.
inline std::uint32_t to_ms(std::chrono::nanoseconds limit) {
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(limit).count();
    if (ms < 0) {
        return 0;
    }
    return ms >= std::int64_t{VGPU_NO_TIMEOUT} ? VGPU_NO_TIMEOUT : static_cast<std::uint32_t>(ms);
}

}  // namespace detail

// Returns the devices of this VM in order of address; the list may be empty.
inline Expected<std::vector<DeviceEntry>> list_devices(const OpenOptions& options = {}) {
    const vgpu_options c_options = detail::to_c(options);
    vgpu_failure why{};
    std::vector<DeviceEntry> entries;
    std::size_t count = 0;
    do {
        entries.resize(count);
        if (vgpu_enumerate(&c_options, entries.data(), entries.size(), &count, &why) != VGPU_OK) {
            return detail::to_failure(why);
        }
    } while (count > entries.size());
    entries.resize(count);
    return entries;
}

// An open device, closed by the destructor. Move-only; a moved-from Device may only be destroyed or
// assigned to. The members are equivalent to the corresponding C functions; `limit` is the
// time-out, rounded up to milliseconds.
class Device {
  public:
    // Waits indefinitely.
    static constexpr std::chrono::nanoseconds kNoTimeout = std::chrono::nanoseconds::max();

    static Expected<Device> open(const OpenOptions& options = {}) {
        const vgpu_options c_options = detail::to_c(options);
        vgpu_failure why{};
        vgpu_device* device = nullptr;
        if (vgpu_open(&c_options, &device, &why) != VGPU_OK) {
            return detail::to_failure(why);
        }
        return Device(device);
    }
    // Returns a Device that owns a device of the C API.
    //
    // device: the device, not null
    static Device adopt(vgpu_device* device) { return Device(device); }

    [[nodiscard]] Properties properties() {
        Properties made{};
        (void)vgpu_get_properties(get(), &made, nullptr);
        return made;
    }

    Expected<void> nop(std::chrono::nanoseconds limit = kNoTimeout) {
        vgpu_failure why{};
        return done(vgpu_nop(get(), detail::to_ms(limit), &why), why);
    }

    // Returns a + b modulo 2^32.
    Expected<std::uint32_t> add(std::uint32_t a, std::uint32_t b,
                                std::chrono::nanoseconds limit = kNoTimeout) {
        vgpu_failure why{};
        std::uint32_t sum = 0;
        if (vgpu_add(get(), a, b, detail::to_ms(limit), &sum, &why) != VGPU_OK) {
            return detail::to_failure(why);
        }
        return sum;
    }

    Expected<GpuInfo> info(std::chrono::nanoseconds limit = kNoTimeout) {
        vgpu_failure why{};
        GpuInfo made{};
        if (vgpu_device_info(get(), detail::to_ms(limit), &made, &why) != VGPU_OK) {
            return detail::to_failure(why);
        }
        return made;
    }

    // Allocates a zero-filled buffer of `size` bytes and returns its handle.
    Expected<std::uint32_t> alloc(std::uint64_t size, std::chrono::nanoseconds limit = kNoTimeout) {
        vgpu_failure why{};
        std::uint32_t handle = 0;
        if (vgpu_alloc(get(), size, detail::to_ms(limit), &handle, &why) != VGPU_OK) {
            return detail::to_failure(why);
        }
        return handle;
    }
    Expected<void> free(std::uint32_t handle, std::chrono::nanoseconds limit = kNoTimeout) {
        vgpu_failure why{};
        return done(vgpu_free(get(), handle, detail::to_ms(limit), &why), why);
    }
    Expected<void> copy_to(std::uint32_t handle, std::uint64_t offset,
                           std::span<const std::byte> from,
                           std::chrono::nanoseconds limit = kNoTimeout) {
        vgpu_failure why{};
        return done(vgpu_copy_to(get(), handle, offset, from.data(), from.size(),
                                 detail::to_ms(limit), &why),
                    why);
    }
    Expected<void> copy_from(std::uint32_t handle, std::uint64_t offset, std::span<std::byte> to,
                             std::chrono::nanoseconds limit = kNoTimeout) {
        vgpu_failure why{};
        return done(
            vgpu_copy_from(get(), handle, offset, to.data(), to.size(), detail::to_ms(limit), &why),
            why);
    }
    Expected<void> copy_within(std::uint32_t to, std::uint64_t to_offset, std::uint32_t from,
                               std::uint64_t from_offset, std::uint64_t length,
                               std::chrono::nanoseconds limit = kNoTimeout) {
        vgpu_failure why{};
        return done(vgpu_copy_within(get(), to, to_offset, from, from_offset, length,
                                     detail::to_ms(limit), &why),
                    why);
    }
    Expected<void> synchronize(std::chrono::nanoseconds limit = kNoTimeout) {
        vgpu_failure why{};
        return done(vgpu_synchronize(get(), detail::to_ms(limit), &why), why);
    }
    Expected<void> vector_add(vgpu_type type, std::uint32_t to, std::uint32_t a, std::uint32_t b,
                              std::uint64_t count, std::chrono::nanoseconds limit = kNoTimeout,
                              std::uint32_t flags = 0) {
        vgpu_failure why{};
        return done(
            vgpu_vector_add(get(), flags, type, to, a, b, count, detail::to_ms(limit), &why), why);
    }
    Expected<void> saxpy(vgpu_type type, std::uint32_t y, std::uint32_t x, std::uint32_t alpha_bits,
                         std::uint64_t count, std::chrono::nanoseconds limit = kNoTimeout,
                         std::uint32_t flags = 0) {
        vgpu_failure why{};
        return done(
            vgpu_saxpy(get(), flags, type, y, x, alpha_bits, count, detail::to_ms(limit), &why),
            why);
    }
    Expected<void> matmul(vgpu_type type, std::uint32_t to, std::uint32_t a, std::uint32_t b,
                          std::uint32_t m, std::uint32_t n, std::uint32_t k,
                          std::chrono::nanoseconds limit = kNoTimeout, std::uint32_t flags = 0) {
        vgpu_failure why{};
        return done(vgpu_matmul(get(), flags, type, to, a, b, m, n, k, detail::to_ms(limit), &why),
                    why);
    }
    // Returns the bit pattern of the sum.
    Expected<std::uint32_t> reduce_sum(vgpu_type type, std::uint32_t from, std::uint64_t count,
                                       std::chrono::nanoseconds limit = kNoTimeout) {
        vgpu_failure why{};
        std::uint32_t bits = 0;
        if (vgpu_reduce_sum(get(), type, from, count, detail::to_ms(limit), &bits, &why) !=
            VGPU_OK) {
            return detail::to_failure(why);
        }
        return bits;
    }

    // Runs any operation.
    //
    // opcode: enum vgpu_opcode or vendor-specific
    // params: arguments of the operation; used only during the call
    // data: bulk data; used only during the call
    // flags: VGPU_FLAG_*
    Expected<Reply> call(std::uint32_t opcode, std::span<const std::uint32_t> params = {},
                         std::span<const std::byte> data = {},
                         std::chrono::nanoseconds limit = kNoTimeout, std::uint32_t flags = 0) {
        vgpu_command command{};
        command.opcode = opcode;
        command.flags = flags;
        command.params = params.data();
        command.param_count = clamp(params.size());
        command.data = data.data();
        command.data_length = clamp(data.size());
        vgpu_failure why{};
        Reply reply{};
        if (vgpu_call(get(), &command, detail::to_ms(limit), &reply, &why) != VGPU_OK) {
            return detail::to_failure(why);
        }
        return reply;
    }

    // Waits for the response to the last request submitted with vgpu_submit().
    Expected<Reply> wait(std::chrono::nanoseconds limit = kNoTimeout) {
        vgpu_failure why{};
        Reply reply{};
        if (vgpu_wait(get(), detail::to_ms(limit), &reply, &why) != VGPU_OK) {
            return detail::to_failure(why);
        }
        return reply;
    }
    Expected<void> drain(std::chrono::nanoseconds limit = kNoTimeout) {
        vgpu_failure why{};
        return done(vgpu_drain(get(), detail::to_ms(limit), &why), why);
    }

    // All members are 0 if the device has no shared memory.
    [[nodiscard]] ::vgpu_shm_info shm_info() {
        ::vgpu_shm_info made{};
        (void)vgpu_get_shm_info(get(), &made, nullptr);
        return made;
    }
    Expected<::vgpu_heap_info> heap_info() {
        vgpu_failure why{};
        ::vgpu_heap_info made{};
        if (vgpu_get_heap_info(get(), &made, &why) != VGPU_OK) {
            return detail::to_failure(why);
        }
        return made;
    }
    [[nodiscard]] std::uint64_t generation() { return vgpu_generation(get()); }

    [[nodiscard]] std::uint64_t timestamp() { return vgpu_timestamp(get()); }
    // Returns how many interrupts have woken waits for requests of this device.
    [[nodiscard]] std::uint64_t interrupt_count() const { return vgpu_interrupt_count(get()); }

    // Returns the handle, without ownership, for functions of vgpu.h that have no counterpart here.
    [[nodiscard]] vgpu_device* get() const { return device_.get(); }

  private:
    struct Close {
        void operator()(vgpu_device* device) const { vgpu_close(device); }
    };

    explicit Device(vgpu_device* device) : device_(device) {}

    static Expected<void> done(int code, const vgpu_failure& why) {
        return code == VGPU_OK ? Expected<void>() : Expected<void>(detail::to_failure(why));
    }
    // Saturates; the library rejects a size that large.
    static std::uint32_t clamp(std::size_t n) {
        constexpr std::size_t kMost = std::numeric_limits<std::uint32_t>::max();
        return static_cast<std::uint32_t>(n < kMost ? n : kMost);
    }

    std::unique_ptr<vgpu_device, Close> device_;
};

}  // namespace vgpu

#define VGPU_HPP
#include "vgpu_queue.hpp"
