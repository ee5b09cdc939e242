// SPDX-License-Identifier: MIT
//
// Names and error texts of the codes. An error text states the cause and the remedy.
#include <algorithm>
#include <array>
#include <cstdint>

#include "client/include/vgpu.h"
#include "vgpu_names.h"

namespace {

struct Entry {
    int code;
    const char* name;  // null: vgpu_error_name()
    const char* text;
};

constexpr std::array kEntries = {
    Entry{VGPU_OK, nullptr, "no error"},
    Entry{VGPU_ERR_INVALID_REQUEST, nullptr,
          "the mediator rejected the request: one of its fields is invalid"},
    Entry{VGPU_ERR_REQUEST_TOO_LARGE, nullptr, "the request is longer than 1024 bytes: split it"},
    Entry{VGPU_ERR_MEDIATOR_UNAVAILABLE, nullptr,
          "the device has no connection to a mediator: vgpu-mediator is not running on the host, "
          "was stopped, or closed the connection (see its log). The device reconnects "
          "automatically: retry, or ask the host's operator"},
    Entry{VGPU_ERR_TIMEOUT, nullptr,
          "the mediator did not respond within the device's timeout: the GPU is overloaded or "
          "hung; retry, or ask the host's operator"},
    Entry{VGPU_ERR_CUDA, nullptr, "the GPU reported an error: retry, or ask the host's operator"},
    Entry{VGPU_ERR_INVALID_POOL, nullptr,
          "the mediator does not serve this device's pool: ask the host's operator to add it to "
          "the mediator's configuration, or to assign another pool to the VM"},
    Entry{VGPU_ERR_QUEUE_FULL, nullptr,
          "too many requests are queued at the mediator: retry later"},
    Entry{VGPU_ERR_UNSUPPORTED_OPERATION, nullptr,
          "the mediator does not support this operation: update the mediator on the host"},
    Entry{VGPU_ERR_INVALID_LENGTH, nullptr,
          "the request has length 0: write a request before ringing the doorbell"},
    Entry{VGPU_ERR_RATE_LIMITED, nullptr,
          "this VM exceeded its limit of requests per second or of GPU time: wait a moment and "
          "retry"},
    Entry{
        VGPU_ERR_QUARANTINED, nullptr,
        "this VM is quarantined, after too many faults or by the host's operator: ask the operator "
        "to release it"},
    Entry{VGPU_ERR_CUDA_OUT_OF_MEMORY, nullptr,
          "the GPU is out of memory: free buffers, or retry later"},
    Entry{VGPU_ERR_CUDA_LAUNCH_FAILED, nullptr,
          "a kernel faulted on the GPU: check the request's parameters"},
    Entry{VGPU_ERR_CUDA_DEVICE_LOST, nullptr,
          "the GPU no longer responds: ask the host's operator"},
    Entry{VGPU_ERR_CUDA_MEMORY_QUOTA, nullptr,
          "the allocation exceeds this VM's GPU memory quota: free buffers, or ask the host's "
          "operator to raise the quota"},
    Entry{VGPU_ERR_CUDA_INVALID_HANDLE, nullptr,
          "this VM has no such buffer: it was freed, or never allocated"},
    Entry{VGPU_ERR_CUDA_OUT_OF_BOUNDS, nullptr,
          "the operation exceeds the end of a buffer: check offsets, lengths and counts"},
    Entry{VGPU_ERR_CUDA_TIME_LIMIT, nullptr,
          "the request exceeded the time limit of one execution: split the work"},
    Entry{VGPU_E_NO_DEVICE, "no-device",
          "this machine has no vGPU device: start the VM with -device vgpu-stub (PCI 1af4:1111, "
          "class "
          "1200, revision 02) and check lspci -nn; on the host itself, use unix:PATH with the "
          "mediator's socket as the device"},
    Entry{VGPU_E_NO_PERMISSION, "no-permission",
          "no permission on the device: run as root, or give your user access to it"},
    Entry{VGPU_E_IN_USE, "in-use",
          "another process is using the device: wait for it to exit, or use another device"},
    Entry{VGPU_E_SYSTEM, "system-error", "a system call failed"},
    Entry{VGPU_E_VERSION, "version-mismatch",
          "the device implements another version of the protocol: install the library that matches "
          "the host"},
    Entry{VGPU_E_NO_INTERRUPT, "no-interrupt",
          "the device's interrupt is not available: load uio_pci_generic and write '1af4 1111' to "
          "/sys/bus/pci/drivers/uio_pci_generic/new_id, or use polling"},
    Entry{VGPU_E_ARGUMENT, "invalid-argument", "an argument of the call is invalid"},
    Entry{VGPU_E_BUSY, "busy",
          "an earlier request is still in flight: wait for its response before sending another"},
    Entry{VGPU_E_NOT_SUBMITTED, "not-submitted", "no request is in flight: nothing to wait for"},
    Entry{VGPU_E_WAIT_TIMEOUT, "wait-timeout",
          "no response within the time limit: the request is still in flight; wait again, or raise "
          "the limit"},
    Entry{VGPU_E_BAD_RESPONSE, "bad-response",
          "the response is inconsistent: this is a bug in the mediator or the device"},
    Entry{VGPU_E_DEVICE_LOST, "device-lost", "the device was reset or unplugged: reopen it"},
    Entry{VGPU_E_NO_QUEUES, "no-queues",
          "no mediator serves the device's shared memory: use requests (vgpu_call) instead of "
          "queues"},
    Entry{VGPU_E_QUEUE_FULL, "ring-full",
          "the queue's ring is full: flush it, wait for an earlier command, then retry"},
    Entry{VGPU_E_QUEUE_STOPPED, "queue-stopped",
          "the mediator stopped the queue: close it and open a new one"},
    Entry{VGPU_E_MEDIATOR_LOST, "mediator-lost",
          "the mediator that served this queue is gone, and with it the buffers and the commands "
          "in flight: close the queue, and open a new one when a mediator is running again"},
    Entry{VGPU_E_NO_MEMORY, "heap-exhausted",
          "the heap of the shared memory has no free block of this size: free blocks, or use "
          "smaller ones"},
};

const Entry* find(int code) {
    const auto* const at = std::find_if(kEntries.begin(), kEntries.end(),
                                        [code](const Entry& e) { return e.code == code; });
    return at == kEntries.end() ? nullptr : at;
}

bool is_cuda_specific(int code) {
    return code >= VGPU_ERR_CUDA_FIRST && code <= VGPU_ERR_CUDA_LAST;
}

}  // namespace

const char* vgpu_code_name(int code) {
    const Entry* const entry = find(code);
    return entry != nullptr && entry->name != nullptr
               ? entry->name
               : vgpu_error_name(static_cast<std::uint32_t>(code));
}

const char* vgpu_code_text(int code) {
    if (const Entry* const entry = find(code)) {
        return entry->text;
    }
    return is_cuda_specific(code)
               ? "the GPU reported a CUDA-specific error: ask the host's operator"
               : "unknown error code: update the library";
}
