// SPDX-License-Identifier: MIT
//
// The subset of the CUDA driver API used here, as a table of functions loaded from libcuda.so.1 at
// run time. Declared by hand, so building needs no CUDA toolkit and running needs no GPU. Where the
// API has versions of a function (…_v2), this declares the version named in load().
//
// A table, unlike linked functions, also allows a test to replace the driver.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/result.h"

namespace vgpu::cuda {

using Status = int;  // CUresult
using Device = int;
using DeviceAddress = std::uint64_t;  // CUdeviceptr
using Context = struct ContextTag*;
using Module = struct ModuleTag*;
using Function = struct FunctionTag*;
using Stream = struct StreamTag*;
using Event = struct EventTag*;
using Pool = struct PoolTag*;

inline constexpr Status kSuccess = 0;
inline constexpr Status kOutOfMemory = 2;
inline constexpr Status kNotReady = 600;

inline constexpr int kAttributeMultiprocessorCount = 16;
inline constexpr int kAttributeComputeCapabilityMajor = 75;
inline constexpr int kAttributeComputeCapabilityMinor = 76;
inline constexpr int kAttributeMemoryPools = 115;
inline constexpr unsigned kStreamNonBlocking = 1;
inline constexpr unsigned kEventDisableTiming = 2;
inline constexpr unsigned kHostAllocPortable = 1;
inline constexpr unsigned kHostAllocDeviceMap = 2;
inline constexpr unsigned kHostRegisterPortable = 1;
inline constexpr unsigned kHostRegisterDeviceMap = 2;
inline constexpr int kJitErrorLogBuffer = 5;
inline constexpr int kJitErrorLogBufferSize = 6;

// CUstreamBatchMemOpParams, reduced to writing a value to memory.
struct MemoryOperation {
    std::uint32_t operation = 0;
    DeviceAddress address = 0;
    std::uint64_t value = 0;  // 32-bit values in the low half
    std::uint32_t flags = 0;
    DeviceAddress alias = 0;  // internal to the driver
    std::uint64_t pad = 0;
};
static_assert(sizeof(MemoryOperation) == 48, "as the driver has it");
inline constexpr std::uint32_t kWriteValue32 = 2;
inline constexpr std::uint32_t kWriteValue64 = 5;

// CUmemPoolProps: a pool of device memory, private to this process.
struct PoolProperties {
    int allocation_type = 1;  // pinned, the only one
    int handle_types = 0;     // cannot be exported
    int location_type = 1;    // a device
    int device = 0;
    void* security = nullptr;
    std::size_t most = 0;  // no limit
    std::array<unsigned char, 56> reserved{};
};
static_assert(sizeof(PoolProperties) == 88, "as the driver has it");
// Attributes of a pool, 64 bits each.
inline constexpr int kPoolReleaseThreshold = 4;
inline constexpr int kPoolReserved = 5;  // bytes reserved from the device
inline constexpr int kPoolUsed = 7;      // bytes of these that are allocated

struct Api {
    // Loads libcuda.so.1 and all functions. The library stays loaded until the process ends,
    // because the driver's own threads run its code.
    static Result<Api> load();

    // Returns "CUDA_ERROR_X (description)", or the number if the driver does not know it.
    [[nodiscard]] std::string describe(Status status) const;

    // Makes future work in `later` wait for the work submitted to `earlier`. Uses `event`.
    Status put_behind(Stream later, Stream earlier, Event event) const;

    Status (*init)(unsigned flags);
    Status (*driver_get_version)(int* version);
    Status (*get_error_name)(Status status, const char** text);
    Status (*get_error_string)(Status status, const char** text);
    Status (*device_get_count)(int* count);
    Status (*device_get)(Device* device, int ordinal);
    Status (*device_get_name)(char* name, int size, Device device);
    Status (*device_get_attribute)(int* value, int attribute, Device device);
    Status (*device_total_mem)(std::size_t* bytes, Device device);
    Status (*primary_context_retain)(Context* context, Device device);
    Status (*primary_context_release)(Device device);
    Status (*context_set_current)(Context context);
    Status (*mem_get_info)(std::size_t* free, std::size_t* total);
    Status (*mem_alloc)(DeviceAddress* address, std::size_t bytes);
    Status (*mem_free)(DeviceAddress address);
    Status (*memset_d8_async)(DeviceAddress to, unsigned char value, std::size_t bytes,
                              Stream stream);
    Status (*memcpy_htod_async)(DeviceAddress to, const void* from, std::size_t bytes,
                                Stream stream);
    Status (*memcpy_dtoh_async)(void* to, DeviceAddress from, std::size_t bytes, Stream stream);
    Status (*memcpy_dtod_async)(DeviceAddress to, DeviceAddress from, std::size_t bytes,
                                Stream stream);
    Status (*mem_host_alloc)(void** address, std::size_t bytes, unsigned flags);
    Status (*mem_host_get_device_pointer)(DeviceAddress* device, void* host, unsigned flags);
    Status (*mem_free_host)(void* address);
    Status (*mem_host_register)(void* address, std::size_t bytes, unsigned flags);
    Status (*mem_host_unregister)(void* address);
    Status (*module_load_data_ex)(Module* module, const void* image, unsigned option_count,
                                  int* options, void** option_values);
    Status (*module_unload)(Module module);
    Status (*module_get_function)(Function* function, Module module, const char* name);
    Status (*stream_create)(Stream* stream, unsigned flags);
    Status (*stream_destroy)(Stream stream);
    Status (*stream_query)(Stream stream);
    // Recording an event again does not affect earlier waits: they refer to the earlier record.
    Status (*event_create)(Event* event, unsigned flags);
    Status (*event_destroy)(Event event);
    Status (*event_record)(Event event, Stream stream);
    Status (*stream_wait_event)(Stream stream, Event event, unsigned flags);
    Status (*launch_kernel)(Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                            unsigned block_x, unsigned block_y, unsigned block_z,
                            unsigned shared_bytes, Stream stream, void** params, void** extra);
    // Memory pools, which free memory without waiting for the device. Null if the driver is older
    // than 11.2: mem_free() is then used instead.
    Status (*pool_create)(Pool* pool, const PoolProperties* properties);
    Status (*pool_destroy)(Pool pool);
    Status (*pool_set_attribute)(Pool pool, int attribute, void* value);
    Status (*pool_get_attribute)(Pool pool, int attribute, void* value);
    // Returns unused memory beyond `keep` bytes from the pool to the device.
    Status (*pool_trim)(Pool pool, std::size_t keep);
    Status (*mem_alloc_from_pool)(DeviceAddress* address, std::size_t bytes, Pool pool,
                                  Stream stream);
    Status (*mem_free_async)(DeviceAddress address, Stream stream);
    Status (*stream_synchronize)(Stream stream);
    // Both are null if the driver is older than 11.7: a kernel is then used instead.
    Status (*stream_write_value32)(Stream stream, DeviceAddress address, std::uint32_t value,
                                   unsigned flags);
    // Several operations in one command, in order.
    Status (*stream_batch_mem_op)(Stream stream, unsigned count, MemoryOperation* operations,
                                  unsigned flags);
};

}  // namespace vgpu::cuda
