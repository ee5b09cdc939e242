// SPDX-License-Identifier: MIT
#include "executor/cuda/cuda_api.h"

#include <dlfcn.h>

namespace vgpu::cuda {
namespace {

template <typename Pointer>
bool find(void* library, const char* name, Pointer& to) {
    to = reinterpret_cast<Pointer>(::dlsym(library, name));
    return to != nullptr;
}

}  // namespace

Result<Api> Api::load() {
    void* const library = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        const char* const reason = ::dlerror();
        return Error{std::string("the CUDA driver library cannot be loaded: ") +
                     (reason != nullptr ? reason : "libcuda.so.1 not found")};
    }
    Api api{};
    std::string missing;
    const auto need = [&](const char* name, auto& to) {
        if (!find(library, name, to)) {
            missing += missing.empty() ? name : std::string(", ") + name;
        }
    };
    need("cuInit", api.init);
    need("cuDriverGetVersion", api.driver_get_version);
    need("cuGetErrorName", api.get_error_name);
    need("cuGetErrorString", api.get_error_string);
    need("cuDeviceGetCount", api.device_get_count);
    need("cuDeviceGet", api.device_get);
    need("cuDeviceGetName", api.device_get_name);
    need("cuDeviceGetAttribute", api.device_get_attribute);
    need("cuDeviceTotalMem_v2", api.device_total_mem);
    need("cuDevicePrimaryCtxRetain", api.primary_context_retain);
    need("cuDevicePrimaryCtxRelease_v2", api.primary_context_release);
    need("cuCtxSetCurrent", api.context_set_current);
    need("cuMemGetInfo_v2", api.mem_get_info);
    need("cuMemAlloc_v2", api.mem_alloc);
    need("cuMemFree_v2", api.mem_free);
    need("cuMemsetD8Async", api.memset_d8_async);
    need("cuMemcpyHtoDAsync_v2", api.memcpy_htod_async);
    need("cuMemcpyDtoHAsync_v2", api.memcpy_dtoh_async);
    need("cuMemcpyDtoDAsync_v2", api.memcpy_dtod_async);
    need("cuMemHostAlloc", api.mem_host_alloc);
    need("cuMemHostGetDevicePointer_v2", api.mem_host_get_device_pointer);
    need("cuMemFreeHost", api.mem_free_host);
    need("cuMemHostRegister_v2", api.mem_host_register);
    need("cuMemHostUnregister", api.mem_host_unregister);
    need("cuModuleLoadDataEx", api.module_load_data_ex);
    need("cuModuleUnload", api.module_unload);
    need("cuModuleGetFunction", api.module_get_function);
    need("cuStreamCreate", api.stream_create);
    need("cuStreamDestroy_v2", api.stream_destroy);
    need("cuStreamQuery", api.stream_query);
    need("cuEventCreate", api.event_create);
    need("cuEventDestroy_v2", api.event_destroy);
    need("cuEventRecord", api.event_record);
    need("cuStreamWaitEvent", api.stream_wait_event);
    need("cuLaunchKernel", api.launch_kernel);
    find(library, "cuMemPoolCreate", api.pool_create);
    find(library, "cuMemPoolDestroy", api.pool_destroy);
    find(library, "cuMemPoolSetAttribute", api.pool_set_attribute);
    find(library, "cuMemPoolGetAttribute", api.pool_get_attribute);
    find(library, "cuMemPoolTrimTo", api.pool_trim);
    find(library, "cuMemAllocFromPoolAsync", api.mem_alloc_from_pool);
    find(library, "cuMemFreeAsync", api.mem_free_async);
    find(library, "cuStreamSynchronize", api.stream_synchronize);
    find(library, "cuStreamWriteValue32_v2", api.stream_write_value32);
    find(library, "cuStreamBatchMemOp_v2", api.stream_batch_mem_op);
    if (!missing.empty()) {
        ::dlclose(library);
        return Error{"the CUDA driver library lacks " + missing + ": update the driver"};
    }
    return api;
}

Status Api::put_behind(Stream later, Stream earlier, Event event) const {
    const Status status = event_record(event, earlier);
    return status == kSuccess ? stream_wait_event(later, event, 0) : status;
}

std::string Api::describe(Status status) const {
    const char* name = nullptr;
    const char* text = nullptr;
    if (get_error_name(status, &name) != kSuccess || name == nullptr) {
        return "CUDA error " + std::to_string(status);
    }
    if (get_error_string(status, &text) != kSuccess || text == nullptr) {
        return name;
    }
    return std::string(name) + " (" + text + ")";
}

}  // namespace vgpu::cuda
