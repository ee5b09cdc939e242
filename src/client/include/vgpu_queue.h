/* SPDX-License-Identifier: MIT */
/*
 * vgpu_queue.h: the fast path of libvgpu. Included by vgpu.h, whose conventions apply.
 *
 * Commands reach the mediator through queues in memory shared by the program, the mediator and the
 * GPU. Bulk data resides in the heap of that memory, where the GPU accesses it in place. Many
 * commands can be in flight; the timeline of a queue counts its completed commands.
 *
 *   vgpu_queue *queue;
 *   uint64_t point;
 *   vgpu_queue_open(gpu, VGPU_QUEUE_ANY, 1000, &queue, &why);
 *   for (i = 0; i < 64; ++i)
 *       vgpu_queue_push_nop(queue, NULL, &point, &why);       in the ring, not yet visible
 *   vgpu_queue_flush(queue, &why);                            visible to the mediator
 *   vgpu_queue_wait(queue, point, 1000, &why);                until the last one has completed
 *   vgpu_queue_close(queue);
 *
 * Conventions in addition to those of vgpu.h:
 *
 * - Offsets are in bytes from the start of the shared memory. 0 is never valid and means "none".
 * - Thread safety: one thread at a time may use a queue. Different threads may use different queues
 *   of a device, and the device itself, concurrently. vgpu_queue_open, vgpu_queue_close,
 *   vgpu_heap_alloc, vgpu_heap_free, vgpu_generation, vgpu_get_shm_info and vgpu_get_heap_info may
 *   be called by any thread at any time.
 * - Processes: several processes of a VM may use a device concurrently, each with its own queues
 *   and heap blocks. The kernel releases their ownership when the process exits. After fork(), only
 *   the parent may use the device.
 * - Close all queues of a device and free its heap blocks before vgpu_close.
 * - Without queues (a device or mediator without the fast path), the functions here return
 *   VGPU_E_NO_QUEUES, and those of vgpu.h still work.
 * - `point` may be NULL. Otherwise it receives the command's point: the value of the timeline at
 *   which the command has completed. Points increase by 1 per command.
 * - `reply` may be NULL. Otherwise it names the buffer for the command's reply.
 * - An operand is the handle of a buffer or VGPU_HEAP_OPERAND(offset).
 * - Data in the heap must not be modified while a command that uses it is in flight.
 */
#ifndef VGPU_QUEUE_H
#define VGPU_QUEUE_H

#ifndef VGPU_H
#error "include vgpu.h, which includes this file"
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define VGPU_QUEUE_ANY UINT32_MAX /* index for vgpu_queue_open: the first free queue */

/* Size, layout and state of the shared memory. */
struct vgpu_shm_info {
    uint64_t size;         /* bytes; 0: the device has no shared memory */
    uint32_t queue_count;  /* queues in total, free or in use */
    uint32_t ring_size;    /* bytes of each queue's ring */
    uint64_t heap_offset;  /* where the heap begins */
    uint64_t heap_size;    /* bytes */
    uint64_t generation;   /* see vgpu_generation; 0: no mediator serves the memory */
    uint32_t free_queues;  /* queues that no process owned at the time of the call */
    int32_t has_interrupt; /* 1: waits for a queue can sleep until an interrupt; else 0 */
};

/* An allocated block of the heap. */
struct vgpu_heap_block {
    uint64_t offset; /* of its first byte */
    uint64_t size;   /* bytes, at least the size requested */
    void* pointer;   /* address in this process */
};

/* Usage of the heap. */
struct vgpu_heap_info {
    uint64_t size;       /* bytes of the heap */
    uint64_t chunk_size; /* bytes; the unit in which processes claim the heap */
    uint64_t taken;      /* bytes of the chunks claimed by this device handle */
    uint64_t allocated;  /* bytes of this handle's blocks */
    uint64_t available;  /* bytes of the chunks that no process has claimed */
};

/*
 * A command, see the record in section 14 of docs/protocol.md. The library uses the pointers only
 * during the call. The command's data and reply in the heap stay in use until it has completed.
 */
struct vgpu_queue_command {
    uint32_t opcode;         /* enum vgpu_opcode or vendor-specific */
    uint32_t flags;          /* VGPU_FLAG_BOOST, VGPU_FLAG_HEAP_OPERANDS */
    const uint32_t* params;  /* may be NULL if param_count is 0 */
    const void* inline_data; /* may be NULL if inline_length is 0 */
    uint32_t param_count;    /* elements of params */
    uint32_t inline_length;  /* bytes; the whole record must not exceed VGPU_RECORD_MAX */
    uint64_t data_offset;    /* offset of bulk data in the heap, or 0 */
    uint64_t data_length;    /* bytes */
    uint64_t reply_offset;   /* offset of the reply buffer, aligned to VGPU_REPLY_ALIGN; 0: none */
    uint64_t cookie;         /* returned in the reply */
    uint32_t reply_capacity; /* bytes of the reply buffer, at least 32; 0 without one */
    uint32_t reserved;       /* 0 */
};

/* A reply buffer: a heap block or a part of one. A NULL pointer means that no reply is wanted. */
struct vgpu_reply_place {
    uint64_t offset;   /* a multiple of VGPU_REPLY_ALIGN */
    uint64_t cookie;   /* any value; a reply with a different one is VGPU_E_BAD_RESPONSE */
    uint32_t capacity; /* bytes: 32 for the header, 4 per result, and the data. 256 are enough for
                          useful error texts */
    uint32_t reserved; /* 0 */
};

/* A validated reply. The pointers refer to the reply buffer in the heap and are valid until it is
 * reused or freed. */
struct vgpu_reply_view {
    uint64_t cookie;         /* the command's */
    uint32_t status;         /* 0, or enum vgpu_error */
    uint32_t exec_time_us;   /* execution time on the GPU, microseconds */
    uint32_t result_count;   /* elements of results */
    uint32_t data_length;    /* bytes of data */
    const uint32_t* results; /* 32-bit results, see section 6 of docs/protocol.md */
    const void* data;        /* if status is not 0: the error text, without a terminating NUL */
};

/*
 * An operand of an arithmetic operation that resides in the heap, at `offset` (a multiple of 4).
 * The GPU accesses it in place. The alternative is the handle of a buffer.
 */
#define VGPU_HEAP_OPERAND(offset) ((uint64_t)(offset) | (uint64_t)VGPU_OPERAND_HI_HEAP << 32)

/* An open queue. Opaque: created by vgpu_queue_open, freed by vgpu_queue_close. */
typedef struct vgpu_queue vgpu_queue;

/*
 * Queries the shared memory. Works without a mediator.
 *
 * info: [out] receives the answer; all members are 0 if the device has no shared memory
 *
 * Errors: VGPU_E_ARGUMENT.
 *
 * Threads: any, at any time.
 */
VGPU_API int vgpu_get_shm_info(vgpu_device* device, struct vgpu_shm_info* info,
                               struct vgpu_failure* why);
/*
 * Returns the generation: a number that changes whenever a mediator attaches to the shared memory,
 * or 0 if none is attached. A change means that all buffers (handles) and commands in flight are
 * lost. The contents of the heap persist. Costs memory loads plus a read of a device register (PCI)
 * or a system call ("unix:PATH").
 *
 * Threads: any, at any time.
 */
VGPU_API uint64_t vgpu_generation(vgpu_device* device);

/*
 * Claims a queue, resets it, which drops commands of a previous owner, and returns when the queue
 * is running. With "unix:PATH", first reconnects to the mediator if necessary.
 *
 * index: number of the queue; VGPU_QUEUE_ANY: the first free one
 * queue: [out] on success a queue that the caller owns and releases with vgpu_queue_close, else
 * NULL
 *
 * Errors: VGPU_E_NO_QUEUES; VGPU_E_IN_USE if the queue, or every queue, is owned;
 * VGPU_E_NO_INTERRUPT with VGPU_WAIT_INTERRUPT; VGPU_E_MEDIATOR_LOST, VGPU_E_WAIT_TIMEOUT,
 * VGPU_E_SYSTEM, VGPU_E_ARGUMENT; with "unix:PATH" also those of connecting, see vgpu_open.
 *
 * Threads: any, at any time.
 */
VGPU_API int vgpu_queue_open(vgpu_device* device, uint32_t index, uint32_t timeout_ms,
                             vgpu_queue** queue, struct vgpu_failure* why);
/*
 * Closes and frees the queue. Drops commands that the mediator has not started and waits up to two
 * seconds for those it has.
 *
 * queue: the queue; NULL is allowed
 *
 * Threads: any, but none may use the queue meanwhile.
 */
VGPU_API void vgpu_queue_close(vgpu_queue* queue);
/* Returns the index of the queue, or VGPU_QUEUE_ANY if `queue` is NULL. */
VGPU_API uint32_t vgpu_queue_index(const vgpu_queue* queue);

/*
 * Writes a command to the ring; the next flush makes it visible to the mediator. Never blocks. A
 * failed push has no effect.
 *
 * command: the command; used only during the call, except for its data and reply in the heap
 *
 * Errors: VGPU_E_QUEUE_FULL (flush, wait for an earlier command, retry), VGPU_E_ARGUMENT (including
 * a record that is too long), VGPU_E_BAD_RESPONSE (the mediator is faulty).
 */
VGPU_API int vgpu_queue_push(vgpu_queue* queue, const struct vgpu_queue_command* command,
                             uint64_t* point, struct vgpu_failure* why);
/*
 * Makes all pushed commands visible and wakes the mediator if it sleeps. Never blocks.
 *
 * Errors: VGPU_E_ARGUMENT if `queue` is NULL; no others.
 */
VGPU_API int vgpu_queue_flush(vgpu_queue* queue, struct vgpu_failure* why);
/*
 * vgpu_queue_push, then, on success, vgpu_queue_flush.
 *
 * command: the command; used only during the call, except for its data and reply in the heap
 *
 * Errors: those of the two functions.
 */
VGPU_API int vgpu_queue_submit(vgpu_queue* queue, const struct vgpu_queue_command* command,
                               uint64_t* point, struct vgpu_failure* why);

/*
 * Flushes, then waits until the timeline has reached a point: that command and all before it have
 * completed, successfully or not, and their replies can be read. Spins for vgpu_options.spin_us,
 * then waits according to vgpu_options.wait_mode. After VGPU_E_QUEUE_STOPPED or
 * VGPU_E_MEDIATOR_LOST, close the queue and open another.
 *
 * point: the point of a command that was pushed
 *
 * Errors: VGPU_E_WAIT_TIMEOUT (the wait can be repeated); VGPU_E_QUEUE_STOPPED if the mediator
 * stopped the queue because of an error in it, such as a reply buffer outside the heap, before it
 * executed that command (see why->message); VGPU_E_MEDIATOR_LOST; VGPU_E_SYSTEM; VGPU_E_ARGUMENT if
 * no command with that point was pushed.
 */
VGPU_API int vgpu_queue_wait(vgpu_queue* queue, uint64_t point, uint32_t timeout_ms,
                             struct vgpu_failure* why);
/* Returns the value of the timeline: the point of the last completed command. One memory load. */
VGPU_API uint64_t vgpu_queue_completed(vgpu_queue* queue);
/* Returns the point of the last command pushed. */
VGPU_API uint64_t vgpu_queue_submitted(const vgpu_queue* queue);

/*
 * Validates and reads a reply. Precondition: its command has completed. Returns the status of the
 * reply; if it is not 0, why->message holds the mediator's error text.
 *
 * place: the reply buffer that was passed with the command
 * view: [out] receives the reply, unless it is invalid; may be NULL
 *
 * Errors: the device's codes; VGPU_E_BAD_RESPONSE if the reply is inconsistent or has a different
 * cookie; VGPU_E_ARGUMENT if `place` is misaligned or outside the heap.
 */
VGPU_API int vgpu_queue_reply_read(vgpu_queue* queue, const struct vgpu_reply_place* place,
                                   struct vgpu_reply_view* view, struct vgpu_failure* why);
/*
 * vgpu_queue_wait, then vgpu_queue_reply_read.
 *
 * point: the point of the command
 * place: the reply buffer that was passed with the command
 * view: [out] receives the reply, unless it is invalid; may be NULL
 *
 * Errors: those of the two functions.
 */
VGPU_API int vgpu_queue_finish(vgpu_queue* queue, uint64_t point,
                               const struct vgpu_reply_place* place, uint32_t timeout_ms,
                               struct vgpu_reply_view* view, struct vgpu_failure* why);
/*
 * Submits a command and waits for its reply in a reply buffer that the queue owns. If the ring is
 * full, first waits for the earlier commands.
 *
 * command: the command; its reply_offset, reply_capacity and cookie are ignored
 * reply: [out] the reply, written on success only; its request_id is the low half of the command's
 *   point; may be NULL
 *
 * Errors: those of vgpu_queue_push, vgpu_queue_wait and vgpu_queue_reply_read, and VGPU_E_NO_MEMORY
 * and VGPU_E_BUSY as for vgpu_heap_alloc.
 */
VGPU_API int vgpu_queue_call(vgpu_queue* queue, const struct vgpu_queue_command* command,
                             uint32_t timeout_ms, struct vgpu_reply* reply,
                             struct vgpu_failure* why);

/*
 * Allocates a heap block. It is not cleared: it may hold data of another process. May block for
 * several seconds until other processes hand over memory.
 *
 * size: bytes, at least 1
 * alignment: of its offset, a power of two up to 4096; 0: 64
 * block: [out] the block; the caller owns it and frees it with vgpu_heap_free
 *
 * Errors: VGPU_E_NO_MEMORY; VGPU_E_BUSY if another process is still claiming memory, or commands of
 * a process that exited are still in flight (retry); VGPU_E_NO_QUEUES, VGPU_E_SYSTEM,
 * VGPU_E_ARGUMENT.
 *
 * Threads: any, at any time.
 */
VGPU_API int vgpu_heap_alloc(vgpu_device* device, uint64_t size, uint64_t alignment,
                             struct vgpu_heap_block* block, struct vgpu_failure* why);
/*
 * Frees a block. Precondition: no command in flight uses it.
 *
 * block: a block of vgpu_heap_alloc on this device handle
 *
 * Errors: VGPU_E_ARGUMENT if this device handle has no block at block->offset.
 *
 * Threads: any, at any time.
 */
VGPU_API int vgpu_heap_free(vgpu_device* device, const struct vgpu_heap_block* block,
                            struct vgpu_failure* why);
/*
 * Queries how much of the heap is in use.
 *
 * info: [out] receives the answer
 *
 * Errors: VGPU_E_NO_QUEUES, VGPU_E_SYSTEM, VGPU_E_ARGUMENT.
 *
 * Threads: any, at any time.
 */
VGPU_API int vgpu_get_heap_info(vgpu_device* device, struct vgpu_heap_info* info,
                                struct vgpu_failure* why);

/* The operations as commands. Each function pushes one record, like vgpu_queue_push and with its
 * errors. vgpu.h describes the operations. */

/*
 * Pushes a NOP: its point shows that everything before it has completed.
 *
 * Errors: those of vgpu_queue_push.
 */
VGPU_API int vgpu_queue_push_nop(vgpu_queue* queue, const struct vgpu_reply_place* reply,
                                 uint64_t* point, struct vgpu_failure* why);
/*
 * Pushes an addition. Result in the reply: a + b modulo 2^32.
 *
 * a, b: the operands
 *
 * Errors: those of vgpu_queue_push.
 */
VGPU_API int vgpu_queue_push_add(vgpu_queue* queue, uint32_t a, uint32_t b,
                                 const struct vgpu_reply_place* reply, uint64_t* point,
                                 struct vgpu_failure* why);
/*
 * Pushes the allocation of a zero-filled buffer. Result in the reply: its handle.
 *
 * size: bytes, at least 1
 *
 * Errors: those of vgpu_queue_push.
 */
VGPU_API int vgpu_queue_push_alloc(vgpu_queue* queue, uint64_t size,
                                   const struct vgpu_reply_place* reply, uint64_t* point,
                                   struct vgpu_failure* why);
/*
 * Pushes the freeing of a buffer.
 *
 * handle: handle of the buffer
 *
 * Errors: those of vgpu_queue_push.
 */
VGPU_API int vgpu_queue_push_free(vgpu_queue* queue, uint32_t handle,
                                  const struct vgpu_reply_place* reply, uint64_t* point,
                                  struct vgpu_failure* why);
/*
 * Pushes a copy from the heap to a buffer.
 *
 * handle: handle of the buffer
 * offset: first byte in the buffer
 * heap_offset: first byte in the shared memory
 * length: number of bytes
 *
 * Errors: those of vgpu_queue_push.
 */
VGPU_API int vgpu_queue_push_copy_to(vgpu_queue* queue, uint32_t handle, uint64_t offset,
                                     uint64_t heap_offset, uint64_t length,
                                     const struct vgpu_reply_place* reply, uint64_t* point,
                                     struct vgpu_failure* why);
/*
 * Pushes a copy from a buffer to the heap.
 *
 * handle: handle of the buffer
 * offset: first byte in the buffer
 * heap_offset: first byte in the shared memory
 * length: number of bytes
 *
 * Errors: those of vgpu_queue_push.
 */
VGPU_API int vgpu_queue_push_copy_from(vgpu_queue* queue, uint32_t handle, uint64_t offset,
                                       uint64_t heap_offset, uint64_t length,
                                       const struct vgpu_reply_place* reply, uint64_t* point,
                                       struct vgpu_failure* why);
/*
 * Pushes a copy between buffers, or within one.
 *
 * to: handle of the destination
 * to_offset: first byte in the destination
 * from: handle of the source
 * from_offset: first byte in the source
 * length: number of bytes
 *
 * Errors: those of vgpu_queue_push.
 */
VGPU_API int vgpu_queue_push_copy_within(vgpu_queue* queue, uint32_t to, uint64_t to_offset,
                                         uint32_t from, uint64_t from_offset, uint64_t length,
                                         const struct vgpu_reply_place* reply, uint64_t* point,
                                         struct vgpu_failure* why);
/*
 * Pushes a query of the GPU. Results in the reply: enum vgpu_device_info_result, and the name as
 * data.
 *
 * Errors: those of vgpu_queue_push.
 */
VGPU_API int vgpu_queue_push_device_info(vgpu_queue* queue, const struct vgpu_reply_place* reply,
                                         uint64_t* point, struct vgpu_failure* why);
/*
 * Pushes a SYNCHRONIZE: it completes when all earlier requests of this VM have.
 *
 * Errors: those of vgpu_queue_push.
 */
VGPU_API int vgpu_queue_push_synchronize(vgpu_queue* queue, const struct vgpu_reply_place* reply,
                                         uint64_t* point, struct vgpu_failure* why);
/*
 * Pushes an addition of vectors: to = a + b, element by element.
 * Operands are handles or VGPU_HEAP_OPERAND(offset).
 *
 * type: enum vgpu_type
 * to: operand for the result
 * a, b: operands to add
 * count: number of elements
 *
 * Errors: those of vgpu_queue_push.
 */
VGPU_API int vgpu_queue_push_vector_add(vgpu_queue* queue, uint32_t type, uint64_t to, uint64_t a,
                                        uint64_t b, uint64_t count,
                                        const struct vgpu_reply_place* reply, uint64_t* point,
                                        struct vgpu_failure* why);
/*
 * Pushes y = alpha * x + y, element by element.
 * Operands are handles or VGPU_HEAP_OPERAND(offset).
 *
 * type: enum vgpu_type
 * y: operand of the summand that receives the result
 * x: operand to scale
 * alpha_bits: bit pattern of alpha, an element
 * count: number of elements
 *
 * Errors: those of vgpu_queue_push.
 */
VGPU_API int vgpu_queue_push_saxpy(vgpu_queue* queue, uint32_t type, uint64_t y, uint64_t x,
                                   uint32_t alpha_bits, uint64_t count,
                                   const struct vgpu_reply_place* reply, uint64_t* point,
                                   struct vgpu_failure* why);
/*
 * Pushes a product of matrices, stored by rows: to = a * b.
 * Operands are handles or VGPU_HEAP_OPERAND(offset).
 *
 * type: enum vgpu_type
 * to: operand for the product, m x n elements; not `a` or `b`
 * a: operand of the left matrix, m x k
 * b: operand of the right matrix, k x n
 * m, n, k: rows and columns, as above
 *
 * Errors: those of vgpu_queue_push.
 */
VGPU_API int vgpu_queue_push_matmul(vgpu_queue* queue, uint32_t type, uint64_t to, uint64_t a,
                                    uint64_t b, uint32_t m, uint32_t n, uint32_t k,
                                    const struct vgpu_reply_place* reply, uint64_t* point,
                                    struct vgpu_failure* why);
/*
 * Pushes the sum of elements. Result in the reply: the bit pattern of the sum.
 * The operand is a handle or VGPU_HEAP_OPERAND(offset).
 *
 * type: enum vgpu_type
 * from: operand with the elements
 * count: number of elements
 *
 * Errors: those of vgpu_queue_push.
 */
VGPU_API int vgpu_queue_push_reduce_sum(vgpu_queue* queue, uint32_t type, uint64_t from,
                                        uint64_t count, const struct vgpu_reply_place* reply,
                                        uint64_t* point, struct vgpu_failure* why);

/* The operations as blocking calls, equivalent to the functions of vgpu.h without `queue_` in their
 * names. Errors, and the behaviour when the ring is full, are those of vgpu_queue_call. The
 * time-out of a copy applies to the whole copy. */

/*
 * Does nothing, through the whole path to the mediator and back.
 *
 * Errors: those of vgpu_queue_call.
 */
VGPU_API int vgpu_queue_nop(vgpu_queue* queue, uint32_t timeout_ms, struct vgpu_failure* why);
/*
 * Adds two numbers on the GPU.
 *
 * a, b: the operands
 * sum: [out] a + b modulo 2^32
 *
 * Errors: those of vgpu_queue_call.
 */
VGPU_API int vgpu_queue_add(vgpu_queue* queue, uint32_t a, uint32_t b, uint32_t timeout_ms,
                            uint32_t* sum, struct vgpu_failure* why);
/*
 * Queries the GPU and this VM's share of it.
 *
 * info: [out] receives the answer
 *
 * Errors: those of vgpu_queue_call.
 */
VGPU_API int vgpu_queue_device_info(vgpu_queue* queue, uint32_t timeout_ms,
                                    struct vgpu_gpu_info* info, struct vgpu_failure* why);
/*
 * Allocates a zero-filled buffer on the GPU.
 *
 * size: bytes, at least 1
 * handle: [out] the buffer's handle, never 0
 *
 * Errors: those of vgpu_queue_call.
 */
VGPU_API int vgpu_queue_alloc(vgpu_queue* queue, uint64_t size, uint32_t timeout_ms,
                              uint32_t* handle, struct vgpu_failure* why);
/*
 * Frees a buffer.
 *
 * handle: handle of the buffer
 *
 * Errors: those of vgpu_queue_call.
 */
VGPU_API int vgpu_queue_free(vgpu_queue* queue, uint32_t handle, uint32_t timeout_ms,
                             struct vgpu_failure* why);
/*
 * Copies memory of this process to a buffer, piecewise through the heap.
 *
 * handle: handle of the buffer
 * offset: first byte in the buffer
 * from: the bytes to copy
 * length: number of bytes
 *
 * Errors: those of vgpu_queue_call.
 */
VGPU_API int vgpu_queue_copy_to(vgpu_queue* queue, uint32_t handle, uint64_t offset,
                                const void* from, size_t length, uint32_t timeout_ms,
                                struct vgpu_failure* why);
/*
 * Copies a part of a buffer to memory of this process, piecewise through the heap.
 *
 * handle: handle of the buffer
 * offset: first byte in the buffer
 * to: [out] receives the bytes
 * length: number of bytes
 *
 * Errors: those of vgpu_queue_call.
 */
VGPU_API int vgpu_queue_copy_from(vgpu_queue* queue, uint32_t handle, uint64_t offset, void* to,
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
 * Errors: those of vgpu_queue_call.
 */
VGPU_API int vgpu_queue_copy_within(vgpu_queue* queue, uint32_t to, uint64_t to_offset,
                                    uint32_t from, uint64_t from_offset, uint64_t length,
                                    uint32_t timeout_ms, struct vgpu_failure* why);
/*
 * Waits for all earlier requests of this VM. Returns VGPU_OK, or the code of the first request with
 * VGPU_FLAG_ASYNC that has failed since the previous synchronize.
 *
 * Errors: that code; those of vgpu_queue_call.
 */
VGPU_API int vgpu_queue_synchronize(vgpu_queue* queue, uint32_t timeout_ms,
                                    struct vgpu_failure* why);
/*
 * Adds two vectors: to = a + b, element by element.
 * Operands are handles or VGPU_HEAP_OPERAND(offset).
 *
 * type: enum vgpu_type
 * to: operand for the result
 * a, b: operands to add
 * count: number of elements
 *
 * Errors: those of vgpu_queue_call.
 */
VGPU_API int vgpu_queue_vector_add(vgpu_queue* queue, uint32_t type, uint64_t to, uint64_t a,
                                   uint64_t b, uint64_t count, uint32_t timeout_ms,
                                   struct vgpu_failure* why);
/*
 * Scales and adds: y = alpha * x + y, element by element.
 * Operands are handles or VGPU_HEAP_OPERAND(offset).
 *
 * type: enum vgpu_type
 * y: operand of the summand that receives the result
 * x: operand to scale
 * alpha_bits: bit pattern of alpha, an element
 * count: number of elements
 *
 * Errors: those of vgpu_queue_call.
 */
VGPU_API int vgpu_queue_saxpy(vgpu_queue* queue, uint32_t type, uint64_t y, uint64_t x,
                              uint32_t alpha_bits, uint64_t count, uint32_t timeout_ms,
                              struct vgpu_failure* why);
/*
 * Multiplies two matrices, stored by rows: to = a * b.
 * Operands are handles or VGPU_HEAP_OPERAND(offset).
 *
 * type: enum vgpu_type
 * to: operand for the product, m x n elements; not `a` or `b`
 * a: operand of the left matrix, m x k
 * b: operand of the right matrix, k x n
 * m, n, k: rows and columns, as above
 *
 * Errors: those of vgpu_queue_call.
 */
VGPU_API int vgpu_queue_matmul(vgpu_queue* queue, uint32_t type, uint64_t to, uint64_t a,
                               uint64_t b, uint32_t m, uint32_t n, uint32_t k, uint32_t timeout_ms,
                               struct vgpu_failure* why);
/*
 * Adds up elements.
 * The operand is a handle or VGPU_HEAP_OPERAND(offset).
 *
 * type: enum vgpu_type
 * from: operand with the elements
 * count: number of elements
 * sum_bits: [out] bit pattern of the sum, an element
 *
 * Errors: those of vgpu_queue_call.
 */
VGPU_API int vgpu_queue_reduce_sum(vgpu_queue* queue, uint32_t type, uint64_t from, uint64_t count,
                                   uint32_t timeout_ms, uint32_t* sum_bits,
                                   struct vgpu_failure* why);

#ifdef __cplusplus
}
#endif

#endif /* VGPU_QUEUE_H */
