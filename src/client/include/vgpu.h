/* SPDX-License-Identifier: MIT */
/*
 * vgpu.h: the C API of libvgpu, for programs in a VM with a vgpu-stub device and for programs on
 * the host, which connect to the mediator's socket.
 *
 *   struct vgpu_failure why;
 *   vgpu_device *gpu;
 *   uint32_t sum;
 *   if (vgpu_open(NULL, &gpu, &why) == VGPU_OK) {
 *       if (vgpu_add(gpu, 100, 200, 1000, &sum, &why) == VGPU_OK)
 *           printf("%u\n", sum);
 *       vgpu_close(gpu);
 *   }
 *
 * Conventions common to all functions:
 *
 * - Return value: VGPU_OK (0) or an error code. Codes 0x01-0xFF come from the device (enum
 *   vgpu_error in vgpu_protocol.h), codes from 0x100 on from the library (enum vgpu_code). The
 *   library prints nothing, never aborts, and lets no exception escape.
 * - `why` may be NULL. Otherwise the function fills it on failure and leaves it unchanged on
 *   success. The caller owns it.
 * - Thread safety: one thread at a time may use a vgpu_device. Distinct devices are independent;
 *   there is no global state. vgpu_queue.h states the rules for queues.
 * - `timeout_ms` is in milliseconds. VGPU_NO_TIMEOUT waits indefinitely; 0 polls once.
 * - The comment of a function describes the parameters that are specific to it, one per line.
 *   examples/api.c has an example of each function.
 * - Data read from the device is validated: an inconsistent length yields VGPU_E_BAD_RESPONSE.
 */
#ifndef VGPU_H
#define VGPU_H

#include <stddef.h>
#include <stdint.h>

#include "vgpu_protocol.h"

#ifdef __cplusplus
extern "C" {
#endif

#define VGPU_API __attribute__((visibility("default"))) /* part of the ABI */

#define VGPU_NO_TIMEOUT UINT32_MAX /* value of timeout_ms: wait indefinitely */
#define VGPU_MESSAGE_SIZE 512u     /* bytes of an error text, including the terminating NUL */
#define VGPU_ADDRESS_SIZE 32u      /* bytes of a PCI address, including the terminating NUL */
#define VGPU_MAX_RESULTS ((VGPU_BUF_SIZE - 32u) / 4u) /* results in a response */
#define VGPU_MAX_DATA (VGPU_BUF_SIZE - 32u)           /* bytes of data in a response */

/* Error codes of the library. */
enum vgpu_code {
    VGPU_OK = 0,                  /* success */
    VGPU_E_NO_DEVICE = 0x100,     /* no vgpu-stub in this VM, or none at that address */
    VGPU_E_NO_PERMISSION = 0x101, /* the kernel denied access to the device or socket */
    VGPU_E_IN_USE = 0x102,        /* another process uses the device, or the queue is in use */
    VGPU_E_SYSTEM = 0x103,        /* a system call failed; see sys_errno */
    VGPU_E_VERSION = 0x104,       /* the device has another major protocol version */
    VGPU_E_NO_INTERRUPT = 0x105,  /* interrupts required, but unavailable (see uio_pci_generic) */
    VGPU_E_ARGUMENT = 0x106,      /* an argument violates a precondition stated here */
    VGPU_E_BUSY = 0x107,          /* an earlier request is in flight; see also vgpu_heap_alloc */
    VGPU_E_NOT_SUBMITTED = 0x108, /* no request to wait for */
    VGPU_E_WAIT_TIMEOUT = 0x109,  /* the wait timed out; the request stays in flight */
    VGPU_E_BAD_RESPONSE = 0x10A,  /* the response is malformed or inconsistent */
    VGPU_E_DEVICE_LOST = 0x10B,   /* the device was reset or removed */
    VGPU_E_NO_QUEUES = 0x10C,     /* no mediator serves shared memory: use vgpu_call instead */
    VGPU_E_QUEUE_FULL = 0x10D,    /* the ring is full: flush, wait for a command, retry */
    VGPU_E_QUEUE_STOPPED = 0x10E, /* the mediator stopped the faulty queue: close and reopen it */
    VGPU_E_MEDIATOR_LOST = 0x10F, /* the queue's mediator disconnected: close and reopen it */
    VGPU_E_NO_MEMORY = 0x110,     /* the heap has no free block of that size */
};

/* Error details of a failed call. */
struct vgpu_failure {
    int code;                        /* the code that the call returned */
    int sys_errno;                   /* errno of the system call that failed, or 0 */
    char message[VGPU_MESSAGE_SIZE]; /* error text, UTF-8, with the suggested remedy */
};

/* How to wait for a completion. */
enum vgpu_wait_mode {
    VGPU_WAIT_AUTO = 0,      /* spin briefly, then sleep until the interrupt, or back off if none */
    VGPU_WAIT_POLL = 1,      /* spin, then yield, then sleep in steps growing to 1 ms */
    VGPU_WAIT_INTERRUPT = 2, /* sleep until the interrupt; opening fails if there is none */
};

/* Bit of vgpu_options.flags, for queues: the first request, not vgpu_open, locks the registers. */
#define VGPU_OPEN_QUEUES (1u << 0)

/* Value of vgpu_options.spin_us: spin without limit. */
#define VGPU_SPIN_ALWAYS UINT32_MAX

/*
 * Options of vgpu_open and vgpu_enumerate. Initialize with VGPU_OPTIONS_INIT; a NULL pointer means
 * the same defaults. With the struct_size of an older ABI, the members that it lacks take their
 * defaults. The library copies the strings. The members from vm_id on apply to "unix:PATH", and
 * vm_id, priority and pool to "file:DIR": they are the caller's identity at the mediator.
 */
struct vgpu_options {
    size_t struct_size;     /* sizeof(struct vgpu_options) as compiled into the caller */
    const char* address;    /* PCI address ("0000:00:04.0" or "00:04.0"); "unix:PATH": the socket of
                               a mediator on this host; "file:DIR": the file protocol, additions
                               only, in the folder vmN of DIR; NULL: the first PCI device */
    int wait_mode;          /* enum vgpu_wait_mode */
    const char* sysfs_root; /* NULL: /sys */
    const char* dev_root;   /* NULL: /dev */
    uint32_t flags;         /* VGPU_OPEN_* */
    uint32_t spin_us;       /* microseconds to spin in a wait for a queue before sleeping; ignored
                               with VGPU_WAIT_INTERRUPT; 0: sleep at once */
    uint32_t vm_id;         /* VM id of this process; 0 with "file:DIR": vm0, or the only vmN */
    uint32_t priority;      /* enum vgpu_priority */
    uint64_t shm_size;      /* bytes of shared memory, a power of two; 0: none, no queues */
    uint32_t queue_count;   /* 1 to 64, at most shm_size / 32 KiB */
    uint32_t hello_timeout_ms; /* time-out for the connection to be accepted, and again for the
                                  handshake */
    char pool;                 /* ASCII letter */
};
/* Initial value of a struct vgpu_options: the defaults. */
#define VGPU_OPTIONS_INIT                                                           \
    {                                                                               \
        sizeof(struct vgpu_options), NULL, VGPU_WAIT_AUTO, NULL, NULL, 0, 50, 0,    \
            VGPU_PRIORITY_MEDIUM, UINT64_C(64) << 20, 8, VGPU_HELLO_TIMEOUT_MS, 'A' \
    }

/* A device found in sysfs. */
struct vgpu_device_entry {
    char address[VGPU_ADDRESS_SIZE]; /* "0000:00:04.0" */
    char uio[VGPU_ADDRESS_SIZE];     /* "uio0" if bound to uio_pci_generic, else "" */
};

/* Properties of an open device. */
struct vgpu_properties {
    char address[VGPU_ADDRESS_SIZE]; /* PCI address, "unix:PATH" or "file:DIR" (truncated) */
    char pool;                       /* ASCII letter */
    uint32_t priority;               /* enum vgpu_priority */
    uint32_t vm_id;                  /* assigned by the host's operator */
    uint32_t protocol_version;       /* major << 16 | minor */
    uint32_t capabilities;           /* VGPU_CAP_* */
    int has_interrupt;               /* 1: waits can sleep until the interrupt; else 0 */
};

/* A request. The library uses the pointers only during the call. */
struct vgpu_command {
    uint32_t opcode;        /* enum vgpu_opcode or vendor-specific */
    uint32_t flags;         /* VGPU_FLAG_* */
    const uint32_t* params; /* arguments of the operation; may be NULL if there are none */
    uint32_t param_count;   /* elements of params */
    const void* data;       /* bulk data; may be NULL if data_length is 0 */
    uint32_t data_length;   /* bytes; 32 + 4 * param_count + data_length must not exceed 1024 */
};

/* The reply to a request that succeeded (status 0). Owns no resources. */
struct vgpu_reply {
    uint32_t request_id;                /* number of the request, see vgpu_submit */
    uint32_t exec_time_us;              /* execution time on the GPU, microseconds */
    uint32_t result_count;              /* valid elements of results */
    uint32_t results[VGPU_MAX_RESULTS]; /* 32-bit results, see section 6 of docs/protocol.md */
    uint32_t data_length;               /* bytes */
    uint8_t data[VGPU_MAX_DATA + 1];    /* NUL-terminated after data_length bytes */
};

/* Result of GET_DEVICE_INFO: the GPU and this VM's share of it. */
struct vgpu_gpu_info {
    uint32_t backend;            /* enum vgpu_backend */
    uint32_t compute_capability; /* major << 16 | minor, 0 on the CPU backend */
    uint32_t multiprocessors;    /* host cores on the CPU backend */
    uint32_t driver_version;     /* 1000 * major + 10 * minor, or 0 */
    uint64_t memory_total;       /* bytes */
    uint64_t memory_free;        /* bytes that this VM can still allocate */
    char name[256];              /* UTF-8 */
};

/* An open device. Opaque: created by vgpu_open, freed by vgpu_close. */
typedef struct vgpu_device vgpu_device;

/*
 * Returns the name of a code, such as "mediator-unavailable", or "unknown". A static string.
 *
 * code: a code that a function has returned
 */
VGPU_API const char* vgpu_code_name(int code);
/*
 * Returns the error text of a code, with the suggested remedy. A static string.
 * vgpu_failure.message has the text of one failure, which is more specific.
 *
 * code: a code that a function has returned
 */
VGPU_API const char* vgpu_code_text(int code);
/* Returns the version of the library, such as "0.1.0". A static string. */
VGPU_API const char* vgpu_version(void);

/*
 * Lists the PCI devices in order of address. Only reads sysfs and needs no privileges.
 *
 * options: sysfs_root is used; NULL: the defaults
 * entries: [out] receives the devices; may be NULL if capacity is 0
 * capacity: maximum number of entries to write
 * count: [out] total number of devices, which may exceed capacity, or be 0
 *
 * Errors: VGPU_E_SYSTEM if sysfs cannot be read, VGPU_E_ARGUMENT.
 */
VGPU_API int vgpu_enumerate(const struct vgpu_options* options, struct vgpu_device_entry* entries,
                            size_t capacity, size_t* count, struct vgpu_failure* why);

/*
 * Opens a device, and enables it through sysfs if necessary. Locks its registers exclusively for
 * this process (a lock on the BAR0 file, released by vgpu_close or when the process exits). With
 * VGPU_OPEN_QUEUES, if the device has queues, only the first request takes the lock, and other
 * processes can open the device until then. A request left in flight by a process that died is
 * harmless: see vgpu_call.
 *
 * The address "unix:PATH" connects to a mediator directly, as the device of a VM does. Requests,
 * and queues if the mediator offers them, work as in a guest. After a disconnect, the next request
 * or vgpu_queue_open reconnects.
 *
 * options: which device, and how to wait; NULL: the first device, with the defaults
 * device: [out] on success a device that the caller owns and releases with vgpu_close, else NULL
 *
 * Errors: VGPU_E_NO_DEVICE, VGPU_E_NO_PERMISSION, VGPU_E_IN_USE, VGPU_E_SYSTEM, VGPU_E_VERSION,
 * VGPU_E_NO_INTERRUPT, VGPU_E_DEVICE_LOST, VGPU_E_ARGUMENT; with "unix:PATH" also
 * VGPU_ERR_MEDIATOR_UNAVAILABLE if no mediator accepts the connection.
 *
 * Threads: any, at any time.
 */
VGPU_API int vgpu_open(const struct vgpu_options* options, vgpu_device** device,
                       struct vgpu_failure* why);
/*
 * Closes and frees the device. Abandons, but does not cancel, a request in flight. Precondition:
 * the device's queues are closed and its heap blocks freed.
 *
 * device: the device; NULL is allowed
 */
VGPU_API void vgpu_close(vgpu_device* device);

/*
 * Reads the device's properties from its registers, or, with "unix:PATH", from the options.
 *
 * properties: [out] receives the properties
 *
 * Errors: VGPU_E_ARGUMENT if an argument other than `why` is NULL; no others.
 */
VGPU_API int vgpu_get_properties(vgpu_device* device, struct vgpu_properties* properties,
                                 struct vgpu_failure* why);

/*
 * Sends a request and waits for its response. If an earlier request is in flight (after
 * VGPU_E_WAIT_TIMEOUT, or left by a process that died), first waits for its response, within the
 * same time-out, and discards it.
 *
 * command: the request; used only during the call
 * reply: [out] the reply, written on success only; may be NULL
 *
 * Errors: the device's codes, including a response whose status is not 0 (why->message then holds
 * the mediator's error text, if it sent one), VGPU_E_WAIT_TIMEOUT, VGPU_E_BAD_RESPONSE,
 * VGPU_E_DEVICE_LOST, VGPU_E_ARGUMENT; with VGPU_OPEN_QUEUES also those of vgpu_open, as the first
 * request takes the lock.
 */
VGPU_API int vgpu_call(vgpu_device* device, const struct vgpu_command* command, uint32_t timeout_ms,
                       struct vgpu_reply* reply, struct vgpu_failure* why);

/*
 * Sends a request without waiting: the first half of vgpu_call. Never blocks. Discards a response
 * that vgpu_wait has not fetched. A request cannot be cancelled.
 *
 * command: the request; used only during the call
 * request_id: [out] the request's number, which increases by 1 with each request, on a PCI device
 *   across processes too; may be NULL
 *
 * Errors: VGPU_E_BUSY while an earlier request is in flight; else those of vgpu_call.
 */
VGPU_API int vgpu_submit(vgpu_device* device, const struct vgpu_command* command,
                         uint32_t* request_id, struct vgpu_failure* why);
/*
 * Waits for the response to the request that vgpu_submit has sent: the second half of vgpu_call.
 * May be repeated after VGPU_E_WAIT_TIMEOUT.
 *
 * reply: [out] the reply, written on success only; may be NULL
 *
 * Errors: VGPU_E_NOT_SUBMITTED if there is no request; else those of vgpu_call.
 */
VGPU_API int vgpu_wait(vgpu_device* device, uint32_t timeout_ms, struct vgpu_reply* reply,
                       struct vgpu_failure* why);

/*
 * Waits until no request is in flight and discards its response.
 *
 * Errors: VGPU_E_WAIT_TIMEOUT, VGPU_E_DEVICE_LOST.
 */
VGPU_API int vgpu_drain(vgpu_device* device, uint32_t timeout_ms, struct vgpu_failure* why);

/*
 * Does nothing, through the whole path to the mediator and back.
 *
 * Errors: those of vgpu_call.
 */
VGPU_API int vgpu_nop(vgpu_device* device, uint32_t timeout_ms, struct vgpu_failure* why);
/*
 * Adds two numbers on the GPU.
 *
 * a, b: the operands
 * sum: [out] a + b modulo 2^32
 *
 * Errors: those of vgpu_call.
 */
VGPU_API int vgpu_add(vgpu_device* device, uint32_t a, uint32_t b, uint32_t timeout_ms,
                      uint32_t* sum, struct vgpu_failure* why);
/*
 * Queries the GPU and this VM's share of it.
 *
 * info: [out] receives the answer
 *
 * Errors: those of vgpu_call.
 */
VGPU_API int vgpu_device_info(vgpu_device* device, uint32_t timeout_ms, struct vgpu_gpu_info* info,
                              struct vgpu_failure* why);

/* Operations on GPU memory. Section 6 of docs/protocol.md lists the device's error codes. */

/*
 * Allocates a zero-filled buffer on the GPU. Its handle identifies it, for all programs of this VM,
 * until it is freed. All buffers are freed when the VM's last connection to the mediator ends.
 *
 * size: bytes, at least 1
 * handle: [out] the buffer's handle, never 0
 *
 * Errors: VGPU_ERR_CUDA_OUT_OF_MEMORY, VGPU_ERR_CUDA_MEMORY_QUOTA; those of vgpu_call.
 */
VGPU_API int vgpu_alloc(vgpu_device* device, uint64_t size, uint32_t timeout_ms, uint32_t* handle,
                        struct vgpu_failure* why);
/*
 * Frees a buffer.
 *
 * handle: handle of the buffer
 *
 * Errors: VGPU_ERR_CUDA_INVALID_HANDLE; those of vgpu_call.
 */
VGPU_API int vgpu_free(vgpu_device* device, uint32_t handle, uint32_t timeout_ms,
                       struct vgpu_failure* why);
/*
 * Copies memory of this process to a buffer. Sends about one request per kilobyte; the time-out
 * applies to each. If one fails, the part before has been copied.
 *
 * handle: handle of the buffer
 * offset: first byte in the buffer
 * from: the bytes to copy
 * length: number of bytes
 *
 * Errors: VGPU_ERR_CUDA_INVALID_HANDLE, VGPU_ERR_CUDA_OUT_OF_BOUNDS; those of vgpu_call.
 */
VGPU_API int vgpu_copy_to(vgpu_device* device, uint32_t handle, uint64_t offset, const void* from,
                          size_t length, uint32_t timeout_ms, struct vgpu_failure* why);
/*
 * Copies a part of a buffer to memory of this process. Sends about one request per kilobyte; the
 * time-out applies to each. If one fails, the part before has been copied.
 *
 * handle: handle of the buffer
 * offset: first byte in the buffer
 * to: [out] receives the bytes
 * length: number of bytes
 *
 * Errors: as for vgpu_copy_to.
 */
VGPU_API int vgpu_copy_from(vgpu_device* device, uint32_t handle, uint64_t offset, void* to,
                            size_t length, uint32_t timeout_ms, struct vgpu_failure* why);
/*
 * Copies between buffers on the GPU, or, like memmove, within one.
 *
 * to: handle of the destination
 * to_offset: first byte in the destination
 * from: handle of the source
 * from_offset: first byte in the source
 * length: number of bytes
 *
 * Errors: as for vgpu_copy_to.
 */
VGPU_API int vgpu_copy_within(vgpu_device* device, uint32_t to, uint64_t to_offset, uint32_t from,
                              uint64_t from_offset, uint64_t length, uint32_t timeout_ms,
                              struct vgpu_failure* why);
/*
 * Waits for all earlier requests of this VM. Returns VGPU_OK, or the code of the first request with
 * VGPU_FLAG_ASYNC that has failed since the previous vgpu_synchronize.
 *
 * Errors: that code; those of vgpu_call.
 */
VGPU_API int vgpu_synchronize(vgpu_device* device, uint32_t timeout_ms, struct vgpu_failure* why);

/* Arithmetic on buffers of 32-bit elements of `type`. */

/*
 * Adds two vectors: to = a + b, element by element.
 *
 * flags: 0 or VGPU_FLAG_*; with VGPU_FLAG_ASYNC the call returns once the operation is queued, and
 *   vgpu_synchronize returns its error
 * type: enum vgpu_type
 * to: handle of the result
 * a, b: handles of the operands
 * count: number of elements
 *
 * Errors: as for vgpu_copy_to.
 */
VGPU_API int vgpu_vector_add(vgpu_device* device, uint32_t flags, uint32_t type, uint32_t to,
                             uint32_t a, uint32_t b, uint64_t count, uint32_t timeout_ms,
                             struct vgpu_failure* why);
/*
 * Scales and adds: y = alpha * x + y, element by element.
 *
 * flags: 0 or VGPU_FLAG_*; with VGPU_FLAG_ASYNC the call returns once the operation is queued, and
 *   vgpu_synchronize returns its error
 * type: enum vgpu_type
 * y: handle of the summand that receives the result
 * x: handle of the vector to scale
 * alpha_bits: bit pattern of alpha, an element
 * count: number of elements
 *
 * Errors: as for vgpu_copy_to.
 */
VGPU_API int vgpu_saxpy(vgpu_device* device, uint32_t flags, uint32_t type, uint32_t y, uint32_t x,
                        uint32_t alpha_bits, uint64_t count, uint32_t timeout_ms,
                        struct vgpu_failure* why);
/*
 * Multiplies two matrices, stored by rows: to = a * b.
 *
 * flags: 0 or VGPU_FLAG_*; with VGPU_FLAG_ASYNC the call returns once the operation is queued, and
 *   vgpu_synchronize returns its error
 * type: enum vgpu_type
 * to: handle of the product, m x n elements; not `a` or `b`
 * a: handle of the left matrix, m x k
 * b: handle of the right matrix, k x n
 * m, n, k: rows and columns, as above
 *
 * Errors: as for vgpu_copy_to.
 */
VGPU_API int vgpu_matmul(vgpu_device* device, uint32_t flags, uint32_t type, uint32_t to,
                         uint32_t a, uint32_t b, uint32_t m, uint32_t n, uint32_t k,
                         uint32_t timeout_ms, struct vgpu_failure* why);
/*
 * Adds up the elements of a buffer.
 *
 * type: enum vgpu_type
 * from: handle of the buffer
 * count: number of elements
 * sum_bits: [out] bit pattern of the sum, an element
 *
 * Errors: as for vgpu_copy_to.
 */
VGPU_API int vgpu_reduce_sum(vgpu_device* device, uint32_t type, uint32_t from, uint64_t count,
                             uint32_t timeout_ms, uint32_t* sum_bits, struct vgpu_failure* why);

/* Returns the last completion's time in ns of the host's monotonic clock; 0 before the first. */
VGPU_API uint64_t vgpu_timestamp(vgpu_device* device);
/* Returns how many interrupts have woken waits for requests of this handle. Excludes queues. */
VGPU_API uint64_t vgpu_interrupt_count(const vgpu_device* device);

#ifdef __cplusplus
}
#endif

#include "vgpu_queue.h"

#endif /* VGPU_H */
