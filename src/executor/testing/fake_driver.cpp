// SPDX-License-Identifier: MIT
//
// Handles and device addresses are integers to the driver API and pointers here.
// NOLINTBEGIN(performance-no-int-to-ptr)
#include "executor/testing/fake_driver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "executor/testing/fake_kernels.h"

namespace vgpu::cuda {
namespace {

FakeDriver* fake = nullptr;

template <typename Handle>
Status make_handle(Handle* handle) {
    if (const Status status = fake->sticky) {
        return status;
    }
    ++fake->live_;
    *handle = reinterpret_cast<Handle>(std::uintptr_t{0x1000});
    return kSuccess;
}

Status drop_handle() {
    --fake->live_;
    return kSuccess;
}

template <typename T>
T* pointer(DeviceAddress address) {
    return reinterpret_cast<T*>(address);
}

template <typename Word>
Status write_word(Stream stream, DeviceAddress address, Word value) {
    if (const Status status = std::exchange(fake->next_word, kSuccess)) {
        return status;
    }
    if (fake->words_arrive) {
        fake->enqueue(stream, [address, value] { *pointer<Word>(address) = value; });
    }
    return fake->sticky.load();
}

// Pools: memory is freed immediately, without waiting for work in other streams.
void add_pools(Api& api) {
    api.pool_create = [](Pool* pool, const PoolProperties* properties) -> Status {
        EXPECT_EQ(properties->allocation_type, 1);
        return make_handle(pool);
    };
    api.pool_destroy = [](Pool) { return drop_handle(); };
    api.pool_set_attribute = [](Pool, int, void*) { return kSuccess; };
    api.pool_get_attribute = [](Pool, int, void* value) {
        return *static_cast<std::uint64_t*>(value) = 0, kSuccess;
    };
    api.pool_trim = [](Pool, std::size_t) { return kSuccess; };
    api.mem_alloc_from_pool = [](DeviceAddress* address, std::size_t bytes, Pool,
                                 Stream) -> Status { return fake->allocate(bytes, *address); };
    api.mem_free_async = [](DeviceAddress address, Stream) {
        return fake->release(address, false);
    };
    api.stream_synchronize = [](Stream stream) {
        EXPECT_EQ(fake->query(stream), kSuccess) << "this waits";
        return fake->sticky.load();
    };
}

}  // namespace

Status FakeDriver::allocate(std::size_t bytes, DeviceAddress& address) {
    if (sticky != kSuccess) {
        return sticky;
    }
    if (bytes > memory_left) {
        return kOutOfMemory;
    }
    memory_left -= bytes;
    ++live_;
    auto& block = blocks_.emplace_back(bytes, std::byte{0xCD});  // not zeroed
    address = reinterpret_cast<DeviceAddress>(block.data());
    return kSuccess;
}

Status FakeDriver::release(DeviceAddress address, bool waits) {
    if (sticky != kSuccess) {
        return sticky;
    }
    const auto found = std::find_if(blocks_.begin(), blocks_.end(), [&](const auto& block) {
        return reinterpret_cast<DeviceAddress>(block.data()) == address;
    });
    EXPECT_NE(found, blocks_.end()) << "freed what is not allocated";
    if (found != blocks_.end()) {
        if (waits) {
            run_streams();
        }
        memory_left += found->size();
        --live_;
        blocks_.erase(found);
    }
    return kSuccess;
}

void FakeDriver::release_host(void* address) {
    EXPECT_EQ(host_blocks_.erase(address), 1U) << "freed what is not allocated";
    std::free(address);
}

FakeDriver::FakeDriver() {
    EXPECT_EQ(fake, nullptr);
    fake = this;
}

FakeDriver::~FakeDriver() {
    if (sticky == kSuccess) {
        EXPECT_EQ(live_, 0) << "driver objects left";
        EXPECT_EQ(retained, 0) << "primary context still retained";
    }
    while (!host_blocks_.empty()) {
        release_host(*host_blocks_.begin());
    }
    fake = nullptr;
}

void FakeDriver::enqueue(Stream stream, std::function<void()> item, std::shared_ptr<bool> needs) {
    if (hold_streams) {
        work.push_back({stream, std::move(item), std::move(needs)});
    } else {
        item();
    }
}

void FakeDriver::run_some(std::size_t count) {
    for (; count > 0 && !work.empty(); --count) {
        const Item item = std::move(work.front());
        work.pop_front();
        item.run();
    }
}

bool FakeDriver::run_one(bool of_youngest) {
    std::stable_sort(work.begin(), work.end(), [of_youngest](const Item& one, const Item& other) {
        return of_youngest ? one.stream > other.stream : one.stream < other.stream;
    });
    // The first item that is the next of its stream and is not blocked.
    std::set<Stream> stuck;
    const auto next = std::find_if(work.begin(), work.end(), [&](const Item& item) {
        const bool blocked = item.needs && !*item.needs;
        if (blocked) {
            stuck.insert(item.stream);
        }
        return !blocked && !stuck.contains(item.stream);
    });
    if (next == work.end()) {
        return false;
    }
    const Item item = std::move(*next);
    work.erase(next);
    item.run();
    return true;
}

void FakeDriver::run_streams() {
    while (run_one(true)) {
    }
    EXPECT_TRUE(work.empty()) << "the streams wait for each other";
}

Status FakeDriver::query(Stream stream) const {
    if (sticky != kSuccess) {
        return sticky;
    }
    return std::any_of(work.begin(), work.end(),
                       [stream](const Item& item) { return item.stream == stream; })
               ? kNotReady
               : kSuccess;
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
        if (attribute == kAttributeMemoryPools) {
            *value = fake->has_pools ? 1 : 0;
        }
        return kSuccess;
    };
    api.device_total_mem = [](std::size_t* bytes, Device) {
        return *bytes = std::size_t{5} << 32U, kSuccess;
    };
    api.primary_context_retain = [](Context* context, Device) -> Status {
        if (const Status status = fake->sticky) {
            return status;
        }
        ++fake->retained;
        *context = reinterpret_cast<Context>(std::uintptr_t{0x2000});
        return kSuccess;
    };
    api.primary_context_release = [](Device) { return --fake->retained, kSuccess; };
    api.context_set_current = [](Context) { return kSuccess; };
    api.mem_get_info = [](std::size_t* free, std::size_t* total) {
        *free = std::size_t{3} << 32U;
        *total = std::size_t{5} << 32U;
        const Status status = std::exchange(fake->next_mem_info, kSuccess);
        return status != kSuccess ? status : fake->sticky.load();
    };
    api.mem_alloc = [](DeviceAddress* address, std::size_t bytes) -> Status {
        return fake->allocate(bytes, *address);
    };
    api.mem_free = [](DeviceAddress address) { return fake->release(address, true); };
    if (fake->has_pools) {
        add_pools(api);
    }
    api.memset_d8_async = [](DeviceAddress to, unsigned char value, std::size_t bytes,
                             Stream stream) {
        fake->enqueue(stream, [=] { std::memset(pointer<void>(to), value, bytes); });
        const Status status = std::exchange(fake->next_memset, kSuccess);
        return status != kSuccess ? status : fake->sticky.load();
    };
    api.memcpy_htod_async = [](DeviceAddress to, const void* from, std::size_t bytes,
                               Stream stream) {
        fake->enqueue(stream, [=] { std::memcpy(pointer<void>(to), from, bytes); });
        return fake->sticky.load();
    };
    api.memcpy_dtoh_async = [](void* to, DeviceAddress from, std::size_t bytes, Stream stream) {
        fake->enqueue(stream, [=] { std::memcpy(to, pointer<void>(from), bytes); });
        return fake->sticky.load();
    };
    api.memcpy_dtod_async = [](DeviceAddress to, DeviceAddress from, std::size_t bytes,
                               Stream stream) {
        // As with the real driver, overlapping copies are undefined.
        EXPECT_TRUE(to >= from + bytes || from >= to + bytes || to == from);
        fake->enqueue(stream, [=] { std::memmove(pointer<void>(to), pointer<void>(from), bytes); });
        return fake->sticky.load();
    };
    api.mem_host_alloc = [](void** address, std::size_t bytes, unsigned) -> Status {
        if (const Status status = fake->sticky) {
            return status;
        }
        ++fake->live_;
        *address = std::aligned_alloc(64, bytes);
        fake->host_blocks_.insert(*address);
        return kSuccess;
    };
    api.mem_host_get_device_pointer = [](DeviceAddress* device, void* host, unsigned) {
        return *device = reinterpret_cast<DeviceAddress>(host), kSuccess;
    };
    api.mem_free_host = [](void* address) {
        // Work that still refers to the memory would fault on a GPU; here it is dropped.
        fake->work.clear();
        fake->release_host(address);
        return drop_handle();
    };
    api.module_load_data_ex = [](Module* module, const void* image, unsigned, int*, void**) {
        fake->image_ = static_cast<const char*>(image);
        return make_handle(module);
    };
    api.module_unload = [](Module) { return drop_handle(); };
    api.module_get_function = [](Function* function, Module, const char* name) {
        const std::string entry = std::string(".entry ") + name + "(";
        EXPECT_NE(fake->image_.find(entry), std::string::npos) << name;
        *function = reinterpret_cast<Function>(const_cast<FakeKernel*>(find_kernel(name)));
        return kSuccess;
    };
    api.stream_create = [](Stream* stream, unsigned) -> Status {
        const Status status = make_handle(stream);
        *stream = reinterpret_cast<Stream>(fake->next_stream_ += 0x10);
        return status;
    };
    api.stream_destroy = [](Stream) { return drop_handle(); };
    api.stream_query = [](Stream stream) { return fake->query(stream); };
    api.event_create = [](Event* event, unsigned flags) -> Status {
        EXPECT_EQ(flags, kEventDisableTiming);
        const Status status = make_handle(event);
        *event = reinterpret_cast<Event>(fake->next_event_ += 0x10);
        return status;
    };
    api.event_destroy = [](Event event) { return fake->events_.erase(event), drop_handle(); };
    api.event_record = [](Event event, Stream stream) {
        const auto reached = std::make_shared<bool>(false);
        fake->events_[event] = reached;
        fake->enqueue(stream, [reached] { *reached = true; });
        return fake->sticky.load();
    };
    api.stream_wait_event = [](Stream stream, Event event, unsigned) {
        fake->enqueue(
            stream, [] {}, fake->events_[event]);
        return fake->sticky.load();
    };
    api.launch_kernel = [](Function function, unsigned, unsigned, unsigned, unsigned, unsigned,
                           unsigned, unsigned, Stream stream, void** params, void**) -> Status {
        if (const Status status = std::exchange(fake->next_launch, kSuccess)) {
            return status;
        }
        if (const Status status = fake->sticky) {
            return status;
        }
        fake->enqueue(stream, reinterpret_cast<const FakeKernel*>(function)->bind(params));
        return kSuccess;
    };
    api.mem_host_register = [](void* address, std::size_t bytes, unsigned flags) -> Status {
        EXPECT_EQ(flags, kHostRegisterPortable | kHostRegisterDeviceMap);
        if (const Status status = std::exchange(fake->next_register, kSuccess)) {
            return status;
        }
        if (const Status status = fake->sticky) {
            return status;
        }
        ++fake->live_;
        EXPECT_TRUE(fake->registered_.emplace(static_cast<std::byte*>(address), bytes).second);
        return kSuccess;
    };
    api.mem_host_unregister = [](void* address) -> Status {
        if (const Status status = fake->sticky) {
            return status;
        }
        EXPECT_EQ(fake->registered_.erase(static_cast<std::byte*>(address)), 1U);
        EXPECT_TRUE(fake->work.empty()) << "work may still use the memory";
        return drop_handle();
    };
    if (can_write_words) {
        api.stream_write_value32 = [](Stream stream, DeviceAddress address, std::uint32_t value,
                                      unsigned) { return write_word(stream, address, value); };
        api.stream_batch_mem_op = [](Stream stream, unsigned count, MemoryOperation* operations,
                                     unsigned) {
            Status status = kSuccess;
            for (unsigned i = 0; i < count && status == kSuccess; ++i) {
                const MemoryOperation& one = operations[i];
                EXPECT_TRUE(one.operation == kWriteValue32 || one.operation == kWriteValue64);
                status =
                    one.operation == kWriteValue32
                        ? write_word(stream, one.address, static_cast<std::uint32_t>(one.value))
                        : write_word(stream, one.address, one.value);
            }
            return status;
        };
    }
    return api;
}

}  // namespace vgpu::cuda
// NOLINTEND(performance-no-int-to-ptr)
