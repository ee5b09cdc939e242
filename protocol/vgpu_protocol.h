/* SPDX-License-Identifier: MIT */
/*
 * vgpu_protocol.h: everything that crosses a process boundary.
 *
 * Shared by QEMU's C, the mediator's C++ and the guest library. It holds numbers and layouts but no
 * logic. The specification is docs/protocol.md; change both in the same commit. All multi-byte
 * values are little-endian, and the structures below are used in place only on little-endian
 * machines (x86-64, arm64).
 *
 *   guest                     QEMU (vgpu-stub)                 host (mediator)
 *   -----                     ----------------                 ---------------
 *   REQUEST_BUF, REQUEST_LEN
 *   DOORBELL = 1  ----------> copies the request
 *                             vgpu_msg_header + request -----> checks, queues, runs
 *                             RESPONSE_BUF, STATUS      <----- vgpu_msg_header + response
 *   STATUS or interrupt <----
 *
 * State machine of STATUS (the party that makes each transition is in brackets):
 *
 *                 doorbell, request accepted [guest]
 *        +------+ ------------------------------> +------+
 *        | IDLE |                                 | BUSY | doorbell [guest]: changes nothing
 *        +------+ <--+                            +------+
 *           |        |                             |    |
 *           |        | acknowledged [guest]        |    | response with status != 0, disconnect,
 *           |        |                             |    | or time-out [device]
 *           |        | response, status 0 [device] |    |
 *           |        |                             v    |
 *           |        +---------------------- +------+   |
 *           |        |                       | DONE |   |
 *           |        |                       +------+   |
 *           |        +---------------------- +-------+  |
 *           +------------------------------> | ERROR | <+
 *             doorbell, request rejected     +-------+
 *             [device]
 *
 * A doorbell in DONE or ERROR acts as in IDLE. Acknowledged means: the first read of RESPONSE_LEN
 * or RESPONSE_BUF after DONE, or of ERROR_CODE after ERROR.
 */
#ifndef VGPU_PROTOCOL_H
#define VGPU_PROTOCOL_H

#include <stdint.h>

#ifdef __cplusplus
#define VGPU_STATIC_ASSERT(expr, text) static_assert(expr, text) /* in C and C++ */
#else
#define VGPU_STATIC_ASSERT(expr, text) _Static_assert(expr, text)
#endif
/* Checks the offset of a structure's member at compile time. */
#define VGPU_ASSERT_OFFSET(type, member, offset)                            \
    VGPU_STATIC_ASSERT(__builtin_offsetof(struct type, member) == (offset), \
                       #type "." #member " must stand at byte " #offset)

/* PCI identity. */
#define VGPU_PCI_VENDOR_ID 0x1AF4u /* of QEMU's devices */
#define VGPU_PCI_DEVICE_ID 0x1111u /* not unique: check class and revision, too */
#define VGPU_PCI_CLASS 0x1200u     /* processing accelerator */
#define VGPU_PCI_REVISION 0x02u    /* of the device, not of the protocol */
#define VGPU_BAR0_SIZE 0x1000u     /* bytes */

/* Registers of BAR0: byte offsets, each register 32 bits wide. */
#define VGPU_REG_DOORBELL 0x000u     /* RW, write 1: submit; reads 0 */
#define VGPU_REG_STATUS 0x004u       /* RO, enum vgpu_status */
#define VGPU_REG_POOL_ID 0x008u      /* RO, ASCII letter */
#define VGPU_REG_PRIORITY 0x00Cu     /* RO, enum vgpu_priority */
#define VGPU_REG_VM_ID 0x010u        /* RO */
#define VGPU_REG_ERROR_CODE 0x014u   /* RO, enum vgpu_error */
#define VGPU_REG_REQUEST_LEN 0x018u  /* RW, bytes in REQUEST_BUF */
#define VGPU_REG_RESPONSE_LEN 0x01Cu /* RO, bytes in RESPONSE_BUF */
#define VGPU_REG_PROTOCOL_VER 0x020u /* RO, VGPU_PROTOCOL_VERSION */
#define VGPU_REG_CAPABILITIES 0x024u /* RO, VGPU_CAP_* */
#define VGPU_REG_IRQ_CTRL 0x028u     /* RW, VGPU_IRQ_COMPLETION enables the interrupt */
#define VGPU_REG_IRQ_STATUS 0x02Cu   /* RW1C, VGPU_IRQ_COMPLETION: a completion is waiting */
#define VGPU_REG_REQUEST_ID 0x030u   /* RW, echoed end to end */
#define VGPU_REG_TIMESTAMP_LO 0x034u /* RO, host monotonic clock at completion, ns, low half */
#define VGPU_REG_TIMESTAMP_HI 0x038u /* RO, high half */
#define VGPU_REG_SCRATCH 0x03Cu      /* RW, for tests */
#define VGPU_REGS_END 0x040u         /* end of the registers of version 1 */
#define VGPU_REQUEST_BUF 0x040u      /* RW, VGPU_BUF_SIZE bytes */
#define VGPU_RESPONSE_BUF 0x440u     /* RO, VGPU_BUF_SIZE bytes */
#define VGPU_RESERVED_BEGIN 0x840u   /* reads 0, writes ignored, up to VGPU_BAR0_SIZE */
#define VGPU_BUF_SIZE 1024u          /* bytes in each buffer */

/* Registers of the fast path, in the reserved range: present with VGPU_CAP_DMA. */
#define VGPU_REG_SHM_SIZE_LO 0x840u    /* RO, bytes of BAR2, low half */
#define VGPU_REG_SHM_SIZE_HI 0x844u    /* RO, high half */
#define VGPU_REG_QUEUE_COUNT 0x848u    /* RO, queues in BAR2 */
#define VGPU_REG_SHM_STATE 0x84Cu      /* RO, VGPU_SHM_ATTACHED */
#define VGPU_REG_MSIX_VECTORS 0x850u   /* RO, 0 or 1 + queues */
#define VGPU_REG_QUEUE_IRQ_LO 0x858u   /* RW1C, bit q: queue q was interrupted, queues 0-31 */
#define VGPU_REG_QUEUE_IRQ_HI 0x85Cu   /* RW1C, queues 32-63 */
#define VGPU_REG_QUEUE_DOORBELL 0x900u /* WO, queue 0; any value rings; reads 0 */
#define VGPU_QUEUE_DOORBELL_STRIDE 4u  /* bytes from one queue's doorbell to the next */
#define VGPU_QUEUE_DOORBELL_END 0xA00u /* end of the doorbells of 64 queues */

/* Bits of SHM_STATE. */
#define VGPU_SHM_ATTACHED (1u << 0) /* a mediator serves BAR2 */

/* MSI-X vectors: 0 signals every cause in IRQ_STATUS except queues, 1 + q signals queue q. */
#define VGPU_MSIX_VECTOR_DEVICE 0u /* of the device */
#define VGPU_MSIX_VECTOR_QUEUE 1u  /* of queue 0 */

#define VGPU_PROTOCOL_VERSION 0x00010000u /* major << 16 | minor */

/* Bits of CAPABILITIES. */
#define VGPU_CAP_BASIC_REQUEST (1u << 0) /* requests, version 1 */
#define VGPU_CAP_INTERRUPT (1u << 1)     /* an interrupt on completion */
#define VGPU_CAP_DMA (1u << 2)           /* shared memory */
#define VGPU_CAP_MULTI_REQUEST (1u << 3) /* several requests in flight */

/* Bits of IRQ_CTRL and IRQ_STATUS. */
#define VGPU_IRQ_COMPLETION (1u << 0) /* a request has ended */
#define VGPU_IRQ_SHM_STATE (1u << 1)  /* SHM_STATE has changed; with VGPU_CAP_DMA */
#define VGPU_IRQ_QUEUE (1u << 2)      /* RO in IRQ_STATUS: QUEUE_IRQ is not 0; with VGPU_CAP_DMA */

/* Values of STATUS. */
enum vgpu_status {
    VGPU_STATUS_IDLE = 0,
    VGPU_STATUS_BUSY = 1,
    VGPU_STATUS_DONE = 2,
    VGPU_STATUS_ERROR = 3,
};

/* Values of PRIORITY and of vgpu_msg_header.priority. */
enum vgpu_priority {
    VGPU_PRIORITY_LOW = 0,
    VGPU_PRIORITY_MEDIUM = 1,
    VGPU_PRIORITY_HIGH = 2,
};
#define VGPU_PRIORITY_COUNT 3u /* values of enum vgpu_priority */

/* Values of ERROR_CODE and of vgpu_response.status. */
enum vgpu_error {
    VGPU_ERR_NONE = 0x00,
    VGPU_ERR_INVALID_REQUEST = 0x01,
    VGPU_ERR_REQUEST_TOO_LARGE = 0x02,
    VGPU_ERR_MEDIATOR_UNAVAILABLE = 0x03,
    VGPU_ERR_TIMEOUT = 0x04,
    VGPU_ERR_CUDA = 0x05,
    VGPU_ERR_INVALID_POOL = 0x06,
    VGPU_ERR_QUEUE_FULL = 0x07,
    VGPU_ERR_UNSUPPORTED_OPERATION = 0x08,
    VGPU_ERR_INVALID_LENGTH = 0x09, /* length 0 */
    VGPU_ERR_RATE_LIMITED = 0x0A,
    VGPU_ERR_QUARANTINED = 0x0B,
    /* CUDA-specific causes. */
    VGPU_ERR_CUDA_FIRST = 0xF0,
    VGPU_ERR_CUDA_OUT_OF_MEMORY = 0xF0,  /* the GPU's memory is exhausted */
    VGPU_ERR_CUDA_LAUNCH_FAILED = 0xF1,  /* a kernel faulted */
    VGPU_ERR_CUDA_DEVICE_LOST = 0xF2,    /* the GPU does not respond any more */
    VGPU_ERR_CUDA_MEMORY_QUOTA = 0xF3,   /* exceeds what this VM may allocate */
    VGPU_ERR_CUDA_INVALID_HANDLE = 0xF4, /* never allocated, freed, or another VM's */
    VGPU_ERR_CUDA_OUT_OF_BOUNDS = 0xF5,  /* beyond the end of a buffer */
    VGPU_ERR_CUDA_TIME_LIMIT = 0xF6,     /* exceeded the time limit of one execution */
    VGPU_ERR_CUDA_LAST = 0xFF,
};

/*
 * Operations, with [params] -> [results]. 0x0100-0x0FFF are reserved, 0x1000-0xFFFF
 * vendor-specific. 64-bit numbers are two words, low half first. Handles are per VM and never 0.
 */
enum vgpu_opcode {
    VGPU_OP_NOP = 0,             /* no result */
    VGPU_OP_CUDA_KERNEL = 1,     /* [a, b] -> [a + b modulo 2^32], from a kernel */
    VGPU_OP_MEMORY_ALLOC = 2,    /* [bytes lo, hi] -> [handle], zeroed */
    VGPU_OP_MEMORY_FREE = 3,     /* [handle] */
    VGPU_OP_MEMORY_COPY = 4,     /* [enum vgpu_copy, ...] */
    VGPU_OP_GET_DEVICE_INFO = 5, /* results: enum vgpu_device_info_result; data: the name */
    VGPU_OP_SYNCHRONIZE = 6,     /* [] */
    /* On buffers of elements of a type, enum vgpu_type. */
    VGPU_OP_VECTOR_ADD = 0x1000, /* [type, dst, a, b, count lo, hi]: dst[i] = a[i] + b[i] */
    VGPU_OP_SAXPY = 0x1001,      /* [type, y, x, alpha bits, count lo, hi]: y[i] += alpha * x[i] */
    VGPU_OP_MATMUL = 0x1002,     /* [type, dst, a, b, m, n, k]: dst[m x n] = a[m x k] b[k x n] */
    VGPU_OP_REDUCE_SUM = 0x1003, /* [type, src, count lo, hi] -> [bits of the sum] */
};

/* First parameter of MEMORY_COPY, with the others. Offsets and lengths are bytes. */
enum vgpu_copy {
    VGPU_COPY_TO_DEVICE = 0,     /* [0, dst, offset lo, hi] and data */
    VGPU_COPY_FROM_DEVICE = 1,   /* [1, src, offset lo, hi, length] -> data */
    VGPU_COPY_WITHIN_DEVICE = 2, /* [2, dst, offset lo, hi, src, offset lo, hi, length lo, hi] */
};
#define VGPU_COPY_MAX_LENGTH 992u /* most bytes that VGPU_COPY_FROM_DEVICE can return */

/* Elements of the vendor operations: 32 bits each, little-endian. */
enum vgpu_type {
    VGPU_TYPE_F32 = 0,
    VGPU_TYPE_I32 = 1, /* arithmetic modulo 2^32 */
};

/* Bits of vgpu_request.flags. All others must be 0. */
#define VGPU_FLAG_ASYNC (1u << 0) /* responds once queued; SYNCHRONIZE reports the outcome */
#define VGPU_FLAG_BOOST (1u << 1) /* one priority level up, where the VM's policy allows it */
#define VGPU_FLAGS_KNOWN (VGPU_FLAG_ASYNC | VGPU_FLAG_BOOST) /* all of them */

/* results[] of GET_DEVICE_INFO. The data part is the device's name: UTF-8, no terminating zero. */
enum vgpu_device_info_result {
    VGPU_INFO_BACKEND = 0,            /* enum vgpu_backend */
    VGPU_INFO_COMPUTE_CAPABILITY = 1, /* major << 16 | minor; 0 on the CPU backend */
    VGPU_INFO_MULTIPROCESSORS = 2,    /* streaming multiprocessors, or host cores */
    VGPU_INFO_DRIVER_VERSION = 3,     /* cuDriverGetVersion (1000 * major + 10 * minor), or 0 */
    VGPU_INFO_MEMORY_TOTAL_LO = 4,    /* bytes */
    VGPU_INFO_MEMORY_TOTAL_HI = 5,
    VGPU_INFO_MEMORY_FREE_LO = 6, /* bytes that this VM can still allocate */
    VGPU_INFO_MEMORY_FREE_HI = 7,
    VGPU_INFO_RESULT_COUNT = 8,
};

/* What executes the requests. */
enum vgpu_backend {
    VGPU_BACKEND_CPU = 0,
    VGPU_BACKEND_CUDA = 1,
};

/*
 * Request, as in REQUEST_BUF and as the payload of VGPU_MSG_REQUEST:
 *   this header, then uint32_t params[param_count], then data.
 */
struct vgpu_request {
    uint32_t version;     /* VGPU_PROTOCOL_VERSION */
    uint32_t opcode;      /* enum vgpu_opcode */
    uint32_t flags;       /* VGPU_FLAG_* */
    uint32_t param_count; /* elements of params */
    uint32_t data_offset; /* bytes from the start of this header; ignored if data_length is 0 */
    uint32_t data_length; /* bytes */
    uint32_t reserved[2]; /* 0 */
};
VGPU_STATIC_ASSERT(sizeof(struct vgpu_request) == 32, "request header is 32 bytes");
VGPU_ASSERT_OFFSET(vgpu_request, version, 0);
VGPU_ASSERT_OFFSET(vgpu_request, opcode, 4);
VGPU_ASSERT_OFFSET(vgpu_request, flags, 8);
VGPU_ASSERT_OFFSET(vgpu_request, param_count, 12);
VGPU_ASSERT_OFFSET(vgpu_request, data_offset, 16);
VGPU_ASSERT_OFFSET(vgpu_request, data_length, 20);
VGPU_ASSERT_OFFSET(vgpu_request, reserved, 24);

/*
 * Response, as in RESPONSE_BUF and as the payload of VGPU_MSG_RESPONSE:
 *   this header, then uint32_t results[result_count], then data.
 * If status is not 0 there are no results, and data, if any, is a UTF-8 error text (no terminating
 * zero).
 */
struct vgpu_response {
    uint32_t version;      /* VGPU_PROTOCOL_VERSION */
    uint32_t status;       /* 0 = success, else enum vgpu_error */
    uint32_t result_count; /* elements of results */
    uint32_t data_offset;  /* bytes from the start of this header */
    uint32_t data_length;  /* bytes */
    uint32_t exec_time_us; /* time on the GPU, microseconds, rounded up */
    uint32_t reserved[2];  /* 0 */
};
VGPU_STATIC_ASSERT(sizeof(struct vgpu_response) == 32, "response header is 32 bytes");
VGPU_ASSERT_OFFSET(vgpu_response, version, 0);
VGPU_ASSERT_OFFSET(vgpu_response, status, 4);
VGPU_ASSERT_OFFSET(vgpu_response, result_count, 8);
VGPU_ASSERT_OFFSET(vgpu_response, data_offset, 12);
VGPU_ASSERT_OFFSET(vgpu_response, data_length, 16);
VGPU_ASSERT_OFFSET(vgpu_response, exec_time_us, 20);
VGPU_ASSERT_OFFSET(vgpu_response, reserved, 24);

/* Socket between device and mediator: a header, then payload_len bytes. */
#define VGPU_MSG_MAGIC 0x56475055u /* begins each message */
#define VGPU_MSG_MAX_PAYLOAD 1024u /* bytes, version 1 */

/* Messages on the socket. */
enum vgpu_msg_type {
    VGPU_MSG_REQUEST = 1,  /* device to mediator */
    VGPU_MSG_RESPONSE = 2, /* mediator to device */
    VGPU_MSG_PING = 3,     /* either way, payload empty; answered by PONG */
    VGPU_MSG_PONG = 4,
    VGPU_MSG_BUSY = 5,        /* mediator to device: rate-limited; ends the request */
    VGPU_MSG_QUARANTINED = 6, /* mediator to device: VM quarantined; ends the request */
    VGPU_MSG_EXTENSION_FIRST = 0x20,
    /* The fast path. */
    VGPU_MSG_HELLO = 0x20,          /* to the mediator: struct vgpu_msg_hello, one descriptor */
    VGPU_MSG_HELLO_REPLY = 0x21,    /* to the device: struct vgpu_msg_hello_reply */
    VGPU_MSG_HELLO_QUEUE = 0x22,    /* to the mediator: struct vgpu_msg_hello_queue, two */
    VGPU_MSG_SHM_RESET = 0x23,      /* to the mediator, payload empty: the device was reset */
    VGPU_MSG_SHM_RESET_DONE = 0x24, /* to the device: struct vgpu_msg_hello_reply */
};

/* Header of each message. */
struct vgpu_msg_header {
    uint32_t magic;       /* VGPU_MSG_MAGIC */
    uint32_t msg_type;    /* enum vgpu_msg_type */
    uint32_t vm_id;       /* the same in every message of a connection */
    uint32_t request_id;  /* echoed */
    uint8_t pool_id;      /* ASCII letter */
    uint8_t priority;     /* enum vgpu_priority */
    uint16_t payload_len; /* bytes that follow */
};
VGPU_STATIC_ASSERT(sizeof(struct vgpu_msg_header) == 20, "message header is 20 bytes");
VGPU_ASSERT_OFFSET(vgpu_msg_header, magic, 0);
VGPU_ASSERT_OFFSET(vgpu_msg_header, msg_type, 4);
VGPU_ASSERT_OFFSET(vgpu_msg_header, vm_id, 8);
VGPU_ASSERT_OFFSET(vgpu_msg_header, request_id, 12);
VGPU_ASSERT_OFFSET(vgpu_msg_header, pool_id, 16);
VGPU_ASSERT_OFFSET(vgpu_msg_header, priority, 17);
VGPU_ASSERT_OFFSET(vgpu_msg_header, payload_len, 18);

/*
 * The fast path: BAR2, shared memory between guest, mediator and GPU. docs/protocol.md, sections
 * 11 to 16. Its layout follows from its size and the number of its queues:
 *
 *   0 +-----------------------------------+
 *     | struct vgpu_shm_header            |  mediator writes, guest reads
 *   4K+-----------------------------------+ <- VGPU_SHM_QUEUES_OFFSET
 *     | queue 0: control | command ring   |  queue_stride = 4 KiB + ring_size
 *     | queue 1: control | command ring   |
 *     | ...                               |
 *     +-----------------------------------+ <- heap_offset = 4 KiB + queue_count * queue_stride
 *     | heap                              |  bulk data and replies, at (offset, length)
 *     +-----------------------------------+ <- size
 *
 *   ring_size: the largest of 32, 16 and 8 KiB for which
 *              queue_count * (4 KiB + ring_size) <= size / 2
 *
 * Each word has one writer. The mediator never reads back what it has written and takes no offset
 * from this memory. What a guest writes is untrusted and may change at any time.
 *
 * State machine of a queue (the party that makes each transition is in brackets):
 *
 *     attached, or the device was reset [mediator]
 *        |
 *        v      reset_request changed [guest], seen [mediator]
 *   +---------+ ---------------------------------------------> +-----------+
 *   | STOPPED |                                                | RESETTING |
 *   +---------+ <--------------------------------------------- +-----------+
 *        ^      the tail is unaligned: error, reset_ack           |     ^
 *        |      [mediator]                                        |     |
 *        |                        in-flight commands completed:   |     | reset_request changed
 *        | error and error_index  reset_ack [mediator]            v     | [guest], seen [mediator]
 *        | [mediator]                                          +---------+
 *        +---------------------------------------------------- | RUNNING |
 *                                                              +---------+
 *
 * Records are taken only in RUNNING. Commands that were taken complete in every state.
 */
#define VGPU_SHM_MAGIC 0x5647534Du       /* begins the shared memory */
#define VGPU_SHM_LAYOUT_VERSION 1u       /* of the layout above */
#define VGPU_SHM_SIZE_MIN 0x100000ull    /* bytes; a size is a power of two */
#define VGPU_SHM_SIZE_MAX 0x100000000ull /* bytes */
#define VGPU_QUEUES_MAX 64u              /* queues of a device */
#define VGPU_SHM_BYTES_PER_QUEUE 0x8000u /* at least: queues <= size / this */
#define VGPU_SHM_QUEUES_OFFSET 0x1000u   /* bytes from the start to the first queue */
#define VGPU_QUEUE_CONTROL_SIZE 0x1000u  /* bytes from a queue's control block to its ring */
#define VGPU_RING_SIZE_MIN 0x2000u       /* bytes; two of the largest records */
#define VGPU_RING_SIZE_MAX 0x8000u       /* bytes */

/* At byte 0 of BAR2. Valid while generation is not 0. */
struct vgpu_shm_header {
    uint32_t magic;          /* VGPU_SHM_MAGIC */
    uint32_t layout_version; /* VGPU_SHM_LAYOUT_VERSION */
    uint64_t size;           /* bytes of BAR2 */
    uint32_t queue_count;    /* number of queues */
    uint32_t queue_stride;   /* bytes from one queue's control block to the next */
    uint32_t ring_size;      /* bytes */
    uint32_t reserved;       /* 0 */
    uint64_t heap_offset;    /* bytes from the start of BAR2 */
    uint64_t heap_size;      /* bytes */
    uint64_t generation;     /* never 0; a change invalidates the old one's handles and queues */
};
VGPU_STATIC_ASSERT(sizeof(struct vgpu_shm_header) == 56, "shared memory header is 56 bytes");
VGPU_ASSERT_OFFSET(vgpu_shm_header, magic, 0);
VGPU_ASSERT_OFFSET(vgpu_shm_header, layout_version, 4);
VGPU_ASSERT_OFFSET(vgpu_shm_header, size, 8);
VGPU_ASSERT_OFFSET(vgpu_shm_header, queue_count, 16);
VGPU_ASSERT_OFFSET(vgpu_shm_header, queue_stride, 20);
VGPU_ASSERT_OFFSET(vgpu_shm_header, ring_size, 24);
VGPU_ASSERT_OFFSET(vgpu_shm_header, reserved, 28);
VGPU_ASSERT_OFFSET(vgpu_shm_header, heap_offset, 32);
VGPU_ASSERT_OFFSET(vgpu_shm_header, heap_size, 40);
VGPU_ASSERT_OFFSET(vgpu_shm_header, generation, 48);

/* Values of vgpu_queue_control.state. */
enum vgpu_queue_state {
    VGPU_QUEUE_STOPPED = 0,
    VGPU_QUEUE_RUNNING = 1,
    VGPU_QUEUE_RESETTING = 2,
};

/* Values of vgpu_queue_control.error: why the queue is not running. */
enum vgpu_queue_error {
    VGPU_QUEUE_ERR_NONE = 0,
    VGPU_QUEUE_ERR_NOT_STARTED = 1,       /* no reset yet in this generation */
    VGPU_QUEUE_ERR_RESET = 2,             /* requested by the guest */
    VGPU_QUEUE_ERR_CLOSED = 3,            /* the mediator stops or no longer serves this VM */
    VGPU_QUEUE_ERR_TAIL_UNALIGNED = 0x10, /* not a multiple of VGPU_RECORD_ALIGN */
    VGPU_QUEUE_ERR_TAIL_RANGE = 0x11,     /* behind head, or more than ring_size ahead of it */
    VGPU_QUEUE_ERR_RECORD_SIZE = 0x12,    /* too small, too large, or not aligned */
    VGPU_QUEUE_ERR_RECORD_PAST_TAIL = 0x13,
    VGPU_QUEUE_ERR_RECORD_SPLIT = 0x14, /* crosses the end of the ring */
    VGPU_QUEUE_ERR_PADDING = 0x15,      /* does not end at the end of the ring, or is too long */
    VGPU_QUEUE_ERR_RECORD_PARTS = 0x16, /* params and inline data do not add up to size */
    VGPU_QUEUE_ERR_REPLY_PLACE = 0x17,  /* not in the heap, too small, or not aligned */
};

/* Separates fields of different writers: two cache lines, since lines are fetched in pairs. */
#define VGPU_QUEUE_LINE 128u

/*
 * Control block of a queue. All counts start at 0 and grow without wrapping around. Count c refers
 * to byte c modulo ring_size of the ring.
 */
struct vgpu_queue_control {
    /* Guest: what it has submitted. */
    uint64_t tail;                       /* bytes of the ring ever produced */
    uint32_t reset_request;              /* a value other than reset_ack requests a reset */
    uint32_t reserved0;                  /* 0 */
    uint8_t pad0[VGPU_QUEUE_LINE - 16u]; /* not used */
    /* Guest: when it wants an interrupt. */
    uint64_t wake_at; /* 0: none; n: when completed >= n, the queue stops, or a reset is done */
    uint8_t pad1[VGPU_QUEUE_LINE - 8u]; /* not used */
    /* Mediator: whether it sleeps. */
    uint64_t doorbell_wanted;           /* 0: it polls; else the number of this sleep */
    uint8_t pad2[VGPU_QUEUE_LINE - 8u]; /* not used */
    /* Mediator: what it has consumed. */
    uint64_t head;                      /* bytes of the ring ever consumed */
    uint8_t pad3[VGPU_QUEUE_LINE - 8u]; /* not used */
    /* Mediator or GPU: the timeline. */
    uint64_t completed;                 /* commands completed in this generation */
    uint8_t pad4[VGPU_QUEUE_LINE - 8u]; /* not used */
    /* Mediator: the state. */
    uint32_t state;       /* enum vgpu_queue_state */
    uint32_t error;       /* enum vgpu_queue_error */
    uint64_t error_index; /* while not running: the first command that is not executed */
    uint32_t reset_ack;   /* the reset_request last carried out */
    uint32_t reserved1;   /* 0 */
    uint8_t pad5[VGPU_QUEUE_LINE - 24u]; /* not used */
};
VGPU_STATIC_ASSERT(sizeof(struct vgpu_queue_control) == 768, "queue control is 768 bytes");
VGPU_ASSERT_OFFSET(vgpu_queue_control, tail, 0);
VGPU_ASSERT_OFFSET(vgpu_queue_control, reset_request, 8);
VGPU_ASSERT_OFFSET(vgpu_queue_control, reserved0, 12);
VGPU_ASSERT_OFFSET(vgpu_queue_control, wake_at, 128);
VGPU_ASSERT_OFFSET(vgpu_queue_control, doorbell_wanted, 256);
VGPU_ASSERT_OFFSET(vgpu_queue_control, head, 384);
VGPU_ASSERT_OFFSET(vgpu_queue_control, completed, 512);
VGPU_ASSERT_OFFSET(vgpu_queue_control, state, 640);
VGPU_ASSERT_OFFSET(vgpu_queue_control, error, 644);
VGPU_ASSERT_OFFSET(vgpu_queue_control, error_index, 648);
VGPU_ASSERT_OFFSET(vgpu_queue_control, reset_ack, 656);
VGPU_ASSERT_OFFSET(vgpu_queue_control, reserved1, 660);

/* wake_at of a guest that waits only for a stop or a reset. */
#define VGPU_WAKE_AT_STATE UINT64_MAX

/* Sizes of records. */
#define VGPU_RECORD_ALIGN 8u  /* bytes; a record's size is a multiple */
#define VGPU_RECORD_MAX 4096u /* bytes */

/*
 * A command in a ring: this header, then uint32_t params[param_count] and inline data, each
 * zero-padded to a multiple of 8 bytes. A record never crosses the end of the ring: where it would,
 * a padding record fills the rest. Of a padding record only size and opcode have a meaning.
 */
struct vgpu_record {
    uint32_t size;           /* bytes of the whole record, a multiple of VGPU_RECORD_ALIGN */
    uint32_t opcode;         /* enum vgpu_opcode, or VGPU_OP_PADDING */
    uint32_t flags;          /* VGPU_RECORD_FLAGS_KNOWN */
    uint32_t param_count;    /* elements of params */
    uint32_t inline_length;  /* bytes */
    uint32_t reply_capacity; /* bytes at reply_offset; 0 if that is 0 */
    uint64_t data_offset;    /* bulk data in the heap, bytes from the start of BAR2; 0: none */
    uint64_t data_length;    /* bytes */
    uint64_t reply_offset;   /* bytes from the start of BAR2; 0: no reply */
    uint64_t cookie;         /* chosen by the guest, copied to the reply */
};
VGPU_STATIC_ASSERT(sizeof(struct vgpu_record) == 56, "record header is 56 bytes");
VGPU_ASSERT_OFFSET(vgpu_record, size, 0);
VGPU_ASSERT_OFFSET(vgpu_record, opcode, 4);
VGPU_ASSERT_OFFSET(vgpu_record, flags, 8);
VGPU_ASSERT_OFFSET(vgpu_record, param_count, 12);
VGPU_ASSERT_OFFSET(vgpu_record, inline_length, 16);
VGPU_ASSERT_OFFSET(vgpu_record, reply_capacity, 20);
VGPU_ASSERT_OFFSET(vgpu_record, data_offset, 24);
VGPU_ASSERT_OFFSET(vgpu_record, data_length, 32);
VGPU_ASSERT_OFFSET(vgpu_record, reply_offset, 40);
VGPU_ASSERT_OFFSET(vgpu_record, cookie, 48);

/* Opcodes of records only. */
#define VGPU_OP_DRIVER_FIRST 0x00010000u /* reserved for forwarded calls of the CUDA driver API */
#define VGPU_OP_DRIVER_LAST 0x0001FFFFu  /* end of that range */
#define VGPU_OP_PADDING 0xFFFFFFFFu      /* no command: fills the end of the ring */

/* Bits of vgpu_record.flags: VGPU_FLAG_BOOST, and this one. All others must be 0. */
#define VGPU_FLAG_HEAP_OPERANDS (1u << 2) /* each buffer operand is two params, see below */
#define VGPU_RECORD_FLAGS_KNOWN (VGPU_FLAG_BOOST | VGPU_FLAG_HEAP_OPERANDS) /* all of them */

/*
 * A 64-bit buffer operand, low half first. If this bit of the high half is set, the other 63 are an
 * offset from the start of BAR2, in the heap. Otherwise the low half is a handle and the high half
 * is 0.
 */
#define VGPU_OPERAND_HI_HEAP 0x80000000u

#define VGPU_REPLY_ALIGN 8u /* of reply_offset, bytes */

/*
 * Reply to a command, at its reply_offset, complete before the timeline reaches the command:
 *   this header, then uint32_t results[result_count], then data.
 */
struct vgpu_queue_reply {
    uint64_t cookie;       /* the record's */
    uint32_t status;       /* 0 = success, else enum vgpu_error */
    uint32_t size;         /* bytes of the whole reply, at most reply_capacity */
    uint32_t result_count; /* 0 if status is not 0 */
    uint32_t data_length;  /* bytes; of the error text if status is not 0 */
    uint32_t exec_time_us; /* time on the GPU, microseconds, rounded up */
    uint32_t reserved;     /* 0 */
};
VGPU_STATIC_ASSERT(sizeof(struct vgpu_queue_reply) == 32, "reply header is 32 bytes");
VGPU_ASSERT_OFFSET(vgpu_queue_reply, cookie, 0);
VGPU_ASSERT_OFFSET(vgpu_queue_reply, status, 8);
VGPU_ASSERT_OFFSET(vgpu_queue_reply, size, 12);
VGPU_ASSERT_OFFSET(vgpu_queue_reply, result_count, 16);
VGPU_ASSERT_OFFSET(vgpu_queue_reply, data_length, 20);
VGPU_ASSERT_OFFSET(vgpu_queue_reply, exec_time_us, 24);
VGPU_ASSERT_OFFSET(vgpu_queue_reply, reserved, 28);

/*
 * Hello: how a device, or a host process in its place, passes the shared memory to the mediator.
 * SCM_RIGHTS transfers descriptors with the first byte of their message: the memory with
 * VGPU_MSG_HELLO, a queue's doorbell and interrupt (eventfds) with its VGPU_MSG_HELLO_QUEUE.
 */
#define VGPU_HELLO_TIMEOUT_MS 2000u     /* how long a device waits for VGPU_MSG_HELLO_REPLY */
#define VGPU_HELLO_DESCRIPTORS 1u       /* with VGPU_MSG_HELLO: the memory */
#define VGPU_HELLO_QUEUE_DESCRIPTORS 2u /* with VGPU_MSG_HELLO_QUEUE: doorbell, interrupt */

/* Bits of features: same as the corresponding bits of CAPABILITIES. */
#define VGPU_FEATURE_SHM ((uint64_t)VGPU_CAP_DMA)              /* shared memory */
#define VGPU_FEATURE_QUEUES ((uint64_t)VGPU_CAP_MULTI_REQUEST) /* queues in it */

/* Sender of a hello. */
enum vgpu_peer_kind {
    VGPU_PEER_DEVICE = 0,  /* a device; a guest is behind it */
    VGPU_PEER_PROCESS = 1, /* a process of the host */
};

/* Payload of VGPU_MSG_HELLO: what a device offers. */
struct vgpu_msg_hello {
    uint32_t protocol_version; /* VGPU_PROTOCOL_VERSION */
    uint32_t peer_kind;        /* enum vgpu_peer_kind */
    uint64_t features;         /* offered: VGPU_FEATURE_* */
    uint64_t shm_size;         /* bytes */
    uint32_t layout_version;   /* VGPU_SHM_LAYOUT_VERSION */
    uint32_t queue_count;      /* as many VGPU_MSG_HELLO_QUEUE follow */
    uint32_t reserved[2];      /* 0 */
};
VGPU_STATIC_ASSERT(sizeof(struct vgpu_msg_hello) == 40, "hello is 40 bytes");
VGPU_ASSERT_OFFSET(vgpu_msg_hello, protocol_version, 0);
VGPU_ASSERT_OFFSET(vgpu_msg_hello, peer_kind, 4);
VGPU_ASSERT_OFFSET(vgpu_msg_hello, features, 8);
VGPU_ASSERT_OFFSET(vgpu_msg_hello, shm_size, 16);
VGPU_ASSERT_OFFSET(vgpu_msg_hello, layout_version, 24);
VGPU_ASSERT_OFFSET(vgpu_msg_hello, queue_count, 28);
VGPU_ASSERT_OFFSET(vgpu_msg_hello, reserved, 32);

/* Payload of VGPU_MSG_HELLO_QUEUE: one queue of the memory that is offered. */
struct vgpu_msg_hello_queue {
    uint32_t queue;    /* 0, 1, ... in this order */
    uint32_t reserved; /* 0 */
};
VGPU_STATIC_ASSERT(sizeof(struct vgpu_msg_hello_queue) == 8, "hello of a queue is 8 bytes");
VGPU_ASSERT_OFFSET(vgpu_msg_hello_queue, queue, 0);
VGPU_ASSERT_OFFSET(vgpu_msg_hello_queue, reserved, 4);

/* Values of vgpu_msg_hello_reply.status. */
enum vgpu_hello_status {
    VGPU_HELLO_TAKEN = 0,
    VGPU_HELLO_NOT_OFFERED = 1,    /* this mediator has the fast path disabled */
    VGPU_HELLO_BAD_VERSION = 2,    /* protocol or layout version is not supported */
    VGPU_HELLO_BAD_LAYOUT = 3,     /* size or queues out of range */
    VGPU_HELLO_BAD_MEMORY = 4,     /* not a memfd, not sealed, or not of the announced size */
    VGPU_HELLO_BAD_DESCRIPTOR = 5, /* a doorbell or interrupt is not an eventfd */
    VGPU_HELLO_NO_RESOURCES = 6,   /* a limit of the mediator is exceeded */
    VGPU_HELLO_NOT_ALLOWED = 7,    /* not permitted for this VM or this peer */
    VGPU_HELLO_VM_ID_IN_USE = 8,   /* another connection has this VM id */
};

/* Payload of VGPU_MSG_HELLO_REPLY and VGPU_MSG_SHM_RESET_DONE: what the mediator accepts. */
struct vgpu_msg_hello_reply {
    uint32_t status;         /* enum vgpu_hello_status; not 0: continue as version 1 */
    uint32_t layout_version; /* used by the mediator; 0 if status is not 0 */
    uint64_t features;       /* accepted, of those offered; 0 if status is not 0 */
    uint64_t generation;     /* as in vgpu_shm_header; 0 if status is not 0 */
    uint32_t reserved[2];    /* 0 */
};
VGPU_STATIC_ASSERT(sizeof(struct vgpu_msg_hello_reply) == 32, "hello reply is 32 bytes");
VGPU_ASSERT_OFFSET(vgpu_msg_hello_reply, status, 0);
VGPU_ASSERT_OFFSET(vgpu_msg_hello_reply, layout_version, 4);
VGPU_ASSERT_OFFSET(vgpu_msg_hello_reply, features, 8);
VGPU_ASSERT_OFFSET(vgpu_msg_hello_reply, generation, 16);
VGPU_ASSERT_OFFSET(vgpu_msg_hello_reply, reserved, 24);

/* Default socket of a mediator, and the one that older devices connect to. */
#define VGPU_DEFAULT_SOCKET "/run/vgpu/mediator.sock" /* see above */
#define VGPU_LEGACY_SOCKET "/tmp/vgpu-mediator.sock"  /* of older devices */

#endif /* VGPU_PROTOCOL_H */
