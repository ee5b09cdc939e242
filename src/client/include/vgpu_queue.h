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
 * Conventions in addition to those of vgpu.h
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
    uint64_t size;        /* bytes; 0: the device has no shared memory */
    uint32_t queue_count; /* queues in total, free or in use */
    uint32_t ring_size;   /* bytes of each queue's ring */
    uint64_t heap_offset;
    uint64_t heap_size;    /* bytes */
    uint64_t generation;   /* see vgpu_generation; 0: no mediator serves the memory */
    uint32_t free_queues;  /* queues that no process owned at the time of the call */
    int32_t has_interrupt; /* 1: waits for a queue can sleep until an interrupt; else 0 */
};

/* An allocated block of the heap. */
struct vgpu_heap_block {
    uint64_t offset;
    uint64_t size; /* bytes, at least the size requested */
    void* pointer; /* address in this process */
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
    uint32_t param_count;
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
    uint64_t cookie;
    uint32_t status;       /* 0, or enum vgpu_error */
    uint32_t exec_time_us; /* execution time on the GPU, microseconds */
    uint32_t result_count;
    uint32_t data_length; /* bytes */
    const uint32_t* results;
    const void* data; /* if status is not 0: the error text, without a terminating NUL */
};

/*
 * An operand of an arithmetic operation that resides in the heap, at `offset` (a multiple of 4).
 * The GPU accesses it in place. The alternative is the handle of a buffer.
 */
#define VGPU_HEAP_OPERAND(offset) ((uint64_t)(offset) | (uint64_t)VGPU_OPERAND_HI_HEAP << 32)

typedef struct vgpu_queue vgpu_queue;

/* Returns information on the shared memory; works without a mediator. All members are 0 if the
 * device has no shared memory. */
VGPU_API int vgpu_get_shm_info(vgpu_device* device, struct vgpu_shm_info* info,
                               struct vgpu_failure* why);
/*
 * Returns the generation: a number that changes whenever a mediator attaches to the shared memory,
 * or 0 if none is attached. A change means that all buffers (handles) and commands in flight are
 * lost. The contents of the heap persist. Costs memory loads plus a read of a device register (PCI)
 * or a system call ("unix:PATH").
 */
VGPU_API uint64_t vgpu_generation(vgpu_device* device);

/*
 * Claims queue `index`, or the first free one with VGPU_QUEUE_ANY, resets it, which drops commands
 * of a previous owner, and returns when the queue is running. With "unix:PATH", first reconnects to
 * the mediator if necessary. On success the caller owns *queue and releases it with
 * vgpu_queue_close; on failure *queue is NULL.
 *
 * Errors: VGPU_E_NO_QUEUES; VGPU_E_IN_USE if the queue, or every queue, is owned;
 * VGPU_E_NO_INTERRUPT with VGPU_WAIT_INTERRUPT; VGPU_E_MEDIATOR_LOST, VGPU_E_WAIT_TIMEOUT,
 * VGPU_E_SYSTEM, VGPU_E_ARGUMENT; with "unix:PATH" also those of connecting, see vgpu_open.
 */
VGPU_API int vgpu_queue_open(vgpu_device* device, uint32_t index, uint32_t timeout_ms,
                             vgpu_queue** queue, struct vgpu_failure* why);
/*
 * Closes and frees the queue; NULL is allowed. Drops commands that the mediator has not started and
 * waits up to two seconds for those it has.
 */
VGPU_API void vgpu_queue_close(vgpu_queue* queue);
/* Returns the index of the queue, or VGPU_QUEUE_ANY if `queue` is NULL. */
VGPU_API uint32_t vgpu_queue_index(const vgpu_queue* queue);

/*
 * Writes a command to the ring; the next flush makes it visible to the mediator. *point (the
 * pointer may be NULL) receives the value of the timeline at which the command has completed;
 * points increase by 1 per command. Never blocks. A failed push has no effect. Errors:
 * VGPU_E_QUEUE_FULL (flush, wait for an earlier command, retry), VGPU_E_ARGUMENT (including a
 * record that is too long), VGPU_E_BAD_RESPONSE (the mediator is faulty).
 */
VGPU_API int vgpu_queue_push(vgpu_queue* queue, const struct vgpu_queue_command* command,
                             uint64_t* point, struct vgpu_failure* why);
/* Makes all pushed commands visible and wakes the mediator if it sleeps. Never blocks. */
VGPU_API int vgpu_queue_flush(vgpu_queue* queue, struct vgpu_failure* why);
/* vgpu_queue_push, then, on success, vgpu_queue_flush. */
VGPU_API int vgpu_queue_submit(vgpu_queue* queue, const struct vgpu_queue_command* command,
                               uint64_t* point, struct vgpu_failure* why);

/*
 * Flushes, then waits until the timeline has reached `point`: that command and all before it have
 * completed, successfully or not, and their replies can be read. Spins for vgpu_options.spin_us,
 * then waits according to vgpu_options.wait_mode.
 *
 * Errors: VGPU_E_WAIT_TIMEOUT (the wait can be repeated); VGPU_E_QUEUE_STOPPED if the mediator
 * stopped the queue because of an error in it, such as a reply buffer outside the heap, before it
 * executed that command (see why->message); VGPU_E_MEDIATOR_LOST; VGPU_E_SYSTEM; VGPU_E_ARGUMENT if
 * no command with that point was pushed. After VGPU_E_QUEUE_STOPPED or VGPU_E_MEDIATOR_LOST, close
 * the queue and open another.
 */
VGPU_API int vgpu_queue_wait(vgpu_queue* queue, uint64_t point, uint32_t timeout_ms,
                             struct vgpu_failure* why);
/* Returns the value of the timeline: the point of the last completed command. One memory load. */
VGPU_API uint64_t vgpu_queue_completed(vgpu_queue* queue);
/* Returns the point of the last command pushed. */
VGPU_API uint64_t vgpu_queue_submitted(const vgpu_queue* queue);

/*
 * Validates and reads the reply at `place`. Precondition: its command has completed. Returns the
 * status of the reply (if not 0, why->message holds the mediator's error text); VGPU_E_BAD_RESPONSE
 * if the reply is inconsistent or has a different cookie; VGPU_E_ARGUMENT if `place` is misaligned
 * or outside the heap. *view (the pointer may be NULL) receives the reply unless it is invalid.
 */
VGPU_API int vgpu_queue_reply_read(vgpu_queue* queue, const struct vgpu_reply_place* place,
                                   struct vgpu_reply_view* view, struct vgpu_failure* why);
/* vgpu_queue_wait, then vgpu_queue_reply_read. */
VGPU_API int vgpu_queue_finish(vgpu_queue* queue, uint64_t point,
                               const struct vgpu_reply_place* place, uint32_t timeout_ms,
                               struct vgpu_reply_view* view, struct vgpu_failure* why);
/*
 * Submits a command and waits for its reply in a reply buffer that the queue owns; ignores
 * reply_offset, reply_capacity and cookie of `command`. If the ring is full, first waits for the
 * earlier commands. `reply` may be NULL; its request_id is the low half of the command's point.
 * Errors: those of vgpu_queue_push, vgpu_queue_wait and vgpu_queue_reply_read, and VGPU_E_NO_MEMORY
 * and VGPU_E_BUSY as for vgpu_heap_alloc.
 */
VGPU_API int vgpu_queue_call(vgpu_queue* queue, const struct vgpu_queue_command* command,
                             uint32_t timeout_ms, struct vgpu_reply* reply,
                             struct vgpu_failure* why);

/*
 * Allocates a heap block of `size` bytes (at least 1), aligned to `alignment` (a power of two up to
 * 4096; 0: 64). The block is not cleared: it may hold data of another process. May block for
 * several seconds until other processes hand over memory. Errors: VGPU_E_NO_MEMORY; VGPU_E_BUSY if
 * another process is still claiming memory, or commands of a process that exited are still in
 * flight (retry); VGPU_E_SYSTEM, VGPU_E_ARGUMENT.
 */
VGPU_API int vgpu_heap_alloc(vgpu_device* device, uint64_t size, uint64_t alignment,
                             struct vgpu_heap_block* block, struct vgpu_failure* why);
/* Frees a block. Precondition: no command in flight uses it. VGPU_E_ARGUMENT if this device handle
 * has no block at block->offset. */
VGPU_API int vgpu_heap_free(vgpu_device* device, const struct vgpu_heap_block* block,
                            struct vgpu_failure* why);
VGPU_API int vgpu_get_heap_info(vgpu_device* device, struct vgpu_heap_info* info,
                                struct vgpu_failure* why);

/*
 * The operations as commands. Each function pushes one record, like vgpu_queue_push and with its
 * errors. `reply` may be NULL. Results in the reply: the sum for add, the handle for alloc, the
 * bits of the sum for reduce_sum; for device_info those of enum vgpu_device_info_result, with the
 * name as data. vgpu.h describes the operations.
 *
 * copy_to and copy_from copy `length` bytes, of any number, between a buffer and the heap. Do not
 * modify data in the heap while a command that uses it is in flight. The arithmetic operands `to`,
 * `a`, `b`, `y`, `x` and `from` are handles or VGPU_HEAP_OPERAND(offset).
 */
VGPU_API int vgpu_queue_push_nop(vgpu_queue* queue, const struct vgpu_reply_place* reply,
                                 uint64_t* point, struct vgpu_failure* why);
VGPU_API int vgpu_queue_push_add(vgpu_queue* queue, uint32_t a, uint32_t b,
                                 const struct vgpu_reply_place* reply, uint64_t* point,
                                 struct vgpu_failure* why);
VGPU_API int vgpu_queue_push_alloc(vgpu_queue* queue, uint64_t size,
                                   const struct vgpu_reply_place* reply, uint64_t* point,
                                   struct vgpu_failure* why);
VGPU_API int vgpu_queue_push_free(vgpu_queue* queue, uint32_t handle,
                                  const struct vgpu_reply_place* reply, uint64_t* point,
                                  struct vgpu_failure* why);
VGPU_API int vgpu_queue_push_copy_to(vgpu_queue* queue, uint32_t handle, uint64_t offset,
                                     uint64_t heap_offset, uint64_t length,
                                     const struct vgpu_reply_place* reply, uint64_t* point,
                                     struct vgpu_failure* why);
VGPU_API int vgpu_queue_push_copy_from(vgpu_queue* queue, uint32_t handle, uint64_t offset,
                                       uint64_t heap_offset, uint64_t length,
                                       const struct vgpu_reply_place* reply, uint64_t* point,
                                       struct vgpu_failure* why);
VGPU_API int vgpu_queue_push_copy_within(vgpu_queue* queue, uint32_t to, uint64_t to_offset,
                                         uint32_t from, uint64_t from_offset, uint64_t length,
                                         const struct vgpu_reply_place* reply, uint64_t* point,
                                         struct vgpu_failure* why);
VGPU_API int vgpu_queue_push_device_info(vgpu_queue* queue, const struct vgpu_reply_place* reply,
                                         uint64_t* point, struct vgpu_failure* why);
VGPU_API int vgpu_queue_push_synchronize(vgpu_queue* queue, const struct vgpu_reply_place* reply,
                                         uint64_t* point, struct vgpu_failure* why);
VGPU_API int vgpu_queue_push_vector_add(vgpu_queue* queue, uint32_t type, uint64_t to, uint64_t a,
                                        uint64_t b, uint64_t count,
                                        const struct vgpu_reply_place* reply, uint64_t* point,
                                        struct vgpu_failure* why);
VGPU_API int vgpu_queue_push_saxpy(vgpu_queue* queue, uint32_t type, uint64_t y, uint64_t x,
                                   uint32_t alpha_bits, uint64_t count,
                                   const struct vgpu_reply_place* reply, uint64_t* point,
                                   struct vgpu_failure* why);
VGPU_API int vgpu_queue_push_matmul(vgpu_queue* queue, uint32_t type, uint64_t to, uint64_t a,
                                    uint64_t b, uint32_t m, uint32_t n, uint32_t k,
                                    const struct vgpu_reply_place* reply, uint64_t* point,
                                    struct vgpu_failure* why);
VGPU_API int vgpu_queue_push_reduce_sum(vgpu_queue* queue, uint32_t type, uint64_t from,
                                        uint64_t count, const struct vgpu_reply_place* reply,
                                        uint64_t* point, struct vgpu_failure* why);

/*
 * The operations as blocking calls, equivalent to the functions of vgpu.h without `queue_` in their
 * names. Errors, and the behaviour when the ring is full, are those of vgpu_queue_call. copy_to and
 * copy_from copy from and to the program's own memory, piecewise through the heap; the time-out
 * applies to the whole copy.
 */
VGPU_API int vgpu_queue_nop(vgpu_queue* queue, uint32_t timeout_ms, struct vgpu_failure* why);
VGPU_API int vgpu_queue_add(vgpu_queue* queue, uint32_t a, uint32_t b, uint32_t timeout_ms,
                            uint32_t* sum, struct vgpu_failure* why);
VGPU_API int vgpu_queue_device_info(vgpu_queue* queue, uint32_t timeout_ms,
                                    struct vgpu_gpu_info* info, struct vgpu_failure* why);
VGPU_API int vgpu_queue_alloc(vgpu_queue* queue, uint64_t size, uint32_t timeout_ms,
                              uint32_t* handle, struct vgpu_failure* why);
VGPU_API int vgpu_queue_free(vgpu_queue* queue, uint32_t handle, uint32_t timeout_ms,
                             struct vgpu_failure* why);
VGPU_API int vgpu_queue_copy_to(vgpu_queue* queue, uint32_t handle, uint64_t offset,
                                const void* from, size_t length, uint32_t timeout_ms,
                                struct vgpu_failure* why);
VGPU_API int vgpu_queue_copy_from(vgpu_queue* queue, uint32_t handle, uint64_t offset, void* to,
                                  size_t length, uint32_t timeout_ms, struct vgpu_failure* why);
VGPU_API int vgpu_queue_copy_within(vgpu_queue* queue, uint32_t to, uint64_t to_offset,
                                    uint32_t from, uint64_t from_offset, uint64_t length,
                                    uint32_t timeout_ms, struct vgpu_failure* why);
VGPU_API int vgpu_queue_synchronize(vgpu_queue* queue, uint32_t timeout_ms,
                                    struct vgpu_failure* why);
VGPU_API int vgpu_queue_vector_add(vgpu_queue* queue, uint32_t type, uint64_t to, uint64_t a,
                                   uint64_t b, uint64_t count, uint32_t timeout_ms,
                                   struct vgpu_failure* why);
VGPU_API int vgpu_queue_saxpy(vgpu_queue* queue, uint32_t type, uint64_t y, uint64_t x,
                              uint32_t alpha_bits, uint64_t count, uint32_t timeout_ms,
                              struct vgpu_failure* why);
VGPU_API int vgpu_queue_matmul(vgpu_queue* queue, uint32_t type, uint64_t to, uint64_t a,
                               uint64_t b, uint32_t m, uint32_t n, uint32_t k, uint32_t timeout_ms,
                               struct vgpu_failure* why);
VGPU_API int vgpu_queue_reduce_sum(vgpu_queue* queue, uint32_t type, uint64_t from, uint64_t count,
                                   uint32_t timeout_ms, uint32_t* sum_bits,
                                   struct vgpu_failure* why);

#ifdef __cplusplus
}
#endif

#endif /* VGPU_QUEUE_H */
