/* SPDX-License-Identifier: MIT */
/*
 * vgpu-regs.h: the register file of BAR0, independent of QEMU.
 *
 * Implements reads and writes, the transitions of STATUS, acknowledgement by
 * the guest, matching of responses to requests, and the interrupt condition.
 * QEMU's vgpu-stub and every other implementation of these registers share this
 * file, so a guest cannot distinguish them. docs/protocol.md specifies the
 * registers; vgpu_protocol.h has their offsets.
 *
 *   IDLE, DONE, ERROR -- vgpu_regs_write(DOORBELL) ------> BUSY
 *   IDLE, DONE, ERROR -- the same, rejected -------------> ERROR
 *   BUSY -- vgpu_regs_answer() --------------------------> DONE or ERROR
 *   BUSY -- vgpu_regs_fail() ----------------------------> ERROR
 *   DONE, ERROR -- read of the acknowledging register ---> IDLE
 *
 * The guest is hostile and the mediator may be faulty: every offset, size and
 * length is checked here; no function asserts, allocates, blocks or does I/O.
 * Results tell the caller what to do (send the request, update the interrupt).
 * The caller serialises all calls on one struct vgpu_regs; QEMU does so with
 * its global lock.
 */
#ifndef VGPU_REGS_H
#define VGPU_REGS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "vgpu_protocol.h"

/*
 * Maximum number of abandoned requests (timed out, or dropped by a reset) whose
 * responses are outstanding on the connection. Beyond it the connection must be
 * dropped.
 */
#define VGPU_REGS_MAX_ABANDONED 64u

struct vgpu_regs {
    /* Configuration, set once by vgpu_regs_init(). */
    uint32_t pool_id;
    uint32_t priority;
    uint32_t vm_id;
    uint32_t capabilities;
    /* hold a request without a connection instead of rejecting it */
    bool wait_for_link;
    /* Shared memory, set by vgpu_regs_init_shm(); all 0 without it. */
    uint64_t shm_size;     /* bytes */
    uint32_t queue_count;  /* at most VGPU_QUEUES_MAX */
    uint32_t msix_vectors; /* 1 + queue_count, or 0 */

    /* State that is visible to the guest and migrated. */
    uint32_t status; /* enum vgpu_status */
    uint32_t error_code;
    uint32_t request_len;
    uint32_t response_len;
    uint32_t irq_ctrl;
    /* without VGPU_IRQ_QUEUE, which follows from queue_irq */
    uint32_t irq_status;
    uint64_t queue_irq; /* bit q: queue q was interrupted */
    uint32_t request_id;
    uint64_t timestamp; /* ns */
    uint32_t scratch;
    uint8_t request[VGPU_BUF_SIZE];
    uint8_t response[VGPU_BUF_SIZE];

    /*
     * An interrupt message (MSI) is due; the caller sends it and calls
     * vgpu_regs_take_notify().
     */
    bool notify;

    /*
     * A mediator serves the shared memory: not migrated, cleared by a device
     * reset.
     */
    bool attached;

    /* State of the connection: not migrated, survives a device reset. */
    bool link_up;
    uint32_t abandoned_count;
    uint32_t abandoned[VGPU_REGS_MAX_ABANDONED];

    /*
     * The request in flight, valid while BUSY: a copy, so the guest may change
     * its buffer.
     */
    uint32_t inflight_id;
    uint32_t inflight_len; /* bytes, 1..VGPU_BUF_SIZE */
    bool held;             /* not sent yet, so no response is outstanding */
    uint8_t inflight[VGPU_BUF_SIZE];
};

/* Action required of the caller after a register access. Bits. */
/* invalid access, ignored; the caller may log it */
#define VGPU_REGS_GUEST_ERROR (1u << 0)
/* send inflight[0..inflight_len), or connect if held */
#define VGPU_REGS_SUBMIT (1u << 1)
#define VGPU_REGS_IRQ_CHANGED (1u << 2) /* update the interrupt */
/* the doorbell ended in ERROR at once: error_code */
#define VGPU_REGS_NOT_TAKEN (1u << 3)
/* this read acknowledged a completion */
#define VGPU_REGS_ACKNOWLEDGED (1u << 4)
/* wake the server of queue vgpu_regs_doorbell_queue() */
#define VGPU_REGS_QUEUE_RUNG (1u << 5)

/* Result of matching a response. */
enum vgpu_regs_verdict {
    VGPU_REGS_COMPLETED, /* the request in flight has ended in DONE or ERROR */
    VGPU_REGS_LATE,      /* belongs to an abandoned request: dropped */
    VGPU_REGS_UNKNOWN,   /* no outstanding request has this id: dropped */
};

/*
 * Restores reset values. Keeps the state of the connection and its outstanding
 * responses.
 */
static inline void vgpu_regs_clear(struct vgpu_regs *r)
{
    r->status = VGPU_STATUS_IDLE;
    r->error_code = 0;
    r->request_len = 0;
    r->response_len = 0;
    r->irq_ctrl = 0;
    r->irq_status = 0;
    r->queue_irq = 0;
    r->attached = false;
    r->request_id = 0;
    r->timestamp = 0;
    r->scratch = 0;
    memset(r->request, 0, sizeof(r->request));
    memset(r->response, 0, sizeof(r->response));
    r->notify = false;
    r->inflight_id = 0;
    r->inflight_len = 0;
    r->held = false;
}

/*
 * `pool` is an ASCII letter, `priority` an enum vgpu_priority; the caller has
 * checked them.
 */
static inline void vgpu_regs_init(struct vgpu_regs *r, uint8_t pool,
                                  uint8_t priority, uint32_t vm_id)
{
    memset(r, 0, sizeof(*r));
    r->pool_id = pool;
    r->priority = priority;
    r->vm_id = vm_id;
    r->capabilities = VGPU_CAP_BASIC_REQUEST | VGPU_CAP_INTERRUPT;
}

/*
 * Makes this the minimal version 1 device: CAPABILITIES is 1. IRQ_CTRL and
 * IRQ_STATUS exist, but nothing interrupts. Call once, after vgpu_regs_init(),
 * and not together with shared memory.
 */
static inline void vgpu_regs_init_basic(struct vgpu_regs *r)
{
    r->capabilities = VGPU_CAP_BASIC_REQUEST;
}

static inline bool vgpu_regs_has_interrupt(const struct vgpu_regs *r)
{
    return (r->capabilities & VGPU_CAP_INTERRUPT) != 0;
}

/*
 * Gives the device shared memory of `size` bytes with `queues` queues, and
 * `msix_vectors` vectors (0: no MSI-X). Call once, after vgpu_regs_init(); the
 * caller has checked the numbers.
 */
static inline void vgpu_regs_init_shm(struct vgpu_regs *r, uint64_t size,
                                      uint32_t queues, uint32_t msix_vectors)
{
    r->capabilities |= VGPU_CAP_DMA | VGPU_CAP_MULTI_REQUEST;
    r->shm_size = size;
    r->queue_count = queues;
    r->msix_vectors = msix_vectors;
}

static inline bool vgpu_regs_has_shm(const struct vgpu_regs *r)
{
    return (r->capabilities & VGPU_CAP_DMA) != 0;
}

/* Bits implemented in IRQ_CTRL. */
static inline uint32_t vgpu_regs_irq_mask(const struct vgpu_regs *r)
{
    return vgpu_regs_has_shm(r)
               ? VGPU_IRQ_COMPLETION | VGPU_IRQ_SHM_STATE | VGPU_IRQ_QUEUE
               : VGPU_IRQ_COMPLETION;
}

/* IRQ_STATUS as a guest reads it. */
static inline uint32_t vgpu_regs_irq_status(const struct vgpu_regs *r)
{
    return r->irq_status | (r->queue_irq ? VGPU_IRQ_QUEUE : 0);
}

/* Level of the INTx line. */
static inline bool vgpu_regs_irq_level(const struct vgpu_regs *r)
{
    return vgpu_regs_has_interrupt(r) &&
           (vgpu_regs_irq_status(r) & r->irq_ctrl) != 0;
}

/* SHM_STATE has changed, or may have since the guest last read it. */
static inline void vgpu_regs_shm_state_changed(struct vgpu_regs *r)
{
    r->irq_status |= VGPU_IRQ_SHM_STATE;
    if (r->irq_ctrl & VGPU_IRQ_SHM_STATE) {
        r->notify = true;
    }
}

/* Queue `queue` < queue_count was interrupted, and MSI-X is not enabled. */
static inline void vgpu_regs_queue_interrupt(struct vgpu_regs *r,
                                             uint32_t queue)
{
    r->queue_irq |= (uint64_t)1 << queue;
    if (r->irq_ctrl & VGPU_IRQ_QUEUE) {
        r->notify = true;
    }
}

/* Returns true once for each interrupt message (MSI) that is due. */
static inline bool vgpu_regs_take_notify(struct vgpu_regs *r)
{
    bool due = r->notify && vgpu_regs_has_interrupt(r);

    r->notify = false;
    return due;
}

/* Ends a request, accepted or not. `error` 0 makes it DONE. */
static inline void vgpu_regs_finish(struct vgpu_regs *r, uint32_t error,
                                    uint64_t now_ns)
{
    r->status = error == VGPU_ERR_NONE ? VGPU_STATUS_DONE : VGPU_STATUS_ERROR;
    r->error_code = error;
    r->timestamp = now_ns;
    r->irq_status |= VGPU_IRQ_COMPLETION;
    if (r->irq_ctrl & VGPU_IRQ_COMPLETION) {
        r->notify = true;
    }
}

static inline uint32_t vgpu_regs_doorbell(struct vgpu_regs *r, uint64_t now_ns)
{
    uint32_t error = VGPU_ERR_NONE;

    if (r->status == VGPU_STATUS_BUSY) {
        return 0;
    }
    r->error_code = 0;
    r->response_len = 0;
    if (r->request_len == 0) {
        error = VGPU_ERR_INVALID_LENGTH;
    } else if (r->request_len > VGPU_BUF_SIZE) {
        error = VGPU_ERR_REQUEST_TOO_LARGE;
    } else if (!r->link_up && !r->wait_for_link) {
        error = VGPU_ERR_MEDIATOR_UNAVAILABLE;
    }
    if (error != VGPU_ERR_NONE) {
        vgpu_regs_finish(r, error, now_ns);
        return VGPU_REGS_NOT_TAKEN | VGPU_REGS_IRQ_CHANGED;
    }
    r->status = VGPU_STATUS_BUSY;
    r->inflight_id = r->request_id;
    r->inflight_len = r->request_len;
    memcpy(r->inflight, r->request, r->inflight_len);
    r->held = !r->link_up;
    return VGPU_REGS_SUBMIT;
}

static inline uint32_t vgpu_regs_read_register(struct vgpu_regs *r,
                                               uint64_t offset,
                                               uint32_t *effect)
{
    switch (offset) {
    case VGPU_REG_STATUS:
        return r->status;
    case VGPU_REG_POOL_ID:
        return r->pool_id;
    case VGPU_REG_PRIORITY:
        return r->priority;
    case VGPU_REG_VM_ID:
        return r->vm_id;
    case VGPU_REG_ERROR_CODE:
        if (r->status == VGPU_STATUS_ERROR) {
            r->status = VGPU_STATUS_IDLE;
            *effect |= VGPU_REGS_ACKNOWLEDGED;
        }
        return r->error_code;
    case VGPU_REG_REQUEST_LEN:
        return r->request_len;
    case VGPU_REG_RESPONSE_LEN:
        if (r->status == VGPU_STATUS_DONE) {
            r->status = VGPU_STATUS_IDLE;
            *effect |= VGPU_REGS_ACKNOWLEDGED;
        }
        return r->response_len;
    case VGPU_REG_PROTOCOL_VER:
        return VGPU_PROTOCOL_VERSION;
    case VGPU_REG_CAPABILITIES:
        return r->capabilities;
    case VGPU_REG_IRQ_CTRL:
        return r->irq_ctrl;
    case VGPU_REG_IRQ_STATUS:
        return vgpu_regs_irq_status(r);
    case VGPU_REG_REQUEST_ID:
        return r->request_id;
    case VGPU_REG_TIMESTAMP_LO:
        return (uint32_t)r->timestamp;
    case VGPU_REG_TIMESTAMP_HI:
        return (uint32_t)(r->timestamp >> 32);
    case VGPU_REG_SCRATCH:
        return r->scratch;
    case VGPU_REG_SHM_SIZE_LO:
        return (uint32_t)r->shm_size;
    case VGPU_REG_SHM_SIZE_HI:
        return (uint32_t)(r->shm_size >> 32);
    case VGPU_REG_QUEUE_COUNT:
        return r->queue_count;
    case VGPU_REG_SHM_STATE:
        return r->attached ? VGPU_SHM_ATTACHED : 0;
    case VGPU_REG_MSIX_VECTORS:
        return r->msix_vectors;
    case VGPU_REG_QUEUE_IRQ_LO:
        return (uint32_t)r->queue_irq;
    case VGPU_REG_QUEUE_IRQ_HI:
        return (uint32_t)(r->queue_irq >> 32);
    default: /* doorbells, reserved */
        return 0;
    }
}

/*
 * Returns whether `offset` is in a register; without shared memory none follow
 * the buffers.
 */
static inline bool vgpu_regs_is_register(const struct vgpu_regs *r,
                                         uint64_t offset)
{
    return offset < VGPU_REGS_END ||
           (offset >= VGPU_RESERVED_BEGIN && vgpu_regs_has_shm(r));
}

static inline bool vgpu_regs_access_is_wrong(const struct vgpu_regs *r,
                                             uint64_t offset, unsigned size)
{
    return vgpu_regs_is_register(r, offset) && (size != 4 || offset % 4 != 0);
}

static inline bool vgpu_regs_is_queue_doorbell(uint64_t offset)
{
    return offset >= VGPU_REG_QUEUE_DOORBELL &&
           offset < VGPU_QUEUE_DOORBELL_END;
}

/*
 * Returns the queue of the doorbell at `offset`. Precondition:
 * vgpu_regs_is_queue_doorbell().
 */
static inline uint32_t vgpu_regs_doorbell_queue(uint64_t offset)
{
    return (uint32_t)((offset - VGPU_REG_QUEUE_DOORBELL) /
                      VGPU_QUEUE_DOORBELL_STRIDE);
}

/* Reads one byte at `offset` of the buffers; 0 beyond them. */
static inline uint8_t vgpu_regs_read_byte(struct vgpu_regs *r, uint64_t offset,
                                          uint32_t *effect)
{
    if (offset < VGPU_RESPONSE_BUF) {
        return r->request[offset - VGPU_REQUEST_BUF];
    }
    if (offset >= VGPU_RESERVED_BEGIN) {
        return 0;
    }
    if (r->status == VGPU_STATUS_DONE) {
        r->status = VGPU_STATUS_IDLE;
        *effect |= VGPU_REGS_ACKNOWLEDGED;
    }
    return r->response[offset - VGPU_RESPONSE_BUF];
}

/*
 * Guest read of `size` (1 to 8) bytes at `offset` of BAR0. The value is
 * little-endian in the low bytes of the result. *effect: VGPU_REGS_GUEST_ERROR,
 * VGPU_REGS_ACKNOWLEDGED or 0.
 */
static inline uint64_t vgpu_regs_read(struct vgpu_regs *r, uint64_t offset,
                                      unsigned size, uint32_t *effect)
{
    uint64_t value = 0;
    unsigned i;

    *effect = 0;
    if (vgpu_regs_access_is_wrong(r, offset, size)) {
        *effect = VGPU_REGS_GUEST_ERROR;
        return 0;
    }
    if (vgpu_regs_is_register(r, offset)) {
        return vgpu_regs_read_register(r, offset, effect);
    }
    if (offset >= VGPU_RESERVED_BEGIN) {
        return 0;
    }
    for (i = 0; i < size && i < 8; i++) {
        value |= (uint64_t)vgpu_regs_read_byte(r, offset + i, effect)
                 << (8 * i);
    }
    return value;
}

/*
 * Guest write to a register of the fast path, or to the reserved space around
 * them.
 */
static inline uint32_t vgpu_regs_write_shm(struct vgpu_regs *r, uint64_t offset,
                                           uint32_t word)
{
    if (vgpu_regs_is_queue_doorbell(offset)) {
        return vgpu_regs_doorbell_queue(offset) < r->queue_count
                   ? VGPU_REGS_QUEUE_RUNG
                   : VGPU_REGS_GUEST_ERROR;
    }
    switch (offset) {
    case VGPU_REG_QUEUE_IRQ_LO:
        r->queue_irq &= ~(uint64_t)word;
        return VGPU_REGS_IRQ_CHANGED;
    case VGPU_REG_QUEUE_IRQ_HI:
        r->queue_irq &= ~((uint64_t)word << 32);
        return VGPU_REGS_IRQ_CHANGED;
    case VGPU_REG_SHM_SIZE_LO:
    case VGPU_REG_SHM_SIZE_HI:
    case VGPU_REG_QUEUE_COUNT:
    case VGPU_REG_SHM_STATE:
    case VGPU_REG_MSIX_VECTORS:
        return VGPU_REGS_GUEST_ERROR;
    default: /* reserved */
        return 0;
    }
}

static inline uint32_t vgpu_regs_write_register(struct vgpu_regs *r,
                                                uint64_t offset, uint32_t word,
                                                uint64_t now_ns)
{
    bool level;

    switch (offset) {
    case VGPU_REG_DOORBELL:
        return word == 1 ? vgpu_regs_doorbell(r, now_ns)
                         : VGPU_REGS_GUEST_ERROR;
    case VGPU_REG_REQUEST_LEN:
        r->request_len = word;
        return 0;
    case VGPU_REG_IRQ_CTRL:
        level = vgpu_regs_irq_level(r);
        r->irq_ctrl = word & vgpu_regs_irq_mask(r);
        if (!level && vgpu_regs_irq_level(r)) {
            r->notify = true;
        }
        return VGPU_REGS_IRQ_CHANGED;
    case VGPU_REG_IRQ_STATUS:
        r->irq_status &= ~word;
        return VGPU_REGS_IRQ_CHANGED;
    case VGPU_REG_REQUEST_ID:
        r->request_id = word;
        return 0;
    case VGPU_REG_SCRATCH:
        r->scratch = word;
        return 0;
    default: /* read-only registers */
        return VGPU_REGS_GUEST_ERROR;
    }
}

/*
 * Guest write of the low `size` (1 to 8) bytes of `value` at `offset` of BAR0.
 * Returns bits of VGPU_REGS_*. `now_ns` is the time stamp of a completion that
 * happens at once.
 */
static inline uint32_t vgpu_regs_write(struct vgpu_regs *r, uint64_t offset,
                                       uint64_t value, unsigned size,
                                       uint64_t now_ns)
{
    unsigned i;

    if (vgpu_regs_access_is_wrong(r, offset, size)) {
        return VGPU_REGS_GUEST_ERROR;
    }
    if (!vgpu_regs_is_register(r, offset)) {
        for (i = 0; i < size && i < 8 && offset + i < VGPU_RESPONSE_BUF; i++) {
            r->request[offset + i - VGPU_REQUEST_BUF] =
                (uint8_t)(value >> (8 * i));
        }
        return 0;
    }
    if (offset >= VGPU_RESERVED_BEGIN) {
        return vgpu_regs_write_shm(r, offset, (uint32_t)value);
    }
    return vgpu_regs_write_register(r, offset, (uint32_t)value, now_ns);
}

/*
 * Removes `id` from the abandoned requests; returns false if absent. Keeps the
 * order.
 */
static inline bool vgpu_regs_forget_abandoned(struct vgpu_regs *r, uint32_t id)
{
    uint32_t i;

    for (i = 0; i < r->abandoned_count; i++) {
        if (r->abandoned[i] == id) {
            r->abandoned_count--;
            memmove(&r->abandoned[i], &r->abandoned[i + 1],
                    (r->abandoned_count - i) * sizeof(r->abandoned[0]));
            return true;
        }
    }
    return false;
}

/*
 * Abandons the request in flight, if any: its response will be dropped. Leaves
 * the guest-visible state unchanged. Returns false if too many responses are
 * outstanding: drop the connection.
 */
static inline bool vgpu_regs_abandon(struct vgpu_regs *r)
{
    if (r->status != VGPU_STATUS_BUSY) {
        return true;
    }
    if (r->held) {
        r->held = false; /* never sent */
        return true;
    }
    if (r->abandoned_count == VGPU_REGS_MAX_ABANDONED) {
        return false;
    }
    r->abandoned[r->abandoned_count++] = r->inflight_id;
    return true;
}

/* Ends the request in flight, if any, in ERROR `error` without a response. */
static inline bool vgpu_regs_fail(struct vgpu_regs *r, uint32_t error,
                                  uint64_t now_ns)
{
    if (r->status != VGPU_STATUS_BUSY) {
        return false;
    }
    r->held = false;
    vgpu_regs_finish(r, error, now_ns);
    return true;
}

/*
 * Times out the request in flight: ERROR 4, and its response will be dropped.
 * Returns false if too many responses are outstanding: drop the connection.
 */
static inline bool vgpu_regs_timeout(struct vgpu_regs *r, uint64_t now_ns)
{
    bool keep = vgpu_regs_abandon(r);

    vgpu_regs_fail(r, VGPU_ERR_TIMEOUT, now_ns);
    return keep;
}

/* Call on connect. No responses are outstanding. */
static inline void vgpu_regs_connected(struct vgpu_regs *r)
{
    r->link_up = true;
    r->abandoned_count = 0;
}

/*
 * Call on disconnect. Ends a request in flight in ERROR 3 and returns true
 * then. A request that has not been sent stays held if requests wait for a
 * connection.
 */
static inline bool vgpu_regs_disconnected(struct vgpu_regs *r, uint64_t now_ns)
{
    r->link_up = false;
    r->abandoned_count = 0;
    if (r->held && r->wait_for_link) {
        return false;
    }
    return vgpu_regs_fail(r, VGPU_ERR_MEDIATOR_UNAVAILABLE, now_ns);
}

/*
 * Device reset. Returns false if too many responses are outstanding: drop the
 * connection.
 */
static inline bool vgpu_regs_reset(struct vgpu_regs *r)
{
    bool keep = vgpu_regs_abandon(r);

    vgpu_regs_clear(r);
    return keep;
}

/*
 * Matches a response with `id` to its request. Only VGPU_REGS_COMPLETED lets
 * the caller proceed.
 */
static inline enum vgpu_regs_verdict vgpu_regs_match(struct vgpu_regs *r,
                                                     uint32_t id)
{
    /*
     * A mediator responds to requests with the same id in order, so the first
     * is the oldest's.
     */
    if (vgpu_regs_forget_abandoned(r, id)) {
        return VGPU_REGS_LATE;
    }
    if (r->status != VGPU_STATUS_BUSY || r->held || r->inflight_id != id) {
        return VGPU_REGS_UNKNOWN;
    }
    return VGPU_REGS_COMPLETED;
}

/* The mediator has rejected the request with `id`: it ends in ERROR `error`. */
static inline enum vgpu_regs_verdict vgpu_regs_refused(struct vgpu_regs *r,
                                                       uint32_t id,
                                                       uint32_t error,
                                                       uint64_t now_ns)
{
    enum vgpu_regs_verdict verdict = vgpu_regs_match(r, id);

    if (verdict == VGPU_REGS_COMPLETED) {
        vgpu_regs_finish(r, error, now_ns);
    }
    return verdict;
}

/*
 * Handles the response to the request with `id`. `len` is sizeof(struct
 * vgpu_response) to VGPU_BUF_SIZE; the caller has checked it, and a length out
 * of range has no effect.
 */
static inline enum vgpu_regs_verdict vgpu_regs_answer(struct vgpu_regs *r,
                                                      uint32_t id,
                                                      const uint8_t *payload,
                                                      uint32_t len,
                                                      uint64_t now_ns)
{
    enum vgpu_regs_verdict verdict;
    struct vgpu_response head;

    if (len < sizeof(head) || len > VGPU_BUF_SIZE) {
        return VGPU_REGS_UNKNOWN;
    }
    verdict = vgpu_regs_match(r, id);
    if (verdict != VGPU_REGS_COMPLETED) {
        return verdict;
    }
    memcpy(&head, payload, sizeof(head));
    memcpy(r->response, payload, len);
    r->response_len = len;
    /*
     * ERROR_CODE holds codes up to 0xFF; a greater status is an unspecific
     * failure.
     */
    vgpu_regs_finish(
        r, head.status > 0xFF ? (uint32_t)VGPU_ERR_CUDA : head.status, now_ns);
    return verdict;
}

/*
 * Returns whether the migrated state is one that this device could have saved.
 * A migration stream is untrusted input: call this before the guest runs on it.
 */
static inline bool vgpu_regs_valid(const struct vgpu_regs *r)
{
    uint32_t irqs = vgpu_regs_irq_mask(r);
    uint64_t queues =
        r->queue_count < 64 ? ((uint64_t)1 << r->queue_count) - 1 : UINT64_MAX;

    return r->status <= VGPU_STATUS_ERROR && r->status != VGPU_STATUS_BUSY &&
           r->error_code <= 0xFF && r->response_len <= VGPU_BUF_SIZE &&
           (r->irq_ctrl & ~irqs) == 0 &&
           (r->irq_status & ~(irqs & ~VGPU_IRQ_QUEUE)) == 0 &&
           (r->queue_irq & ~queues) == 0;
}

#endif /* VGPU_REGS_H */
