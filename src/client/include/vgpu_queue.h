/* SPDX-License-Identifier: MIT */
/*
 * vgpu_queue.h: the fast path of libvgpu. Included by vgpu.h, whose rules hold here too.
 *
 * Commands go to the mediator through queues in memory that program, mediator and GPU share, and
 * bulk data lies in that memory's heap, where the GPU reads and writes it. Many commands are under
 * way at a time; a queue's timeline counts those that have completed.
 *
 *   vgpu_queue *queue;
 *   uint64_t point;
 *   vgpu_queue_open(gpu, VGPU_QUEUE_ANY, 1000, &queue, &why);
 *   for (i = 0; i < 64; ++i)
 *       vgpu_queue_push_nop(queue, NULL, &point, &why);       in the ring, not yet visible
 *   vgpu_queue_flush(queue, &why);                            visible: the mediator goes to work
 *   vgpu_queue_wait(queue, point, 1000, &why);                until the last one has completed
 *   vgpu_queue_close(queue);
 *
 * Rules beside those of vgpu.h
 * - Offsets are bytes from the start of the shared memory; 0 is never a place and stands for none.
 * - Threads: a queue is used by one thread at a time. Different queues of a device, and the device
 *   itself, may be used by different threads at the same time. vgpu_queue_open, vgpu_queue_close,
 *   vgpu_heap_alloc, vgpu_heap_free, vgpu_generation, vgpu_get_shm_info and vgpu_get_heap_info may
 *   be called by any thread at any time.
 * - Processes: several processes of a VM may use a device at the same time, each its own queues and
 *   its own pieces of the heap. The kernel takes back what a process had when it ends. A process
 *   that has forked goes on in the parent only.
 * - A device's queues and blocks are given back before vgpu_close.
 * - Where there are no queues (a device or a mediator without the fast path), the functions here
 *   give VGPU_E_NO_QUEUES, and those of vgpu.h work all the same.
 */
#ifndef VGPU_QUEUE_H
#define VGPU_QUEUE_H

#ifndef VGPU_H
#error "include vgpu.h, which includes this file"
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define VGPU_QUEUE_ANY UINT32_MAX /* the first queue that nobody has */

/* The shared memory. */
struct vgpu_shm_info {
    uint64_t size;        /* bytes; 0: the device has none */
    uint32_t queue_count; /* queues in it, whoever has them */
    uint32_t ring_size;   /* bytes of each queue's ring */
    uint64_t heap_offset;
    uint64_t heap_size;    /* bytes */
    uint64_t generation;   /* 0: no mediator serves it now */
    uint32_t free_queues;  /* that nobody had when this was asked */
    int32_t has_interrupt; /* 1: waiting for a queue can sleep until an interrupt */
};

/* A piece of the heap. */
struct vgpu_heap_block {
    uint64_t offset;
    uint64_t size; /* bytes, at least what was asked for */
    void* pointer; /* where this process sees it */
};

struct vgpu_heap_info {
    uint64_t size;       /* bytes of the heap */
    uint64_t chunk_size; /* bytes; processes take the heap by chunks of this size */
    uint64_t taken;      /* bytes of the chunks that this device handle has taken */
    uint64_t allocated;  /* bytes of its blocks in them */
    uint64_t available;  /* bytes of the chunks that nobody has */
};

/*
 * A command, as the record of section 14 of docs/protocol.md. All pointers are borrowed for the
 * call only; what lies in the heap stays in use until the command has completed.
 */
struct vgpu_queue_command {
    uint32_t opcode;         /* enum vgpu_opcode or vendor-specific */
    uint32_t flags;          /* VGPU_FLAG_BOOST, VGPU_FLAG_HEAP_OPERANDS */
    const uint32_t* params;  /* may be NULL if param_count is 0 */
    const void* inline_data; /* may be NULL if inline_length is 0 */
    uint32_t param_count;
    uint32_t inline_length;  /* bytes; the whole record may not exceed VGPU_RECORD_MAX */
    uint64_t data_offset;    /* bulk data in the heap, or 0 */
    uint64_t data_length;    /* bytes */
    uint64_t reply_offset;   /* where the reply goes, a multiple of VGPU_REPLY_ALIGN; 0: none */
    uint64_t cookie;         /* comes back in the reply */
    uint32_t reply_capacity; /* bytes there, at least 32; 0 if there is no reply */
    uint32_t reserved;       /* 0 */
};

/* Where a reply goes; a block of the heap, or a part of one. NULL in its stead: no reply. */
struct vgpu_reply_place {
    uint64_t offset;   /* a multiple of VGPU_REPLY_ALIGN */
    uint64_t cookie;   /* any number; a reply with another one is VGPU_E_BAD_RESPONSE */
    uint32_t capacity; /* bytes: 32, 4 for each result, and the data. 256 have room for any sentence
                          worth reading */
    uint32_t reserved; /* 0 */
};

/* A reply that has been checked. The pointers lead into the heap: valid until the place is used
 * again. */
struct vgpu_reply_view {
    uint64_t cookie;
    uint32_t status; /* 0, or enum vgpu_error */
    uint32_t exec_time_us;
    uint32_t result_count;
    uint32_t data_length; /* bytes */
    const uint32_t* results;
    const void* data; /* where status is not 0: a sentence, without a terminating zero */
};

/*
 * An operand of the arithmetic below is a buffer's handle, or a place in the heap (a multiple of
 * 4), in which the GPU then works directly.
 */
#define VGPU_HEAP_OPERAND(offset) ((uint64_t)(offset) | (uint64_t)VGPU_OPERAND_HI_HEAP << 32)

typedef struct vgpu_queue vgpu_queue;

/* What there is. Works without a mediator. A device without shared memory: size is 0. */
VGPU_API int vgpu_get_shm_info(vgpu_device* device, struct vgpu_shm_info* info,
                               struct vgpu_failure* why);
/*
 * The number of the mediator's present life with this device: another number than before says that
 * buffers (handles) and what was under way are gone. 0: no mediator serves the shared memory. What
 * lies in the heap stays. Loads from memory, and with PCI a register.
 */
VGPU_API uint64_t vgpu_generation(vgpu_device* device);

/*
 * Takes queue `index`, or any that is free, and begins it anew: what an earlier owner has left in
 * it is dropped, and this returns once the queue runs. With "unix:", a connection that has ended is
 * made again first. VGPU_E_NO_QUEUES; VGPU_E_IN_USE if somebody has it, or all of them;
 * VGPU_E_MEDIATOR_LOST, VGPU_E_WAIT_TIMEOUT, VGPU_E_ARGUMENT.
 */
VGPU_API int vgpu_queue_open(vgpu_device* device, uint32_t index, uint32_t timeout_ms,
                             vgpu_queue** queue, struct vgpu_failure* why);
/*
 * Consumes the queue; NULL is allowed. Commands that the mediator has not begun are dropped, and
 * those it has begun are waited for, up to two seconds.
 */
VGPU_API void vgpu_queue_close(vgpu_queue* queue);
VGPU_API uint32_t vgpu_queue_index(const vgpu_queue* queue);

/*
 * Puts a command into the ring; the mediator sees it with the next flush. *point (may be NULL) is
 * what the timeline has to reach for it to be complete; points grow by 1. Never waits.
 * VGPU_E_QUEUE_FULL: nothing was done; flush, wait for an earlier command, try again.
 * VGPU_E_ARGUMENT (too long), VGPU_E_BAD_RESPONSE (the mediator is faulty).
 */
VGPU_API int vgpu_queue_push(vgpu_queue* queue, const struct vgpu_queue_command* command,
                             uint64_t* point, struct vgpu_failure* why);
/* Makes all that was pushed visible, and wakes the mediator if it sleeps. Never waits. */
VGPU_API int vgpu_queue_flush(vgpu_queue* queue, struct vgpu_failure* why);
/* vgpu_queue_push and vgpu_queue_flush. */
VGPU_API int vgpu_queue_submit(vgpu_queue* queue, const struct vgpu_queue_command* command,
                               uint64_t* point, struct vgpu_failure* why);

/*
 * Waits until the timeline has reached `point`: that command and all before it have ended, each
 * well or not, and their replies can be read. Flushes first. Spins for vgpu_options.spin_us, then
 * does as wait_mode says. May be repeated after VGPU_E_WAIT_TIMEOUT.
 * VGPU_E_QUEUE_STOPPED: the mediator found the queue itself at fault (a reply place outside the
 * heap, say), and that command will never be executed; the message says why. VGPU_E_MEDIATOR_LOST.
 * After either: close the queue, and open one.
 */
VGPU_API int vgpu_queue_wait(vgpu_queue* queue, uint64_t point, uint32_t timeout_ms,
                             struct vgpu_failure* why);
/* The timeline: what has completed. A load. */
VGPU_API uint64_t vgpu_queue_completed(vgpu_queue* queue);
/* The point of the command pushed last. */
VGPU_API uint64_t vgpu_queue_submitted(const vgpu_queue* queue);

/*
 * Reads the reply at `place`. To be called once its command has completed. Gives the reply's status
 * (the mediator's sentence is then in why->message), or VGPU_E_BAD_RESPONSE if it contradicts
 * itself or bears another cookie. *view (may be NULL) is filled in all cases but that one.
 */
VGPU_API int vgpu_queue_reply_read(vgpu_queue* queue, const struct vgpu_reply_place* place,
                                   struct vgpu_reply_view* view, struct vgpu_failure* why);
/* vgpu_queue_wait, then vgpu_queue_reply_read. */
VGPU_API int vgpu_queue_finish(vgpu_queue* queue, uint64_t point,
                               const struct vgpu_reply_place* place, uint32_t timeout_ms,
                               struct vgpu_reply_view* view, struct vgpu_failure* why);
/*
 * Submits a command and waits for its reply, which goes to a place of the queue's own:
 * reply_offset, reply_capacity and cookie of `command` are ignored. `reply` may be NULL. When the
 * ring is full, earlier commands are waited for first. Errors as for vgpu_queue_push,
 * vgpu_queue_wait and vgpu_queue_reply_read.
 */
VGPU_API int vgpu_queue_call(vgpu_queue* queue, const struct vgpu_queue_command* command,
                             uint32_t timeout_ms, struct vgpu_reply* reply,
                             struct vgpu_failure* why);

/*
 * Takes `size` bytes (at least 1) of the heap, aligned to `alignment` (a power of two up to 4096;
 * 0: 64). They hold what was there before, perhaps another process's. A block is given back with
 * vgpu_heap_free once no command uses it any more. VGPU_E_NO_MEMORY: no such piece is free.
 * VGPU_E_BUSY: work of a process that has ended still goes on; try again.
 */
VGPU_API int vgpu_heap_alloc(vgpu_device* device, uint64_t size, uint64_t alignment,
                             struct vgpu_heap_block* block, struct vgpu_failure* why);
VGPU_API int vgpu_heap_free(vgpu_device* device, const struct vgpu_heap_block* block,
                            struct vgpu_failure* why);
VGPU_API int vgpu_get_heap_info(vgpu_device* device, struct vgpu_heap_info* info,
                                struct vgpu_failure* why);

/*
 * The operations, as commands: each pushes one record, as vgpu_queue_push does, with its errors.
 * `reply` may be NULL. The reply's results: for add the sum, for alloc the handle, for reduce_sum
 * the sum's bits, for device_info those of enum vgpu_device_info_result, and the name as data.
 *
 * copy_to and copy_from move `length` bytes, any number, between a buffer and the heap; data in the
 * heap may not change while the command is under way. Operands `to`, `a`, `b`, `y`, `x`, `from` of
 * the arithmetic are handles or VGPU_HEAP_OPERAND(offset).
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
 * The operations, waited for, as their namesakes in vgpu.h on a device: what vgpu_queue_call says
 * of errors and a full ring holds. copy_to and copy_from take the program's own memory and move it
 * through the heap, piece by piece; the limit is that of the whole copy.
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
