// SPDX-License-Identifier: MIT
//
// The C API: checks arguments, converts Outcomes to codes, and lets no exception escape.
#include "client/include/vgpu.h"

#include <algorithm>
#include <span>
#include <string>

#include "client/api/device.h"
#include "client/api/open.h"
#include "client/api/raw.h"
#include "client/core/api_support.h"
#include "client/core/response.h"
#include "client/pci/pci_sysfs.h"

namespace {

using namespace vgpu::client;  // NOLINT: this file implements the public API

// Runs `body`, which returns a code, with the device's transport.
template <typename Body>
int with_transport(vgpu_device* device, vgpu_failure* why, Body body) {
    return guarded(why, [&]() -> int {
        const auto transport = transport_of(*device);
        return transport ? body(**transport) : fail(why, transport.failure());
    });
}

int submit_bytes(Transport& transport, std::span<const std::byte> bytes, std::uint32_t* request_id,
                 vgpu_failure* why) {
    const auto id = transport.submit(bytes);
    if (!id) {
        return fail(why, id.failure());
    }
    if (request_id != nullptr) {
        *request_id = *id;
    }
    return VGPU_OK;
}

int wait_until(Transport& transport, Nanoseconds deadline, std::uint32_t request_id,
               vgpu_reply* reply, vgpu_failure* why) {
    const auto completion = transport.wait(deadline);
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

// Runs `access` on the registers. Rejects it if there are none, or if it is out of range.
template <typename Access>
int with_window(vgpu_device* device, std::uint32_t offset, std::uint32_t width, vgpu_failure* why,
                Access access) {
    const char* const outside = "the access is outside the device's registers";
    const bool width_ok = width == 1 || width == 2 || width == 4 || width == 8;
    if (device == nullptr || !width_ok || offset > VGPU_BAR0_SIZE - width) {
        return bad_argument(why, outside);
    }
    return with_transport(device, why, [&](Transport& transport) -> int {
        if (transport.registers() == nullptr) {
            return bad_argument(why, outside);
        }
        access(*transport.registers());
        return VGPU_OK;
    });
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
    if (device == nullptr || properties == nullptr) {
        return bad_argument(why, "vgpu_get_properties: a pointer is null");
    }
    *properties = {};
    copy_text(properties->address, device->address);
    const bool interrupt =
        device->transport ? device->transport->has_interrupt() : device->has_interrupt;
    properties->has_interrupt = interrupt ? 1 : 0;
    if (device->describe) {
        device->describe(*properties);
    } else if (device->transport && device->transport->registers() != nullptr) {
        describe_registers(*device->transport->registers(), *properties);
    }
    return VGPU_OK;
}

int vgpu_call(vgpu_device* device, const vgpu_command* command, uint32_t timeout_ms,
              vgpu_reply* reply, vgpu_failure* why) {
    if (device == nullptr || command == nullptr) {
        return bad_argument(why, "vgpu_call: a pointer is null");
    }
    return with_transport(device, why, [&](Transport& transport) -> int {
        const auto bytes = encode_request(*command);
        if (!bytes) {
            return fail(why, bytes.failure());
        }
        const Nanoseconds deadline = deadline_after(transport.clock(), timeout_ms);
        std::uint32_t id = 0;
        int code = submit_bytes(transport, *bytes, &id, why);
        if (code == VGPU_E_BUSY) {
            const auto drained = transport.drain(deadline);
            if (!drained) {
                return fail(why, drained.failure());
            }
            code = submit_bytes(transport, *bytes, &id, why);
        }
        return code != VGPU_OK ? code : wait_until(transport, deadline, id, reply, why);
    });
}

int vgpu_submit(vgpu_device* device, const vgpu_command* command, uint32_t* request_id,
                vgpu_failure* why) {
    if (device == nullptr || command == nullptr) {
        return bad_argument(why, "vgpu_submit: a pointer is null");
    }
    return with_transport(device, why, [&](Transport& transport) -> int {
        const auto bytes = encode_request(*command);
        return bytes ? submit_bytes(transport, *bytes, request_id, why)
                     : fail(why, bytes.failure());
    });
}

int vgpu_submit_bytes(vgpu_device* device, const void* bytes, size_t length, uint32_t* request_id,
                      vgpu_failure* why) {
    if (device == nullptr || bytes == nullptr) {
        return bad_argument(why, "vgpu_submit_bytes: a pointer is null");
    }
    return with_transport(device, why, [&](Transport& transport) {
        return submit_bytes(transport, {static_cast<const std::byte*>(bytes), length}, request_id,
                            why);
    });
}

int vgpu_wait(vgpu_device* device, uint32_t timeout_ms, vgpu_reply* reply, vgpu_failure* why) {
    if (device == nullptr) {
        return bad_argument(why, "vgpu_wait: device is null");
    }
    return with_transport(device, why, [&](Transport& transport) {
        return wait_until(transport, deadline_after(transport.clock(), timeout_ms),
                          transport.last_request_id(), reply, why);
    });
}

int vgpu_drain(vgpu_device* device, uint32_t timeout_ms, vgpu_failure* why) {
    if (device == nullptr) {
        return bad_argument(why, "vgpu_drain: device is null");
    }
    return with_transport(device, why, [&](Transport& transport) -> int {
        const auto drained = transport.drain(deadline_after(transport.clock(), timeout_ms));
        return drained ? int{VGPU_OK} : fail(why, drained.failure());
    });
}

int vgpu_wait_interrupt(vgpu_device* device, uint32_t timeout_ms, vgpu_failure* why) {
    if (device == nullptr) {
        return bad_argument(why, "vgpu_wait_interrupt: device is null");
    }
    return with_transport(device, why, [&](Transport& transport) -> int {
        const auto woken = transport.wait_interrupt(deadline_after(transport.clock(), timeout_ms));
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
    reply.result_count = reply.data_length = 0;
    const int code = vgpu_call(device, &command, timeout_ms, &reply, why);
    if (code != VGPU_OK) {
        return code;
    }
    if (reply.result_count < 1) {
        return fail(
            why,
            {VGPU_E_BAD_RESPONSE,
             "the response to an addition contains no result: this is a bug in the mediator", 0});
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
    reply.result_count = reply.data_length = 0;
    const int code = vgpu_call(device, &command, timeout_ms, &reply, why);
    if (code != VGPU_OK) {
        return code;
    }
    const auto decoded =
        decode_gpu_info({reply.results, reply.result_count}, {reply.data, reply.data_length});
    if (!decoded) {
        return fail(why, decoded.failure());
    }
    *info = *decoded;
    return VGPU_OK;
}

uint64_t vgpu_timestamp(vgpu_device* device) {
    return device == nullptr || device->transport == nullptr ? 0 : device->transport->timestamp();
}

uint64_t vgpu_interrupt_count(const vgpu_device* device) {
    return device == nullptr || device->transport == nullptr ? 0
                                                             : device->transport->interrupt_count();
}

int vgpu_mmio_read(vgpu_device* device, uint32_t offset, uint32_t width, uint64_t* value,
                   vgpu_failure* why) {
    if (value == nullptr) {
        return bad_argument(why, "vgpu_mmio_read: value is null");
    }
    return with_window(device, offset, width, why,
                       [&](RegisterWindow& window) { *value = window.read(offset, width); });
}

int vgpu_mmio_write(vgpu_device* device, uint32_t offset, uint32_t width, uint64_t value,
                    vgpu_failure* why) {
    return with_window(device, offset, width, why,
                       [&](RegisterWindow& window) { window.write(offset, width, value); });
}
