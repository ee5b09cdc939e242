/* SPDX-License-Identifier: MIT */
/*
 * vgpu-hello.h: how a device with shared memory gets a mediator to serve it. No QEMU here.
 *
 * docs/protocol.md, section 15. What a connection stands for, as the device sees it:
 *
 *                     connected, BAR2 mapped:
 *                     hello sent                     reply: taken
 *   +------------+ --------------------> +---------+ ------------> +--------+  a device reset is
 *   | no         |                       | WAITING |               | SERVED |  answered: attached
 *   | connection |          +--------+   +---------+               +--------+  again
 *   |            | connected| UNSEEN | ---^   | reply: refused
 *   |            | -------> +--------+ BAR2 mapped: hello sent
 *   +------------+               |            v
 *         ^                      |       +-----------+
 *         |  something else sent +-----> | VERSION_1 |
 *         |  ----------------------------+-----------+
 *         |  connected after a hello that came to nothing, or no way to pass descriptors
 *         |
 *         +--- from everywhere: the connection ends. In WAITING: the next has no hello, and is
 *              given up for one with a hello a second later, once
 *
 * A mediator is told of the memory when a guest can see it, and not before: a guest may have no
 * address space for BAR2, and never see it. That it is unmapped later changes nothing, as that is
 * part of every reset and of every scan of the bus.
 *
 * Like the register file, no function does I/O or waits: a result tells the caller what to do. What
 * a mediator says is checked here; whoever breaks the rules loses the connection, and as that
 * happens in WAITING for a reply that is wrong, the next connection is version 1.
 */
#ifndef VGPU_HELLO_H
#define VGPU_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "vgpu_protocol.h"

#define VGPU_HELLO_FEATURES (VGPU_FEATURE_SHM | VGPU_FEATURE_QUEUES)
/* A connection without a hello, because the one before came to nothing, is given up after so long,
 * once, for one with a hello: that mediator may have been about to end. */
#define VGPU_HELLO_RETRY_MS 1000
/* Bytes of the longest message of a hello. */
#define VGPU_HELLO_MESSAGE_MAX (sizeof(struct vgpu_msg_header) + sizeof(struct vgpu_msg_hello))

enum vgpu_hello_phase {
    VGPU_HELLO_NO_CONNECTION,
    VGPU_HELLO_UNSEEN,    /* nothing has been sent; the hello is when BAR2 is mapped */
    VGPU_HELLO_WAITING,   /* said, or being said; no request may be sent */
    VGPU_HELLO_SERVED,    /* the mediator has taken the memory */
    VGPU_HELLO_VERSION_1, /* requests through the registers alone */
};

/* Of a hello that came to nothing. */
enum vgpu_hello_retry {
    VGPU_HELLO_RETRY_NONE,
    VGPU_HELLO_RETRY_LATER, /* this connection has no hello for that reason */
    VGPU_HELLO_RETRY_DUE,   /* and is to be given up when nothing is on it */
    VGPU_HELLO_RETRY_ASKED, /* it was given up */
    VGPU_HELLO_RETRY_VAIN,  /* that came to nothing, too */
};

struct vgpu_hello {
    /* Configuration; shm_size 0: the device has no shared memory and never says hello. */
    uint64_t shm_size; /* bytes */
    uint32_t queue_count;

    enum vgpu_hello_phase phase;
    bool skip_next; /* the next connection begins without a hello */
    enum vgpu_hello_retry retry;
    bool overtaken;       /* VERSION_1 for no other reason than that BAR2 was not mapped */
    bool reset_meanwhile; /* the device was reset in WAITING */
    bool ended;           /* SERVED, but a reset was answered with a refusal */
    uint32_t resets;      /* that the mediator has not answered */
    uint64_t generation;  /* of the last answer */
};

/* What the caller has to do. */
enum vgpu_hello_verdict {
    VGPU_HELLO_NOTHING,
    VGPU_HELLO_SETTLED,    /* requests may be sent now; the memory is not served */
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
 * Writes message `index` of the hello into `out` and returns its length in bytes. `identity` gives
 * the VM's id, pool and priority. Message 0 has one descriptor with it, the memory; message 1 + q
 * has two, doorbell and interrupt of queue q.
 */
static inline size_t vgpu_hello_encode(const struct vgpu_hello *h,
                                       const struct vgpu_msg_header *identity, uint32_t index,
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
 * A connection came up; `passes_descriptors` says whether it can, `mapped` whether the guest has
 * mapped BAR2. True: say hello now, and give the mediator VGPU_HELLO_TIMEOUT_MS to answer. False:
 * requests may be sent.
 */
static inline bool vgpu_hello_connected(struct vgpu_hello *h, bool passes_descriptors, bool mapped)
{
    bool hello = h->shm_size != 0 && passes_descriptors && !h->skip_next;

    if (h->skip_next) {
        h->retry =
            h->retry == VGPU_HELLO_RETRY_ASKED ? VGPU_HELLO_RETRY_VAIN : VGPU_HELLO_RETRY_LATER;
    }
    h->skip_next = false;
    h->overtaken = false;
    h->reset_meanwhile = false;
    h->ended = false;
    h->resets = 0;
    h->phase = !hello ? VGPU_HELLO_VERSION_1 : mapped ? VGPU_HELLO_WAITING : VGPU_HELLO_UNSEEN;
    return hello && mapped;
}

/* What the caller has to do when the guest has mapped BAR2. */
enum vgpu_hello_order {
    VGPU_HELLO_KEEP,  /* nothing */
    VGPU_HELLO_SAY,   /* say hello now */
    VGPU_HELLO_RENEW, /* the connection is past its hello: begin another when nothing is on it */
};

/* BAR2 is mapped, perhaps for long. */
static inline enum vgpu_hello_order vgpu_hello_mapped(struct vgpu_hello *h)
{
    if (h->phase == VGPU_HELLO_UNSEEN) {
        h->phase = VGPU_HELLO_WAITING;
        return VGPU_HELLO_SAY;
    }
    return h->phase == VGPU_HELLO_VERSION_1 && (h->overtaken || h->retry == VGPU_HELLO_RETRY_DUE)
               ? VGPU_HELLO_RENEW
               : VGPU_HELLO_KEEP;
}

/* Whether the connection has no hello because the one before came to nothing. */
static inline bool vgpu_hello_is_skipped(const struct vgpu_hello *h)
{
    return h->phase == VGPU_HELLO_VERSION_1 && h->retry == VGPU_HELLO_RETRY_LATER;
}

/* VGPU_HELLO_RETRY_MS have passed since such a connection came up. */
static inline void vgpu_hello_retry_due(struct vgpu_hello *h)
{
    if (vgpu_hello_is_skipped(h)) {
        h->retry = VGPU_HELLO_RETRY_DUE;
    }
}

/* The caller gives the connection up, as VGPU_HELLO_RENEW says. */
static inline void vgpu_hello_renewed(struct vgpu_hello *h)
{
    if (h->retry == VGPU_HELLO_RETRY_DUE) {
        h->retry = VGPU_HELLO_RETRY_ASKED;
    }
}

/* Something is about to be sent that is no hello. */
static inline void vgpu_hello_overtaken(struct vgpu_hello *h)
{
    if (h->phase == VGPU_HELLO_UNSEEN) {
        h->phase = VGPU_HELLO_VERSION_1;
        h->overtaken = true;
    }
}

/* The connection ended, or no longer counts. May be called again. */
static inline void vgpu_hello_disconnected(struct vgpu_hello *h)
{
    if (h->phase == VGPU_HELLO_WAITING) {
        h->skip_next = true;
    } else if (h->phase != VGPU_HELLO_NO_CONNECTION && h->retry != VGPU_HELLO_RETRY_ASKED) {
        h->retry = VGPU_HELLO_RETRY_NONE;
    }
    h->phase = VGPU_HELLO_NO_CONNECTION;
}

/* The device was reset. True: send SHM_RESET. */
static inline bool vgpu_hello_reset(struct vgpu_hello *h)
{
    if (h->phase == VGPU_HELLO_WAITING) {
        /* Whoever ran before may have used what the mediator lays out just now. */
        h->reset_meanwhile = true;
        return false;
    }
    if (h->phase != VGPU_HELLO_SERVED || h->ended) {
        return false;
    }
    h->resets++;
    return true;
}

/* Whether a reply says what its status allows. */
static inline bool vgpu_hello_reply_is_right(const struct vgpu_msg_hello_reply *reply)
{
    if (reply->reserved[0] != 0 || reply->reserved[1] != 0) {
        return false;
    }
    if (reply->status != VGPU_HELLO_TAKEN) {
        return reply->layout_version == 0 && reply->features == 0 && reply->generation == 0;
    }
    return reply->layout_version == VGPU_SHM_LAYOUT_VERSION &&
           reply->features == VGPU_HELLO_FEATURES && reply->generation != 0;
}

/*
 * HELLO_REPLY or SHM_RESET_DONE came, of the right length. On VGPU_HELLO_BAD *reason is a static
 * text that continues the sentence "the mediator ...".
 */
static inline enum vgpu_hello_verdict vgpu_hello_answer(struct vgpu_hello *h, uint32_t msg_type,
                                                        const uint8_t *payload, const char **reason)
{
    struct vgpu_msg_hello_reply reply;

    memcpy(&reply, payload, sizeof(reply));
    if (msg_type == VGPU_MSG_HELLO_REPLY ? h->phase != VGPU_HELLO_WAITING
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
