/* SPDX-License-Identifier: MIT */
/*
 * vgpu.h: the C API of libvgpu, for programs inside a VM that has a vgpu-stub device, and for
 * programs on the host, which reach the mediator by its socket.
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
 * Rules that hold for every function here
 * - Results: VGPU_OK (0), or a code. Codes 0x01-0xFF are the device's own (enum vgpu_error in
 *   vgpu_protocol.h); codes from 0x100 on are the library's (enum vgpu_code). Nothing is printed,
 *   nothing aborts, no exception leaves the library.
 * - `why` may be NULL. Otherwise it is filled whenever the result is not VGPU_OK, and left alone
 *   when it is. It belongs to the caller.
 * - Threads: a vgpu_device is used by one thread at a time; two devices are independent of each
 *   other. There is no hidden global state. Queues (vgpu_queue.h) have a rule of their own.
 * - Time limits are milliseconds; VGPU_NO_TIMEOUT waits without end; 0 looks once.
 * - Nothing read from the device is trusted: a length that does not fit is VGPU_E_BAD_RESPONSE.
 */
#ifndef VGPU_H
#define VGPU_H

#include <stddef.h>
#include <stdint.h>

#include "vgpu_protocol.h"

#ifdef __cplusplus
extern "C" {
#endif

#define VGPU_API __attribute__((visibility("default")))

#define VGPU_NO_TIMEOUT UINT32_MAX
#define VGPU_MESSAGE_SIZE 512u /* bytes of a sentence with its terminating zero */
#define VGPU_ADDRESS_SIZE 32u  /* bytes of a PCI address with its terminating zero */
#define VGPU_MAX_RESULTS ((VGPU_BUF_SIZE - 32u) / 4u)
#define VGPU_MAX_DATA (VGPU_BUF_SIZE - 32u) /* bytes */

/* The library's own codes. */
enum vgpu_code {
    VGPU_OK = 0,
    VGPU_E_NO_DEVICE = 0x100,     /* no vgpu-stub in this VM, or none at that address */
    VGPU_E_NO_PERMISSION = 0x101, /* the kernel does not let this user at the device */
    VGPU_E_IN_USE = 0x102,        /* another process has the device open */
    VGPU_E_SYSTEM = 0x103,        /* a system call failed; sys_errno says how */
    VGPU_E_VERSION = 0x104,       /* the device speaks another major version */
    VGPU_E_NO_INTERRUPT = 0x105,  /* interrupts asked for, but uio_pci_generic does not serve it */
    VGPU_E_ARGUMENT = 0x106,      /* the caller broke a contract stated here */
    VGPU_E_BUSY = 0x107,          /* an earlier request is still on its way */
    VGPU_E_NOT_SUBMITTED = 0x108, /* nothing to wait for */
    VGPU_E_WAIT_TIMEOUT = 0x109,  /* no answer within the limit; the request goes on */
    VGPU_E_BAD_RESPONSE = 0x10A,  /* the answer contradicts itself */
    VGPU_E_DEVICE_LOST = 0x10B,   /* the device was reset or taken away */
    VGPU_E_NO_QUEUES = 0x10C,     /* no mediator serves shared memory here: use vgpu_call */
    VGPU_E_QUEUE_FULL = 0x10D,    /* no room in the ring: flush, wait for a command, try again */
    VGPU_E_QUEUE_STOPPED = 0x10E, /* the mediator found the queue at fault: open it anew */
    VGPU_E_MEDIATOR_LOST = 0x10F, /* the mediator of this queue is gone: open it anew */
    VGPU_E_NO_MEMORY = 0x110,     /* no such piece of the heap is free */
};

/* Why a call failed. */
struct vgpu_failure {
    int code;                        /* what the call returned */
    int sys_errno;                   /* errno behind it, or 0 */
    char message[VGPU_MESSAGE_SIZE]; /* one sentence, UTF-8, that says what to do */
};

/* How to wait for an answer. */
enum vgpu_wait_mode {
    VGPU_WAIT_AUTO = 0,      /* spin a moment, then interrupt if there is one, else back off */
    VGPU_WAIT_POLL = 1,      /* spin, yield, then sleep in steps growing to 1 ms */
    VGPU_WAIT_INTERRUPT = 2, /* sleep in the kernel; vgpu_open fails where that is impossible */
};

/* Bits of vgpu_options.flags. */
#define VGPU_OPEN_QUEUES                                                    \
    (1u << 0) /* for queues: the registers are taken with the first request \
               */

/* vgpu_options.spin_us without an end. */
#define VGPU_SPIN_ALWAYS UINT32_MAX

/*
 * Where to look and how to wait. Start from VGPU_OPTIONS_INIT; NULL means the same. A caller that
 * was compiled when there was less of it is served with the defaults of the rest.
 */
struct vgpu_options {
    size_t struct_size;     /* sizeof(struct vgpu_options) of the caller */
    const char* address;    /* PCI address ("0000:00:04.0" or "00:04.0"); "unix:PATH": the socket of
                               a mediator on this host; NULL: the first PCI device */
    int wait_mode;          /* enum vgpu_wait_mode */
    const char* sysfs_root; /* NULL: /sys */
    const char* dev_root;   /* NULL: /dev */
    uint32_t flags;         /* VGPU_OPEN_* */
    uint32_t spin_us;       /* microseconds that a wait for a queue spins before it sleeps, except
                               with VGPU_WAIT_INTERRUPT; 0: sleep at once */
    /* What a process is to the mediator with "unix:". */
    uint32_t vm_id;
    uint32_t priority;         /* enum vgpu_priority */
    uint64_t shm_size;         /* bytes of shared memory, a power of two; 0: none, no queues */
    uint32_t queue_count;      /* 1 to 64, at most shm_size / 32 KiB */
    uint32_t hello_timeout_ms; /* how long the mediator may take to accept a connection, and then
                                  for its answer to the hello */
    char pool;                 /* ASCII letter */
};
#define VGPU_OPTIONS_INIT                                                           \
    {                                                                               \
        sizeof(struct vgpu_options), NULL, VGPU_WAIT_AUTO, NULL, NULL, 0, 50, 0,    \
            VGPU_PRIORITY_MEDIUM, UINT64_C(64) << 20, 8, VGPU_HELLO_TIMEOUT_MS, 'A' \
    }

/* A device as sysfs shows it, before it is opened. */
struct vgpu_device_entry {
    char address[VGPU_ADDRESS_SIZE]; /* "0000:00:04.0" */
    char uio[VGPU_ADDRESS_SIZE];     /* "uio0" where uio_pci_generic serves it, else "" */
};

/* What the registers say. */
struct vgpu_properties {
    char address[VGPU_ADDRESS_SIZE];
    char pool;                 /* ASCII letter */
    uint32_t priority;         /* enum vgpu_priority */
    uint32_t vm_id;            /* given by the host's operator */
    uint32_t protocol_version; /* major << 16 | minor */
    uint32_t capabilities;     /* VGPU_CAP_* */
    int has_interrupt;         /* 1: waiting can use the interrupt */
};

/* A request. All pointers are borrowed for the call only. */
struct vgpu_command {
    uint32_t opcode; /* enum vgpu_opcode or vendor-specific */
    uint32_t flags;  /* VGPU_FLAG_* */
    const uint32_t* params;
    uint32_t param_count;
    const void* data;
    uint32_t data_length; /* bytes; 32 + 4 * param_count + data_length may not exceed 1024 */
};

/* An answer with status 0. A plain value: nothing in it needs to be freed. */
struct vgpu_reply {
    uint32_t request_id;
    uint32_t exec_time_us; /* time on the GPU, microseconds */
    uint32_t result_count;
    uint32_t results[VGPU_MAX_RESULTS];
    uint32_t data_length;            /* bytes */
    uint8_t data[VGPU_MAX_DATA + 1]; /* followed by a zero byte */
};

/* What GET_DEVICE_INFO answers. */
struct vgpu_gpu_info {
    uint32_t backend;            /* enum vgpu_backend */
    uint32_t compute_capability; /* major << 16 | minor, 0 on the CPU backend */
    uint32_t multiprocessors;
    uint32_t driver_version; /* 1000 * major + 10 * minor, or 0 */
    uint64_t memory_total;   /* bytes */
    uint64_t memory_free;    /* bytes */
    char name[256];          /* UTF-8 */
};

typedef struct vgpu_device vgpu_device;

/* Name of a code ("mediator-unavailable"; "unknown" for one that is not known). Static text. */
VGPU_API const char* vgpu_code_name(int code);
/* A sentence for a code that says what to do. Static text. */
VGPU_API const char* vgpu_code_text(int code);
/* The library's version ("0.1.0"). Static text. */
VGPU_API const char* vgpu_version(void);

/*
 * Lists the devices, by address. Writes at most `capacity` entries and always the number there is
 * to *count. None is not an error here. Only reads sysfs: no permission is needed.
 * VGPU_E_SYSTEM if sysfs cannot be read.
 */
VGPU_API int vgpu_enumerate(const struct vgpu_options* options, struct vgpu_device_entry* entries,
                            size_t capacity, size_t* count, struct vgpu_failure* why);

/*
 * Opens a device, enabling it first where nobody has. Its registers are this process's alone from
 * then on (an exclusive lock on its BAR's file, gone with the process); with VGPU_OPEN_QUEUES they
 * are taken with the first request, and until then other processes may open the device too. On
 * success *device is the caller's, to be given to vgpu_close. A request left behind by a dead
 * process does no harm: see vgpu_call.
 *
 * "unix:PATH" connects to a mediator instead, as the device of a VM would: requests, and queues
 * where the mediator has them, work as in a guest. VGPU_ERR_MEDIATOR_UNAVAILABLE if nobody listens
 * there. A connection that ends is made again by the next request or vgpu_queue_open.
 */
VGPU_API int vgpu_open(const struct vgpu_options* options, vgpu_device** device,
                       struct vgpu_failure* why);
/* Consumes the device; NULL is allowed. A request on its way is abandoned, not cancelled. */
VGPU_API void vgpu_close(vgpu_device* device);

/* What the device's registers say; with "unix:", what they would. Fails only on a NULL argument. */
VGPU_API int vgpu_get_properties(vgpu_device* device, struct vgpu_properties* properties,
                                 struct vgpu_failure* why);

/*
 * Sends a request and waits for its answer. If an earlier request is still on its way (after
 * VGPU_E_WAIT_TIMEOUT, or one of a process that died) its answer is awaited first, within the
 * same limit, and dropped. `reply` may be NULL. Errors: the device's codes (an answer whose
 * status is not 0 included; the mediator's own sentence is then in why->message),
 * VGPU_E_WAIT_TIMEOUT, VGPU_E_BAD_RESPONSE, VGPU_E_DEVICE_LOST, VGPU_E_ARGUMENT.
 */
VGPU_API int vgpu_call(vgpu_device* device, const struct vgpu_command* command, uint32_t timeout_ms,
                       struct vgpu_reply* reply, struct vgpu_failure* why);

/*
 * The two halves of vgpu_call. vgpu_submit never waits: VGPU_E_BUSY while an earlier request is on
 * its way. An answer that nobody took is dropped by the next vgpu_submit. *request_id (may be
 * NULL) gets the request's number; numbers grow by 1, also from one process to the next.
 * vgpu_wait may be repeated after VGPU_E_WAIT_TIMEOUT; there is no cancelling.
 */
VGPU_API int vgpu_submit(vgpu_device* device, const struct vgpu_command* command,
                         uint32_t* request_id, struct vgpu_failure* why);
VGPU_API int vgpu_wait(vgpu_device* device, uint32_t timeout_ms, struct vgpu_reply* reply,
                       struct vgpu_failure* why);

/* As vgpu_submit, with the request's bytes as they are, unchecked: 1 to 1024 of them. For tests. */
VGPU_API int vgpu_submit_bytes(vgpu_device* device, const void* bytes, size_t length,
                               uint32_t* request_id, struct vgpu_failure* why);
/* Waits until no request is on its way, and drops the answer. VGPU_E_WAIT_TIMEOUT at the limit. */
VGPU_API int vgpu_drain(vgpu_device* device, uint32_t timeout_ms, struct vgpu_failure* why);

/*
 * Waits for the device's interrupt itself, without a look at STATUS; a completion that came before
 * the call counts until its answer is taken. For tests of the interrupt: vgpu_wait uses it anyway.
 * VGPU_E_NO_INTERRUPT (or opened with VGPU_WAIT_POLL), VGPU_E_WAIT_TIMEOUT.
 */
VGPU_API int vgpu_wait_interrupt(vgpu_device* device, uint32_t timeout_ms,
                                 struct vgpu_failure* why);

/* Operations; limits and errors as for vgpu_call. */
VGPU_API int vgpu_nop(vgpu_device* device, uint32_t timeout_ms, struct vgpu_failure* why);
/* *sum = a + b modulo 2^32, computed on the GPU. */
VGPU_API int vgpu_add(vgpu_device* device, uint32_t a, uint32_t b, uint32_t timeout_ms,
                      uint32_t* sum, struct vgpu_failure* why);
VGPU_API int vgpu_device_info(vgpu_device* device, uint32_t timeout_ms, struct vgpu_gpu_info* info,
                              struct vgpu_failure* why);

/*
 * Operations on GPU memory; errors as for vgpu_call, with those of section 6 of docs/protocol.md.
 * A handle stands for a buffer of this VM until it is freed; all are freed when the VM's device
 * loses its mediator. `timeout_ms` is the limit of each request: a copy makes one for about each
 * kilobyte, and one that fails midway has copied the part before.
 *
 * vgpu_alloc: `size` bytes (at least 1), zeroed. vgpu_copy_within: as memmove, also within one
 * buffer. vgpu_synchronize waits for all asynchronous work of this VM and gives the code of the
 * first of it that failed since the last time.
 */
VGPU_API int vgpu_alloc(vgpu_device* device, uint64_t size, uint32_t timeout_ms, uint32_t* handle,
                        struct vgpu_failure* why);
VGPU_API int vgpu_free(vgpu_device* device, uint32_t handle, uint32_t timeout_ms,
                       struct vgpu_failure* why);
VGPU_API int vgpu_copy_to(vgpu_device* device, uint32_t handle, uint64_t offset, const void* from,
                          size_t length, uint32_t timeout_ms, struct vgpu_failure* why);
VGPU_API int vgpu_copy_from(vgpu_device* device, uint32_t handle, uint64_t offset, void* to,
                            size_t length, uint32_t timeout_ms, struct vgpu_failure* why);
VGPU_API int vgpu_copy_within(vgpu_device* device, uint32_t to, uint64_t to_offset, uint32_t from,
                              uint64_t from_offset, uint64_t length, uint32_t timeout_ms,
                              struct vgpu_failure* why);
VGPU_API int vgpu_synchronize(vgpu_device* device, uint32_t timeout_ms, struct vgpu_failure* why);

/*
 * Arithmetic on buffers of elements of `type` (enum vgpu_type); `count` in elements. `flags`: 0, or
 * VGPU_FLAG_ASYNC to return once queued. An element given or returned by value is its bits.
 * vgpu_vector_add: to = a + b. vgpu_saxpy: y = alpha * x + y. vgpu_matmul, row-major: to, of m rows
 * and n columns, = a (m x k) times b (k x n); `to` may not be a source.
 */
VGPU_API int vgpu_vector_add(vgpu_device* device, uint32_t flags, uint32_t type, uint32_t to,
                             uint32_t a, uint32_t b, uint64_t count, uint32_t timeout_ms,
                             struct vgpu_failure* why);
VGPU_API int vgpu_saxpy(vgpu_device* device, uint32_t flags, uint32_t type, uint32_t y, uint32_t x,
                        uint32_t alpha_bits, uint64_t count, uint32_t timeout_ms,
                        struct vgpu_failure* why);
VGPU_API int vgpu_matmul(vgpu_device* device, uint32_t flags, uint32_t type, uint32_t to,
                         uint32_t a, uint32_t b, uint32_t m, uint32_t n, uint32_t k,
                         uint32_t timeout_ms, struct vgpu_failure* why);
VGPU_API int vgpu_reduce_sum(vgpu_device* device, uint32_t type, uint32_t from, uint64_t count,
                             uint32_t timeout_ms, uint32_t* sum_bits, struct vgpu_failure* why);

/* Time of the last completion, nanoseconds of the host's monotonic clock; 0 before the first. */
VGPU_API uint64_t vgpu_timestamp(vgpu_device* device);
/* Interrupts this handle has been woken by. */
VGPU_API uint64_t vgpu_interrupt_count(const vgpu_device* device);

/*
 * For tests of the device itself: one access of `width` bytes (1, 2, 4, 8) at byte `offset` of
 * BAR0, as it stands, side effects included. VGPU_E_ARGUMENT if it does not lie within BAR0.
 */
VGPU_API int vgpu_mmio_read(vgpu_device* device, uint32_t offset, uint32_t width, uint64_t* value,
                            struct vgpu_failure* why);
VGPU_API int vgpu_mmio_write(vgpu_device* device, uint32_t offset, uint32_t width, uint64_t value,
                             struct vgpu_failure* why);

#ifdef __cplusplus
}
#endif

#include "vgpu_queue.h"

#endif /* VGPU_H */
