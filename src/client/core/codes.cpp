// SPDX-License-Identifier: MIT
//
// Names and error texts of the codes. An error text states the cause and the remedy.
#include <algorithm>
#include <array>

#include "client/include/vgpu.h"

namespace {

struct Entry {
    int code;
    const char* name;
    const char* text;
};

constexpr std::array kEntries = {
    Entry{VGPU_OK, "ok", "no error"},
    Entry{VGPU_ERR_INVALID_REQUEST, "invalid-request",
          "the mediator did not understand the request: a field of it is wrong"},
    Entry{VGPU_ERR_REQUEST_TOO_LARGE, "request-too-large",
          "the request is longer than 1024 bytes: send less at a time"},
    Entry{VGPU_ERR_MEDIATOR_UNAVAILABLE, "mediator-unavailable",
          "the device has no connection to a mediator: vgpu-mediator does not run on the host, was "
          "stopped, or closed the connection (its log says why). The device connects again by "
          "itself: try again, or ask the host's operator"},
    Entry{VGPU_ERR_TIMEOUT, "timeout",
          "the mediator did not answer within the device's time limit: the GPU is overloaded or "
          "stuck; try again, or ask the host's operator"},
    Entry{VGPU_ERR_CUDA, "cuda-error",
          "the GPU reported an error: try again, or ask the host's operator"},
    Entry{VGPU_ERR_INVALID_POOL, "invalid-pool",
          "the mediator does not serve this device's pool: ask the host's operator to add the "
          "pool to its configuration or to give the VM another"},
    Entry{VGPU_ERR_QUEUE_FULL, "queue-full",
          "too many requests are waiting at the mediator: try again later"},
    Entry{VGPU_ERR_UNSUPPORTED_OPERATION, "unsupported-operation",
          "the mediator does not know this operation: update it on the host"},
    Entry{VGPU_ERR_INVALID_LENGTH, "invalid-length",
          "the request has length 0: write a request before ringing the doorbell"},
    Entry{VGPU_ERR_RATE_LIMITED, "rate-limited",
          "this VM sends more requests, or uses more GPU time, than it may: wait a moment and try "
          "again"},
    Entry{
        VGPU_ERR_QUARANTINED, "quarantined",
        "this VM is quarantined, after too many faults or by the host's operator: ask the operator "
        "to release it"},
    Entry{VGPU_ERR_CUDA_OUT_OF_MEMORY, "cuda-out-of-memory",
          "the GPU's memory is exhausted: free some or try again later"},
    Entry{VGPU_ERR_CUDA_LAUNCH_FAILED, "cuda-launch-failed",
          "a kernel faulted on the GPU: check the request's values"},
    Entry{VGPU_ERR_CUDA_DEVICE_LOST, "cuda-device-lost",
          "the GPU no longer answers: ask the host's operator"},
    Entry{VGPU_ERR_CUDA_MEMORY_QUOTA, "memory-quota",
          "this VM may not allocate so much GPU memory: free some, or ask the host's operator"},
    Entry{VGPU_ERR_CUDA_INVALID_HANDLE, "invalid-handle",
          "this VM has no such buffer: it was freed, or never allocated"},
    Entry{VGPU_ERR_CUDA_OUT_OF_BOUNDS, "out-of-bounds",
          "the operation reaches beyond the end of a buffer: check offsets, lengths and counts"},
    Entry{VGPU_ERR_CUDA_TIME_LIMIT, "time-limit",
          "the request ran longer than it may: do the work in smaller parts"},
    Entry{VGPU_E_NO_DEVICE, "no-device",
          "this machine has no vGPU device: start the VM with -device vgpu-stub (PCI 1af4:1111, "
          "class "
          "1200, revision 02) and check lspci -nn; on the host itself, give the mediator's socket "
          "as unix:PATH for a device"},
    Entry{VGPU_E_NO_PERMISSION, "no-permission",
          "no permission on the device: run as root, or let root give your user access"},
    Entry{VGPU_E_IN_USE, "in-use",
          "another process uses the device: wait until it has ended, or choose another device"},
    Entry{VGPU_E_SYSTEM, "system-error", "a system call failed"},
    Entry{VGPU_E_VERSION, "version-mismatch",
          "the device speaks another version of the protocol: install the library that goes with "
          "the host"},
    Entry{VGPU_E_NO_INTERRUPT, "no-interrupt",
          "the device's interrupt is not available: load uio_pci_generic and write '1af4 1111' to "
          "/sys/bus/pci/drivers/uio_pci_generic/new_id, or wait by polling"},
    Entry{VGPU_E_ARGUMENT, "invalid-argument", "an argument of the call is not allowed"},
    Entry{VGPU_E_BUSY, "busy",
          "an earlier request is still on its way: wait for it before the next"},
    Entry{VGPU_E_NOT_SUBMITTED, "not-submitted", "there is no request to wait for"},
    Entry{VGPU_E_WAIT_TIMEOUT, "wait-timeout",
          "no answer within the time limit: the request is still in flight; wait again, or allow "
          "more time"},
    Entry{VGPU_E_BAD_RESPONSE, "bad-response",
          "the answer contradicts itself: the mediator or the device is faulty"},
    Entry{VGPU_E_DEVICE_LOST, "device-lost", "the device was reset or taken away: open it again"},
    Entry{VGPU_E_NO_QUEUES, "no-queues",
          "no mediator serves shared memory here: use requests (vgpu_call) instead of queues"},
    Entry{VGPU_E_QUEUE_FULL, "ring-full",
          "the queue's ring is full: flush it, wait for an earlier command, then try again"},
    Entry{VGPU_E_QUEUE_STOPPED, "queue-stopped",
          "the mediator stopped the queue: close it and open one"},
    Entry{VGPU_E_MEDIATOR_LOST, "mediator-lost",
          "the mediator that served this queue is gone, with its buffers and commands in flight: "
          "close the queue, and open one when a mediator is there again"},
    Entry{VGPU_E_NO_MEMORY, "heap-exhausted",
          "no such piece of the shared memory's heap is free: free some, or use less at a time"},
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
    if (const Entry* const entry = find(code)) {
        return entry->name;
    }
    return is_cuda_specific(code) ? "cuda-specific" : "unknown";
}

const char* vgpu_code_text(int code) {
    if (const Entry* const entry = find(code)) {
        return entry->text;
    }
    return is_cuda_specific(code) ? "the GPU reported an error of its own: ask the host's operator"
                                  : "an error this version of the library has no name for";
}
