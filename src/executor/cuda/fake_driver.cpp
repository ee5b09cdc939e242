// SPDX-License-Identifier: MIT
//
// Handles and device addresses are integers to the driver API and pointers here.
// NOLINTBEGIN(performance-no-int-to-ptr)
#include "executor/cuda/fake_driver.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <utility>

namespace vgpu::cuda {
namespace {

FakeDriver* fake = nullptr;

template <typename Handle>
Status make_handle(Handle* handle) {
    ++fake->live_;
    *handle = reinterpret_cast<Handle>(std::uintptr_t{0x1000});
    return kSuccess;
}

Status drop_handle() {
    --fake->live_;
    return kSuccess;
}

}  // namespace

FakeDriver::FakeDriver() {
    EXPECT_EQ(fake, nullptr);
    fake = this;
}

FakeDriver::~FakeDriver() {
    EXPECT_EQ(live_, 0) << "driver objects left";
    EXPECT_EQ(retained, 0) << "primary context still retained";
    fake = nullptr;
}

void FakeDriver::enqueue(std::function<void()> item) {
    if (hold_streams) {
        work.push_back(std::move(item));
    } else {
        item();
    }
}

void FakeDriver::run_streams() {
    for (const auto& item : std::exchange(work, {})) {
        item();
    }
}

Api FakeDriver::api() const {
    Api api{};
    api.init = [](unsigned) { return fake->init_status; };
    api.driver_get_version = [](int* version) { return *version = 13000, kSuccess; };
    api.get_error_name = [](Status, const char** text) { return *text = "FAKE_ERROR", kSuccess; };
    api.get_error_string = [](Status, const char** text) {
        return *text = "made to fail", kSuccess;
    };
    api.device_get_count = [](int* count) { return *count = fake->device_count, kSuccess; };
    api.device_get = [](Device* device, int ordinal) { return *device = ordinal, kSuccess; };
    api.device_get_name = [](char* name, int size, Device) {
        std::strncpy(name, "Fake GPU", static_cast<std::size_t>(size));
        return kSuccess;
    };
    api.device_get_attribute = [](int* value, int attribute, Device) {
        *value = attribute == kAttributeMultiprocessorCount ? 132 : 9;
        return kSuccess;
    };
    api.device_total_mem = [](std::size_t* bytes, Device) {
        return *bytes = std::size_t{5} << 32U, kSuccess;
    };
    api.primary_context_retain = [](Context* context, Device) -> Status {
        if (const Status status = std::exchange(fake->next_retain, kSuccess)) {
            return status;
        }
        ++fake->retained;
        *context = reinterpret_cast<Context>(std::uintptr_t{0x2000});
        return kSuccess;
    };
    api.primary_context_release = [](Device) { return --fake->retained, kSuccess; };
    api.primary_context_reset = [](Device) {
        ++fake->resets;
        fake->sticky = kSuccess;
        fake->work.clear();
        return kSuccess;
    };
    api.context_set_current = [](Context) { return kSuccess; };
    api.mem_get_info = [](std::size_t* free, std::size_t* total) {
        *free = std::size_t{3} << 32U;
        *total = std::size_t{5} << 32U;
        return std::exchange(fake->next_mem_info, kSuccess);
    };
    api.mem_host_alloc = [](void** address, std::size_t bytes, unsigned) {
        ++fake->live_;
        *address = std::aligned_alloc(64, bytes);
        return kSuccess;
    };
    api.mem_host_get_device_pointer = [](DeviceAddress* device, void* host, unsigned) {
        return *device = reinterpret_cast<DeviceAddress>(host), kSuccess;
    };
    api.mem_free_host = [](void* address) {
        // Work that still refers to it would be a fault on a GPU; here it is forgotten.
        fake->work.clear();
        std::free(address);
        return drop_handle();
    };
    api.module_load_data_ex = [](Module* module, const void* image, unsigned, int*, void**) {
        EXPECT_NE(std::strstr(static_cast<const char*>(image), ".entry vgpu_add_u32"), nullptr);
        return make_handle(module);
    };
    api.module_unload = [](Module) { return drop_handle(); };
    api.module_get_function = [](Function* function, Module, const char* name) {
        EXPECT_STREQ(name, "vgpu_add_u32");
        *function = reinterpret_cast<Function>(std::uintptr_t{0x3000});
        return kSuccess;
    };
    api.stream_create = [](Stream* stream, unsigned) { return make_handle(stream); };
    api.stream_destroy = [](Stream) { return drop_handle(); };
    api.stream_query = [](Stream) -> Status {
        if (fake->sticky != kSuccess) {
            return fake->sticky;
        }
        return fake->work.empty() ? kSuccess : kNotReady;
    };
    api.launch_kernel = [](Function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                           unsigned, Stream, void** params, void**) -> Status {
        if (const Status status = std::exchange(fake->next_launch, kSuccess)) {
            return status;
        }
        const auto sum =
            *static_cast<std::uint32_t*>(params[0]) + *static_cast<std::uint32_t*>(params[1]);
        auto* const to = reinterpret_cast<std::uint32_t*>(*static_cast<DeviceAddress*>(params[2]));
        fake->enqueue([to, sum] { *to = sum; });
        return kSuccess;
    };
    api.event_create = [](Event* event, unsigned) { return make_handle(event); };
    api.event_record = [](Event, Stream) { return kSuccess; };
    api.event_query = [](Event) -> Status {
        if (fake->sticky != kSuccess) {
            return fake->sticky;
        }
        return fake->work.empty() ? kSuccess : kNotReady;
    };
    api.event_destroy = [](Event) { return drop_handle(); };
    if (can_write_words) {
        api.stream_write_value32 = [](Stream, DeviceAddress address, std::uint32_t value,
                                      unsigned) {
            if (fake->words_arrive) {
                fake->enqueue(
                    [address, value] { *reinterpret_cast<std::uint32_t*>(address) = value; });
            }
            return kSuccess;
        };
    }
    return api;
}

}  // namespace vgpu::cuda
// NOLINTEND(performance-no-int-to-ptr)
