/* SPDX-License-Identifier: MIT */
/*
 * vgpu_protocol.h: everything that crosses a process boundary.
 *
 * One file for QEMU's C, the mediator's C++ and the guest library. It holds numbers and layouts
 * and no logic. The specification that goes with it is docs/protocol.md; the two change in the
 * same commit. All multi-byte values are little-endian, and the structures below are used in place
 * on little-endian machines only (x86-64, arm64).
 *
 *   guest                     QEMU (vgpu-stub)                 host (mediator)
 *   -----                     ----------------                 ---------------
 *   REQUEST_BUF, REQUEST_LEN
 *   DOORBELL = 1  ----------> copies the request
 *                             vgpu_msg_header + request -----> checks, queues, runs
 *                             RESPONSE_BUF, STATUS      <----- vgpu_msg_header + response
 *   STATUS or interrupt <----
 *
 * State machine of STATUS (who makes each transition stands in brackets):
 *
 *                 doorbell, request taken [guest]
 *        +------+ ------------------------------> +------+
 *        | IDLE |                                 | BUSY | doorbell [guest]: changes nothing
 *        +------+ <--+                            +------+
 *           |        |                             |    |
 *           |        | acknowledged [guest]        |    | answer with status != 0, mediator gone,
 *           |        |                             |    | or time-out [device]
 *           |        |   answer, status 0 [device] |    |
 *           |        |                             v    |
 *           |        +---------------------- +------+   |
 *           |        |                       | DONE |   |
 *           |        |                       +------+   |
 *           |        +---------------------- +-------+  |
 *           +------------------------------> | ERROR | <+
 *             doorbell, request not taken    +-------+
 *             [device]
 *
 * A doorbell in DONE or ERROR acts as in IDLE. Acknowledged means: the first read of RESPONSE_LEN
 * or RESPONSE_BUF after DONE, or of ERROR_CODE after ERROR.
 */
#ifndef VGPU_PROTOCOL_H
#define VGPU_PROTOCOL_H

#include <stdint.h>

#ifdef __cplusplus
#define VGPU_STATIC_ASSERT(expr, text) static_assert(expr, text)
#else
#define VGPU_STATIC_ASSERT(expr, text) _Static_assert(expr, text)
#endif
#define VGPU_ASSERT_OFFSET(type, member, offset)                            \
    VGPU_STATIC_ASSERT(__builtin_offsetof(struct type, member) == (offset), \
                       #type "." #member " must stand at byte " #offset)

/* PCI identity. */
#define VGPU_PCI_VENDOR_ID 0x1AF4u
#define VGPU_PCI_DEVICE_ID 0x1111u
#define VGPU_PCI_CLASS 0x1200u /* processing accelerator */
#define VGPU_PCI_REVISION 0x02u
#define VGPU_BAR0_SIZE 0x1000u /* bytes */

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
#define VGPU_REGS_END 0x040u
#define VGPU_REQUEST_BUF 0x040u    /* RW, VGPU_BUF_SIZE bytes */
#define VGPU_RESPONSE_BUF 0x440u   /* RO, VGPU_BUF_SIZE bytes */
#define VGPU_RESERVED_BEGIN 0x840u /* reads 0, writes ignored, up to VGPU_BAR0_SIZE */
#define VGPU_BUF_SIZE 1024u        /* bytes in each buffer */

#define VGPU_PROTOCOL_VERSION 0x00010000u /* major << 16 | minor */

/* Bits of CAPABILITIES. */
#define VGPU_CAP_BASIC_REQUEST (1u << 0)
#define VGPU_CAP_INTERRUPT (1u << 1)
#define VGPU_CAP_DMA (1u << 2)           /* shared memory */
#define VGPU_CAP_MULTI_REQUEST (1u << 3) /* several requests in flight */

/* Bit of IRQ_CTRL and IRQ_STATUS. */
#define VGPU_IRQ_COMPLETION (1u << 0)

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
#define VGPU_PRIORITY_COUNT 3u

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
    VGPU_ERR_CUDA_DEVICE_LOST = 0xF2,    /* the GPU no longer answers */
    VGPU_ERR_CUDA_MEMORY_QUOTA = 0xF3,   /* over what this VM may allocate */
    VGPU_ERR_CUDA_INVALID_HANDLE = 0xF4, /* never given, freed, or another VM's */
    VGPU_ERR_CUDA_OUT_OF_BOUNDS = 0xF5,  /* beyond the end of a buffer */
    VGPU_ERR_CUDA_TIME_LIMIT = 0xF6,     /* ran longer than one execution may */
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

/* First param of MEMORY_COPY, with the others. Offsets and lengths are bytes. */
enum vgpu_copy {
    VGPU_COPY_TO_DEVICE = 0,     /* [0, dst, offset lo, hi] and data */
    VGPU_COPY_FROM_DEVICE = 1,   /* [1, src, offset lo, hi, length] -> data */
    VGPU_COPY_WITHIN_DEVICE = 2, /* [2, dst, offset lo, hi, src, offset lo, hi, length lo, hi] */
};
#define VGPU_COPY_MAX_LENGTH 992u /* bytes that VGPU_COPY_FROM_DEVICE can answer with */

/* Elements of the vendor operations: 32 bits each, little-endian. */
enum vgpu_type {
    VGPU_TYPE_F32 = 0,
    VGPU_TYPE_I32 = 1, /* arithmetic modulo 2^32 */
};

/* Bits of vgpu_request.flags. All others must be 0. */
#define VGPU_FLAG_ASYNC (1u << 0) /* answered once queued; SYNCHRONIZE tells what came of it */
#define VGPU_FLAG_BOOST (1u << 1) /* one priority level up, where the VM's policy allows it */
#define VGPU_FLAGS_KNOWN (VGPU_FLAG_ASYNC | VGPU_FLAG_BOOST)

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

enum vgpu_backend {
    VGPU_BACKEND_CPU = 0,
    VGPU_BACKEND_CUDA = 1,
};

/*
 * Request, as it stands in REQUEST_BUF and as the payload of VGPU_MSG_REQUEST:
 *   this header, then uint32_t params[param_count], then data.
 */
struct vgpu_request {
    uint32_t version; /* VGPU_PROTOCOL_VERSION */
    uint32_t opcode;  /* enum vgpu_opcode */
    uint32_t flags;   /* VGPU_FLAG_* */
    uint32_t param_count;
    uint32_t data_offset; /* bytes from the start of this header; 0 allowed if data_length is 0 */
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
 * Response, as it stands in RESPONSE_BUF and as the payload of VGPU_MSG_RESPONSE:
 *   this header, then uint32_t results[result_count], then data.
 * Where status is not 0 there are no results, and data, if any, is one UTF-8 sentence that says
 * what was wrong (no terminating zero).
 */
struct vgpu_response {
    uint32_t version; /* VGPU_PROTOCOL_VERSION */
    uint32_t status;  /* 0 = success, else enum vgpu_error */
    uint32_t result_count;
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
#define VGPU_MSG_MAGIC 0x56475055u
#define VGPU_MSG_MAX_PAYLOAD 1024u /* version 1 */

enum vgpu_msg_type {
    VGPU_MSG_REQUEST = 1,  /* device to mediator */
    VGPU_MSG_RESPONSE = 2, /* mediator to device */
    VGPU_MSG_PING = 3,     /* either way, payload empty; answered by PONG */
    VGPU_MSG_PONG = 4,
    VGPU_MSG_BUSY = 5,        /* mediator to device: rate-limited; ends the request */
    VGPU_MSG_QUARANTINED = 6, /* mediator to device: VM quarantined; ends the request */
    VGPU_MSG_EXTENSION_FIRST = 0x20,
};

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

/* Where a mediator listens unless told otherwise, and where older devices look for it. */
#define VGPU_DEFAULT_SOCKET "/run/vgpu/mediator.sock"
#define VGPU_LEGACY_SOCKET "/tmp/vgpu-mediator.sock"

#endif /* VGPU_PROTOCOL_H */
