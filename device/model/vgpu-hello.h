/* SPDX-License-Identifier: MIT */
/*
 * vgpu-hello.h: how a device with shared memory attaches to a mediator.
 * Independent of QEMU.
 *
 * docs/protocol.md, section 15. States of a connection, as the device sees it:
 *
 *   none ------ connected, BAR2 mapped: hello sent ------> WAITING
 *   none ------ connected, BAR2 not mapped --------------> UNSEEN
 *   none ------ connected after a failed hello, or
 *               descriptors cannot be passed ------------> VERSION_1
 *   UNSEEN ---- BAR2 mapped: hello sent -----------------> WAITING
 *   UNSEEN ---- something else sent ---------------------> VERSION_1
 *   WAITING --- reply: accepted -------------------------> SERVED
 *   WAITING --- reply: rejected -------------------------> VERSION_1
 *   any state - disconnect ------------------------------> none
 *
 * SERVED: the response to a device reset attaches the memory again. After a
 * disconnect from WAITING the next connection has no hello, and is replaced by
 * one with a hello a second later, once.
 *
 * The mediator learns of the memory once the guest can access it, and not
 * before: a guest may have no address space for BAR2, and never map it.
 * Unmapping it later has no effect, since that is part of every reset and of
 * every bus scan.
 *
 * As in the register file, no function does I/O or blocks: a result tells the
 * caller what to do. Messages of the mediator are checked here. A violation
 * ends the connection; as a wrong hello reply comes in WAITING, the next
 * connection is then version 1.
 */
#ifndef VGPU_HELLO_H
#define VGPU_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "vgpu_protocol.h"

#define VGPU_HELLO_FEATURES (VGPU_FEATURE_SHM | VGPU_FEATURE_QUEUES)
/*
 * After a failed hello, a connection without a hello is replaced by one with a
 * hello after this time, once: the mediator of the failed hello may have been
 * about to exit.
 */
#define VGPU_HELLO_RETRY_MS 1000
/* Bytes of a hello's longest message. */
#define VGPU_HELLO_MESSAGE_MAX \
    (sizeof(struct vgpu_msg_header) + sizeof(struct vgpu_msg_hello))

enum vgpu_hello_phase {
    VGPU_HELLO_NO_CONNECTION,
    /* nothing has been sent; the hello is sent when BAR2 is mapped */
    VGPU_HELLO_UNSEEN,
    /* hello sent, or being sent; no request may be sent */
    VGPU_HELLO_WAITING,
    VGPU_HELLO_SERVED,    /* the mediator serves the memory */
    VGPU_HELLO_VERSION_1, /* requests through the registers only */
};

/* Retry of a failed hello. */
enum vgpu_hello_retry {
    VGPU_HELLO_RETRY_NONE,
    /* this connection has no hello because the last one failed */
    VGPU_HELLO_RETRY_LATER,
    VGPU_HELLO_RETRY_DUE,   /* replace this connection once it is idle */
    VGPU_HELLO_RETRY_ASKED, /* it was closed to be replaced */
    VGPU_HELLO_RETRY_VAIN,  /* the new connection failed as well */
};

struct vgpu_hello {
    /*
     * Configuration; shm_size 0: the device has no shared memory and never
     * sends a hello.
     */
    uint64_t shm_size; /* bytes */
    uint32_t queue_count;

    enum vgpu_hello_phase phase;
    bool skip_next; /* the next connection starts without a hello */
    enum vgpu_hello_retry retry;
    bool overtaken;       /* VERSION_1 only because BAR2 was not mapped */
    bool reset_meanwhile; /* the device was reset in WAITING */
    bool ended;           /* SERVED, but a reset was rejected */
    uint32_t resets;      /* not yet acknowledged by the mediator */
    uint64_t generation;  /* of the last reply */
};

/* Action required of the caller. */
enum vgpu_hello_verdict {
    VGPU_HELLO_NOTHING,
    VGPU_HELLO_SETTLED,    /* requests may be sent; the memory is not served */
    VGPU_HELLO_ATTACH,     /* the memory is served; requests may be sent */
    VGPU_HELLO_SEND_RESET, /* send SHM_RESET; requests may be sent */
    VGPU_HELLO_BAD,        /* drop the connection */
};

/* Messages of a hello: HELLO, and HELLO_QUEUE for each queue. */
static inline uint32_t vgpu_hello_messages(const struct vgpu_hello *h)
{
    return 1 + h->queue_count;
}

/*
 * Writes message `index` of the hello into `out` and returns its length in
 * bytes. `identity` has the VM's id, pool and priority. Message 0 carries one
 * descriptor, the memory; message 1 + q carries two, doorbell and interrupt of
 * queue q.
 */
static inline size_t vgpu_hello_encode(const struct vgpu_hello *h,
                                       const struct vgpu_msg_header *identity,
                                       uint32_t index,
                                       uint8_t out[VGPU_HELLO_MESSAGE_MAX])
{
    struct vgpu_msg_header header = *identity;
    struct vgpu_msg_hello hello;
    struct vgpu_msg_hello_queue queue;

    header.magic = VGPU_MSG_MAGIC;
    header.request_id = 0;
    if (index == 0) {
        memset(&hello, 0, sizeof(hello));
        hello.protocol_version = VGPU_PROTOCOL_VERSION;
        hello.peer_kind = VGPU_PEER_DEVICE;
        hello.features = VGPU_HELLO_FEATURES;
        hello.shm_size = h->shm_size;
        hello.layout_version = VGPU_SHM_LAYOUT_VERSION;
        hello.queue_count = h->queue_count;
        header.msg_type = VGPU_MSG_HELLO;
        header.payload_len = sizeof(hello);
        memcpy(out + sizeof(header), &hello, sizeof(hello));
    } else {
        memset(&queue, 0, sizeof(queue));
        queue.queue = index - 1;
        header.msg_type = VGPU_MSG_HELLO_QUEUE;
        header.payload_len = sizeof(queue);
        memcpy(out + sizeof(header), &queue, sizeof(queue));
    }
    memcpy(out, &header, sizeof(header));
    return sizeof(header) + header.payload_len;
}

/*
 * Call on connect. `passes_descriptors`: the connection can pass descriptors;
 * `mapped`: the guest has mapped BAR2. Returns true if the caller must send the
 * hello and allow the mediator VGPU_HELLO_TIMEOUT_MS to reply. Returns false if
 * requests may be sent.
 */
static inline bool vgpu_hello_connected(struct vgpu_hello *h,
                                        bool passes_descriptors, bool mapped)
{
    bool hello = h->shm_size != 0 && passes_descriptors && !h->skip_next;

    if (h->skip_next) {
        h->retry = h->retry == VGPU_HELLO_RETRY_ASKED ? VGPU_HELLO_RETRY_VAIN
                                                      : VGPU_HELLO_RETRY_LATER;
    }
    h->skip_next = false;
    h->overtaken = false;
    h->reset_meanwhile = false;
    h->ended = false;
    h->resets = 0;
    h->phase = !hello   ? VGPU_HELLO_VERSION_1
               : mapped ? VGPU_HELLO_WAITING
                        : VGPU_HELLO_UNSEEN;
    return hello && mapped;
}

/* Action required when the guest has mapped BAR2. */
enum vgpu_hello_order {
    VGPU_HELLO_KEEP, /* nothing */
    VGPU_HELLO_SAY,  /* send the hello */
    /* too late for a hello on this connection: replace it once it is idle */
    VGPU_HELLO_RENEW,
};

/* Call when BAR2 is mapped, even if it has been for some time. */
static inline enum vgpu_hello_order vgpu_hello_mapped(struct vgpu_hello *h)
{
    if (h->phase == VGPU_HELLO_UNSEEN) {
        h->phase = VGPU_HELLO_WAITING;
        return VGPU_HELLO_SAY;
    }
    return h->phase == VGPU_HELLO_VERSION_1 &&
                   (h->overtaken || h->retry == VGPU_HELLO_RETRY_DUE)
               ? VGPU_HELLO_RENEW
               : VGPU_HELLO_KEEP;
}

/* Returns whether the connection has no hello because the last hello failed. */
static inline bool vgpu_hello_is_skipped(const struct vgpu_hello *h)
{
    return h->phase == VGPU_HELLO_VERSION_1 &&
           h->retry == VGPU_HELLO_RETRY_LATER;
}

/* Call VGPU_HELLO_RETRY_MS after such a connection was made. */
static inline void vgpu_hello_retry_due(struct vgpu_hello *h)
{
    if (vgpu_hello_is_skipped(h)) {
        h->retry = VGPU_HELLO_RETRY_DUE;
    }
}

/* Call before closing the connection because of VGPU_HELLO_RENEW. */
static inline void vgpu_hello_renewed(struct vgpu_hello *h)
{
    if (h->retry == VGPU_HELLO_RETRY_DUE) {
        h->retry = VGPU_HELLO_RETRY_ASKED;
    }
}

/* Call before sending any message other than a hello. */
static inline void vgpu_hello_overtaken(struct vgpu_hello *h)
{
    if (h->phase == VGPU_HELLO_UNSEEN) {
        h->phase = VGPU_HELLO_VERSION_1;
        h->overtaken = true;
    }
}

/*
 * Call on disconnect, or when the connection is given up. Further calls have no
 * effect.
 */
static inline void vgpu_hello_disconnected(struct vgpu_hello *h)
{
    if (h->phase == VGPU_HELLO_WAITING) {
        h->skip_next = true;
    } else if (h->phase != VGPU_HELLO_NO_CONNECTION &&
               h->retry != VGPU_HELLO_RETRY_ASKED) {
        h->retry = VGPU_HELLO_RETRY_NONE;
    }
    h->phase = VGPU_HELLO_NO_CONNECTION;
}

/* Call on a reset of the device. Returns true if SHM_RESET must be sent. */
static inline bool vgpu_hello_reset(struct vgpu_hello *h)
{
    if (h->phase == VGPU_HELLO_WAITING) {
        /*
         * The software that ran before may have used the memory that the
         * mediator is setting up.
         */
        h->reset_meanwhile = true;
        return false;
    }
    if (h->phase != VGPU_HELLO_SERVED || h->ended) {
        return false;
    }
    h->resets++;
    return true;
}

/* Returns whether the fields of a reply are consistent with its status. */
static inline bool vgpu_hello_reply_is_right(
    const struct vgpu_msg_hello_reply *reply)
{
    if (reply->reserved[0] != 0 || reply->reserved[1] != 0) {
        return false;
    }
    if (reply->status != VGPU_HELLO_TAKEN) {
        return reply->layout_version == 0 && reply->features == 0 &&
               reply->generation == 0;
    }
    return reply->layout_version == VGPU_SHM_LAYOUT_VERSION &&
           reply->features == VGPU_HELLO_FEATURES && reply->generation != 0;
}

/*
 * Handles a HELLO_REPLY or SHM_RESET_DONE of the right length. On
 * VGPU_HELLO_BAD *reason is a static text that completes "the mediator ...".
 */
static inline enum vgpu_hello_verdict vgpu_hello_answer(struct vgpu_hello *h,
                                                        uint32_t msg_type,
                                                        const uint8_t *payload,
                                                        const char **reason)
{
    struct vgpu_msg_hello_reply reply;

    memcpy(&reply, payload, sizeof(reply));
    if (msg_type == VGPU_MSG_HELLO_REPLY
            ? h->phase != VGPU_HELLO_WAITING
            : h->phase != VGPU_HELLO_SERVED || h->resets == 0) {
        *reason = "answered what it was not asked";
        return VGPU_HELLO_BAD;
    }
    if (!vgpu_hello_reply_is_right(&reply)) {
        *reason = "answered the hello or a reset with what cannot be";
        return VGPU_HELLO_BAD;
    }
    if (msg_type == VGPU_MSG_HELLO_REPLY) {
        if (reply.status != VGPU_HELLO_TAKEN) {
            h->phase = VGPU_HELLO_VERSION_1;
            return VGPU_HELLO_SETTLED;
        }
        h->phase = VGPU_HELLO_SERVED;
        h->retry = VGPU_HELLO_RETRY_NONE;
        if (h->reset_meanwhile) {
            h->resets = 1;
            return VGPU_HELLO_SEND_RESET;
        }
    } else {
        h->resets--;
        h->ended = h->ended || reply.status != VGPU_HELLO_TAKEN;
        if (h->resets > 0 || h->ended) {
            return VGPU_HELLO_NOTHING;
        }
    }
    h->generation = reply.generation;
    return VGPU_HELLO_ATTACH;
}

#endif /* VGPU_HELLO_H */
