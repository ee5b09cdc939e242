// SPDX-License-Identifier: MIT
//
// vgpu.hpp: the C++ API of libvgpu, header-only on top of vgpu.h, whose contracts hold here too
// (units, limits, codes, one thread at a time per Device). No exceptions of its own: what can fail
// returns an Outcome.
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

#include "outcome.h"
#include "vgpu.h"

namespace vgpu {

using DeviceEntry = ::vgpu_device_entry;
using Properties = ::vgpu_properties;
using GpuInfo = ::vgpu_gpu_info;
using Reply = ::vgpu_reply;

// How to find the device and how to wait; empty strings stand for the defaults of vgpu_options.
struct OpenOptions {
    std::string address;
    vgpu_wait_mode wait_mode = VGPU_WAIT_AUTO;
    std::string sysfs_root;
    std::string dev_root;
};

namespace detail {

// Borrows the strings of `options`.
inline vgpu_options to_c(const OpenOptions& options) {
    const auto text = [](const std::string& s) { return s.empty() ? nullptr : s.c_str(); };
    vgpu_options made = VGPU_OPTIONS_INIT;
    made.address = text(options.address);
    made.wait_mode = options.wait_mode;
    made.sysfs_root = text(options.sysfs_root);
    made.dev_root = text(options.dev_root);
    return made;
}

inline Failure to_failure(const vgpu_failure& why) {
    return {why.code, why.message, why.sys_errno};
}

// Rounded up to milliseconds; what does not fit becomes VGPU_NO_TIMEOUT.
inline std::uint32_t to_ms(std::chrono::nanoseconds limit) {
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(limit).count();
    if (ms < 0) {
        return 0;
    }
    return ms >= std::int64_t{VGPU_NO_TIMEOUT} ? VGPU_NO_TIMEOUT : static_cast<std::uint32_t>(ms);
}

}  // namespace detail

// All devices of this VM, by address; none is an empty list.
inline Outcome<std::vector<DeviceEntry>> list_devices(const OpenOptions& options = {}) {
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

// An open device. Move-only; closes on destruction. A moved-from Device may only be destroyed or
// assigned to.
class Device {
  public:
    static constexpr std::chrono::nanoseconds kNoTimeout = std::chrono::nanoseconds::max();

    static Outcome<Device> open(const OpenOptions& options = {}) {
        const vgpu_options c_options = detail::to_c(options);
        vgpu_failure why{};
        vgpu_device* device = nullptr;
        if (vgpu_open(&c_options, &device, &why) != VGPU_OK) {
            return detail::to_failure(why);
        }
        return Device(device);
    }
    // Consumes a device of the C API; not null.
    static Device adopt(vgpu_device* device) { return Device(device); }

    [[nodiscard]] Properties properties() {
        Properties made{};
        (void)vgpu_get_properties(get(), &made, nullptr);
        return made;
    }

    Outcome<void> nop(std::chrono::nanoseconds limit = kNoTimeout) {
        vgpu_failure why{};
        return done(vgpu_nop(get(), detail::to_ms(limit), &why), why);
    }

    // a + b modulo 2^32.
    Outcome<std::uint32_t> add(std::uint32_t a, std::uint32_t b,
                               std::chrono::nanoseconds limit = kNoTimeout) {
        vgpu_failure why{};
        std::uint32_t sum = 0;
        if (vgpu_add(get(), a, b, detail::to_ms(limit), &sum, &why) != VGPU_OK) {
            return detail::to_failure(why);
        }
        return sum;
    }

    Outcome<GpuInfo> info(std::chrono::nanoseconds limit = kNoTimeout) {
        vgpu_failure why{};
        GpuInfo made{};
        if (vgpu_device_info(get(), detail::to_ms(limit), &made, &why) != VGPU_OK) {
            return detail::to_failure(why);
        }
        return made;
    }

    // Any operation. The spans are borrowed for the call.
    Outcome<Reply> call(std::uint32_t opcode, std::span<const std::uint32_t> params = {},
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

    // The halves of call(), for a request given as bytes. Gives the request's number.
    Outcome<std::uint32_t> submit_bytes(std::span<const std::byte> request) {
        vgpu_failure why{};
        std::uint32_t id = 0;
        if (vgpu_submit_bytes(get(), request.data(), request.size(), &id, &why) != VGPU_OK) {
            return detail::to_failure(why);
        }
        return id;
    }
    Outcome<Reply> wait(std::chrono::nanoseconds limit = kNoTimeout) {
        vgpu_failure why{};
        Reply reply{};
        if (vgpu_wait(get(), detail::to_ms(limit), &reply, &why) != VGPU_OK) {
            return detail::to_failure(why);
        }
        return reply;
    }
    Outcome<void> drain(std::chrono::nanoseconds limit = kNoTimeout) {
        vgpu_failure why{};
        return done(vgpu_drain(get(), detail::to_ms(limit), &why), why);
    }

    Outcome<void> wait_interrupt(std::chrono::nanoseconds limit) {
        vgpu_failure why{};
        return done(vgpu_wait_interrupt(get(), detail::to_ms(limit), &why), why);
    }

    [[nodiscard]] std::uint64_t timestamp() { return vgpu_timestamp(get()); }
    [[nodiscard]] std::uint64_t interrupt_count() const { return vgpu_interrupt_count(get()); }

    // Borrows: for the functions of vgpu.h that have no counterpart here.
    [[nodiscard]] vgpu_device* get() const { return device_.get(); }

  private:
    struct Close {
        void operator()(vgpu_device* device) const { vgpu_close(device); }
    };

    explicit Device(vgpu_device* device) : device_(device) {}

    static Outcome<void> done(int code, const vgpu_failure& why) {
        return code == VGPU_OK ? Outcome<void>() : Outcome<void>(detail::to_failure(why));
    }
    // More than fits is refused by the library, by its size.
    static std::uint32_t clamp(std::size_t n) {
        constexpr std::size_t kMost = std::numeric_limits<std::uint32_t>::max();
        return static_cast<std::uint32_t>(n < kMost ? n : kMost);
    }

    std::unique_ptr<vgpu_device, Close> device_;
};

}  // namespace vgpu
