// SPDX-License-Identifier: MIT
//
// The C API: checks arguments, turns Outcomes into codes, and lets no exception out. Everything
// that happens, happens in the parts it wires together.
#include "client/vgpu.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <utility>

#include "client/device.h"
#include "client/mmio_window.h"
#include "client/pci_sysfs.h"
#include "client/register_transport.h"
#include "client/response.h"
#include "client/uio_interrupt.h"

namespace {

using vgpu::Failure;
using vgpu::Outcome;
using namespace vgpu::client;  // NOLINT: this file is the library's own front

// Cuts at the end rather than overflow, never within a UTF-8 character.
void copy_text(std::span<char> to, const std::string& from) {
    std::size_t length = std::min(from.size(), to.size() - 1);
    while (length < from.size() && length > 0 &&
           (static_cast<unsigned char>(from[length]) & 0xC0) == 0x80) {
        --length;
    }
    std::memcpy(to.data(), from.data(), length);
    to[length] = '\0';
}

int fail(vgpu_failure* why, const Failure& failure) {
    if (why != nullptr) {
        why->code = failure.code;
        why->sys_errno = failure.sys_errno;
        copy_text(why->message, failure.message);
    }
    return failure.code;
}

int bad_argument(vgpu_failure* why, const char* what) {
    return fail(why, {VGPU_E_ARGUMENT, what, 0});
}

// Runs `body`, which returns a code. The only exception to expect is a lack of memory.
template <typename Body>
int guarded(vgpu_failure* why, Body body) {
    try {
        return body();
    } catch (const std::bad_alloc&) {
        return fail(why, {VGPU_E_SYSTEM, "out of memory", ENOMEM});
    } catch (const std::exception& error) {
        return fail(why, {VGPU_E_SYSTEM, error.what(), 0});
    }
}

Nanoseconds deadline_after(Clock& clock, std::uint32_t timeout_ms) {
    return timeout_ms == VGPU_NO_TIMEOUT ? kNever
                                         : clock.now() + std::chrono::milliseconds(timeout_ms);
}

struct Settings {
    Roots roots;
    std::string address;
    WaitMode mode = WaitMode::kAuto;
};

Outcome<Settings> settings_of(const vgpu_options* options) {
    Settings settings;
    if (options == nullptr) {
        return settings;
    }
    if (options->struct_size != sizeof(vgpu_options)) {
        return Failure{VGPU_E_ARGUMENT, "struct_size is wrong: start from VGPU_OPTIONS_INIT", 0};
    }
    if (options->address != nullptr) {
        settings.address = options->address;
    }
    if (options->sysfs_root != nullptr) {
        settings.roots.sysfs = options->sysfs_root;
    }
    if (options->dev_root != nullptr) {
        settings.roots.dev = options->dev_root;
    }
    switch (options->wait_mode) {
        case VGPU_WAIT_AUTO:
            settings.mode = WaitMode::kAuto;
            break;
        case VGPU_WAIT_POLL:
            settings.mode = WaitMode::kPoll;
            break;
        case VGPU_WAIT_INTERRUPT:
            settings.mode = WaitMode::kInterrupt;
            break;
        default:
            return Failure{VGPU_E_ARGUMENT, "wait_mode is not one of enum vgpu_wait_mode", 0};
    }
    return settings;
}

Outcome<std::unique_ptr<vgpu_device>> open_device(const Settings& settings) {
    const auto found = choose_device(settings.roots, settings.address);
    if (!found) {
        return found.failure();
    }
    auto bar = open_bar(*found);
    if (!bar) {
        return bar.failure();
    }
    std::unique_ptr<InterruptSource> interrupt;
    if (settings.mode != WaitMode::kPoll) {
        auto uio = UioInterrupt::create(settings.roots, *found);
        if (uio) {
            interrupt = std::move(*uio);
        } else if (settings.mode == WaitMode::kInterrupt) {
            return uio.failure();
        }
    }
    auto transport =
        RegisterTransport::create(std::make_unique<MmioWindow>(std::move(bar->mapping)),
                                  std::move(interrupt), settings.mode, system_clock());
    if (!transport) {
        return transport.failure();
    }
    auto device = std::make_unique<vgpu_device>();
    device->lock = std::move(bar->lock);
    device->transport = std::move(*transport);
    device->address = found->address;
    return device;
}

int submit_bytes(vgpu_device* device, std::span<const std::byte> bytes, std::uint32_t* request_id,
                 vgpu_failure* why) {
    const auto id = device->transport->submit(bytes);
    if (!id) {
        return fail(why, id.failure());
    }
    if (request_id != nullptr) {
        *request_id = *id;
    }
    return VGPU_OK;
}

int wait_until(vgpu_device* device, Nanoseconds deadline, std::uint32_t request_id,
               vgpu_reply* reply, vgpu_failure* why) {
    const auto completion = device->transport->wait(deadline);
    if (!completion) {
        return fail(why, completion.failure());
    }
    auto decoded = decode_completion(*completion);
    if (!decoded) {
        return fail(why, decoded.failure());
    }
    if (reply != nullptr) {
        *reply = *decoded;
        reply->request_id = request_id;
    }
    return VGPU_OK;
}

// The registers, if there are any and the access lies within them; else null and *why filled.
RegisterWindow* window_for(vgpu_device* device, std::uint32_t offset, std::uint32_t width,
                           vgpu_failure* why) {
    const bool width_ok = width == 1 || width == 2 || width == 4 || width == 8;
    if (device == nullptr || device->transport->registers() == nullptr || !width_ok ||
        offset > VGPU_BAR0_SIZE - width) {
        bad_argument(why, "the access does not lie within the device's registers");
        return nullptr;
    }
    return device->transport->registers();
}

}  // namespace

const char* vgpu_version(void) {
    return VGPU_LIBRARY_VERSION;
}

int vgpu_enumerate(const vgpu_options* options, vgpu_device_entry* entries, size_t capacity,
                   size_t* count, vgpu_failure* why) {
    if (count == nullptr || (entries == nullptr && capacity > 0)) {
        return bad_argument(why, "vgpu_enumerate: a pointer is null");
    }
    return guarded(why, [&]() -> int {
        const auto settings = settings_of(options);
        if (!settings) {
            return fail(why, settings.failure());
        }
        const auto found = find_devices(settings->roots);
        if (!found) {
            return fail(why, found.failure());
        }
        *count = found->size();
        for (size_t i = 0; i < std::min(capacity, found->size()); ++i) {
            copy_text(entries[i].address, (*found)[i].address);
            copy_text(entries[i].uio, (*found)[i].uio);
        }
        return VGPU_OK;
    });
}

int vgpu_open(const vgpu_options* options, vgpu_device** device, vgpu_failure* why) {
    if (device == nullptr) {
        return bad_argument(why, "vgpu_open: device is null");
    }
    *device = nullptr;
    return guarded(why, [&]() -> int {
        const auto settings = settings_of(options);
        if (!settings) {
            return fail(why, settings.failure());
        }
        auto opened = open_device(*settings);
        if (!opened) {
            return fail(why, opened.failure());
        }
        *device = opened->release();
        return VGPU_OK;
    });
}

void vgpu_close(vgpu_device* device) {
    delete device;
}

int vgpu_get_properties(vgpu_device* device, vgpu_properties* properties, vgpu_failure* why) {
    if (device == nullptr || properties == nullptr || device->transport->registers() == nullptr) {
        return bad_argument(why, "vgpu_get_properties: a pointer is null");
    }
    RegisterWindow& window = *device->transport->registers();
    *properties = {};
    copy_text(properties->address, device->address);
    properties->pool = static_cast<char>(window.read32(VGPU_REG_POOL_ID) & 0x7F);
    properties->priority = window.read32(VGPU_REG_PRIORITY);
    properties->vm_id = window.read32(VGPU_REG_VM_ID);
    properties->protocol_version = window.read32(VGPU_REG_PROTOCOL_VER);
    properties->capabilities = window.read32(VGPU_REG_CAPABILITIES);
    properties->has_interrupt = device->transport->has_interrupt() ? 1 : 0;
    return VGPU_OK;
}

int vgpu_call(vgpu_device* device, const vgpu_command* command, uint32_t timeout_ms,
              vgpu_reply* reply, vgpu_failure* why) {
    if (device == nullptr || command == nullptr) {
        return bad_argument(why, "vgpu_call: a pointer is null");
    }
    return guarded(why, [&]() -> int {
        const auto bytes = encode_request(*command);
        if (!bytes) {
            return fail(why, bytes.failure());
        }
        const Nanoseconds deadline = deadline_after(device->transport->clock(), timeout_ms);
        std::uint32_t id = 0;
        int code = submit_bytes(device, *bytes, &id, why);
        if (code == VGPU_E_BUSY) {
            const auto drained = device->transport->drain(deadline);
            if (!drained) {
                return fail(why, drained.failure());
            }
            code = submit_bytes(device, *bytes, &id, why);
        }
        return code != VGPU_OK ? code : wait_until(device, deadline, id, reply, why);
    });
}

int vgpu_submit(vgpu_device* device, const vgpu_command* command, uint32_t* request_id,
                vgpu_failure* why) {
    if (device == nullptr || command == nullptr) {
        return bad_argument(why, "vgpu_submit: a pointer is null");
    }
    return guarded(why, [&]() -> int {
        const auto bytes = encode_request(*command);
        return bytes ? submit_bytes(device, *bytes, request_id, why) : fail(why, bytes.failure());
    });
}

int vgpu_submit_bytes(vgpu_device* device, const void* bytes, size_t length, uint32_t* request_id,
                      vgpu_failure* why) {
    if (device == nullptr || bytes == nullptr) {
        return bad_argument(why, "vgpu_submit_bytes: a pointer is null");
    }
    return guarded(why, [&] {
        return submit_bytes(device, {static_cast<const std::byte*>(bytes), length}, request_id,
                            why);
    });
}

int vgpu_wait(vgpu_device* device, uint32_t timeout_ms, vgpu_reply* reply, vgpu_failure* why) {
    if (device == nullptr) {
        return bad_argument(why, "vgpu_wait: device is null");
    }
    return guarded(why, [&] {
        return wait_until(device, deadline_after(device->transport->clock(), timeout_ms),
                          device->transport->last_request_id(), reply, why);
    });
}

int vgpu_drain(vgpu_device* device, uint32_t timeout_ms, vgpu_failure* why) {
    if (device == nullptr) {
        return bad_argument(why, "vgpu_drain: device is null");
    }
    return guarded(why, [&]() -> int {
        const auto drained =
            device->transport->drain(deadline_after(device->transport->clock(), timeout_ms));
        return drained ? int{VGPU_OK} : fail(why, drained.failure());
    });
}

int vgpu_wait_interrupt(vgpu_device* device, uint32_t timeout_ms, vgpu_failure* why) {
    if (device == nullptr) {
        return bad_argument(why, "vgpu_wait_interrupt: device is null");
    }
    return guarded(why, [&]() -> int {
        const auto woken = device->transport->wait_interrupt(
            deadline_after(device->transport->clock(), timeout_ms));
        return woken ? int{VGPU_OK} : fail(why, woken.failure());
    });
}

int vgpu_nop(vgpu_device* device, uint32_t timeout_ms, vgpu_failure* why) {
    const vgpu_command command{VGPU_OP_NOP, 0, nullptr, 0, nullptr, 0};
    return vgpu_call(device, &command, timeout_ms, nullptr, why);
}

int vgpu_add(vgpu_device* device, uint32_t a, uint32_t b, uint32_t timeout_ms, uint32_t* sum,
             vgpu_failure* why) {
    if (sum == nullptr) {
        return bad_argument(why, "vgpu_add: sum is null");
    }
    const std::uint32_t params[] = {a, b};
    const vgpu_command command{VGPU_OP_CUDA_KERNEL, 0, params, 2, nullptr, 0};
    vgpu_reply reply;
    const int code = vgpu_call(device, &command, timeout_ms, &reply, why);
    if (code != VGPU_OK) {
        return code;
    }
    if (reply.result_count < 1) {
        return fail(why, {VGPU_E_BAD_RESPONSE,
                          "the answer to an addition holds no result: the mediator is faulty", 0});
    }
    *sum = reply.results[0];
    return VGPU_OK;
}

int vgpu_device_info(vgpu_device* device, uint32_t timeout_ms, vgpu_gpu_info* info,
                     vgpu_failure* why) {
    if (info == nullptr) {
        return bad_argument(why, "vgpu_device_info: info is null");
    }
    const vgpu_command command{VGPU_OP_GET_DEVICE_INFO, 0, nullptr, 0, nullptr, 0};
    vgpu_reply reply;
    const int code = vgpu_call(device, &command, timeout_ms, &reply, why);
    if (code != VGPU_OK) {
        return code;
    }
    if (reply.result_count < VGPU_INFO_RESULT_COUNT) {
        return fail(why, {VGPU_E_BAD_RESPONSE,
                          "the answer about the GPU is too short: update the mediator", 0});
    }
    const auto wide = [&reply](int low, int high) {
        return static_cast<std::uint64_t>(reply.results[high]) << 32 | reply.results[low];
    };
    *info = {};
    info->backend = reply.results[VGPU_INFO_BACKEND];
    info->compute_capability = reply.results[VGPU_INFO_COMPUTE_CAPABILITY];
    info->multiprocessors = reply.results[VGPU_INFO_MULTIPROCESSORS];
    info->driver_version = reply.results[VGPU_INFO_DRIVER_VERSION];
    info->memory_total = wide(VGPU_INFO_MEMORY_TOTAL_LO, VGPU_INFO_MEMORY_TOTAL_HI);
    info->memory_free = wide(VGPU_INFO_MEMORY_FREE_LO, VGPU_INFO_MEMORY_FREE_HI);
    copy_text(info->name, {reinterpret_cast<const char*>(reply.data), reply.data_length});
    return VGPU_OK;
}

uint64_t vgpu_timestamp(vgpu_device* device) {
    return device == nullptr ? 0 : device->transport->timestamp();
}

uint64_t vgpu_interrupt_count(const vgpu_device* device) {
    return device == nullptr ? 0 : device->transport->interrupt_count();
}

int vgpu_mmio_read(vgpu_device* device, uint32_t offset, uint32_t width, uint64_t* value,
                   vgpu_failure* why) {
    RegisterWindow* const window = window_for(device, offset, width, why);
    if (window == nullptr || value == nullptr) {
        return window == nullptr ? int{VGPU_E_ARGUMENT} : bad_argument(why, "value is null");
    }
    *value = window->read(offset, width);
    return VGPU_OK;
}

int vgpu_mmio_write(vgpu_device* device, uint32_t offset, uint32_t width, uint64_t value,
                    vgpu_failure* why) {
    RegisterWindow* const window = window_for(device, offset, width, why);
    if (window == nullptr) {
        return VGPU_E_ARGUMENT;
    }
    window->write(offset, width, value);
    return VGPU_OK;
}
