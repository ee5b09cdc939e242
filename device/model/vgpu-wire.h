/* SPDX-License-Identifier: MIT */
/*
 * vgpu-wire.h: splits the bytes received from the mediator into messages.
 * Independent of QEMU.
 *
 * Input comes in pieces of any size. A header is checked as soon as it is
 * complete, before any byte of its payload is stored; never more than
 * VGPU_BUF_SIZE bytes of payload are stored. After VGPU_WIRE_BAD framing is
 * lost: drop the connection, and start again with vgpu_wire_restart().
 */
#ifndef VGPU_WIRE_H
#define VGPU_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "vgpu_protocol.h"

struct vgpu_wire_in {
    uint32_t vm_id; /* messages for any other VM are rejected */
    bool shm;       /* replies to a hello are accepted */
    uint32_t have;  /* bytes in `bytes` */
    uint8_t bytes[sizeof(struct vgpu_msg_header) + VGPU_BUF_SIZE];
};

enum vgpu_wire_result {
    VGPU_WIRE_MORE,    /* all input is consumed, no message is complete */
    VGPU_WIRE_MESSAGE, /* one message is complete; call again with the rest */
    VGPU_WIRE_BAD,     /* protocol violation */
};

/* Starts a new connection. `shm`: the device has shared memory. */
static inline void vgpu_wire_restart(struct vgpu_wire_in *in, uint32_t vm_id,
                                     bool shm)
{
    in->vm_id = vm_id;
    in->shm = shm;
    in->have = 0;
}

/* Returns why the device cannot accept this header; NULL if it can. */
static inline const char *vgpu_wire_judge(const struct vgpu_msg_header *header,
                                          uint32_t vm_id, bool shm)
{
    if (header->magic != VGPU_MSG_MAGIC) {
        return "sent a message with a wrong magic number";
    }
    if (header->vm_id != vm_id) {
        return "sent a message for another VM";
    }
    switch (header->msg_type) {
    case VGPU_MSG_RESPONSE:
        if (header->payload_len < sizeof(struct vgpu_response)) {
            return "sent a response that is too short";
        }
        break;
    case VGPU_MSG_BUSY:
    case VGPU_MSG_QUARANTINED:
        break;
    case VGPU_MSG_PING:
    case VGPU_MSG_PONG:
        if (header->payload_len != 0) {
            return "sent a ping or pong with a payload";
        }
        break;
    case VGPU_MSG_HELLO_REPLY:
    case VGPU_MSG_SHM_RESET_DONE:
        if (!shm) {
            return "sent a message of unknown type";
        }
        if (header->payload_len != sizeof(struct vgpu_msg_hello_reply)) {
            return "sent a reply to a HELLO or SHM_RESET with a wrong length";
        }
        break;
    default:
        return "sent a message of unknown type";
    }
    if (header->payload_len > VGPU_MSG_MAX_PAYLOAD) {
        return "sent a message that is too long";
    }
    return NULL;
}

/*
 * Consumes bytes from *data and advances *data and *size. On VGPU_WIRE_MESSAGE
 * *header is filled and *payload points to header->payload_len bytes, valid
 * until the next call. On VGPU_WIRE_BAD *reason is a static text that completes
 * "the mediator ...".
 */
static inline enum vgpu_wire_result vgpu_wire_feed(
    struct vgpu_wire_in *in, const uint8_t **data, size_t *size,
    struct vgpu_msg_header *header, const uint8_t **payload,
    const char **reason)
{
    for (;;) {
        size_t want = sizeof(*header);
        size_t take;

        if (in->have >= sizeof(*header)) {
            memcpy(header, in->bytes, sizeof(*header));
            *reason = vgpu_wire_judge(header, in->vm_id, in->shm);
            if (*reason) {
                return VGPU_WIRE_BAD;
            }
            want += header->payload_len;
            if (in->have == want) {
                *payload = in->bytes + sizeof(*header);
                in->have = 0;
                return VGPU_WIRE_MESSAGE;
            }
        }
        if (*size == 0) {
            return VGPU_WIRE_MORE;
        }
        take = want - in->have;
        if (take > *size) {
            take = *size;
        }
        memcpy(in->bytes + in->have, *data, take);
        in->have += (uint32_t)take;
        *data += take;
        *size -= take;
    }
}

#endif /* VGPU_WIRE_H */
