/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vgpu-stub: a PCI device that transports a guest's requests to the vgpu
 * mediator and back.
 *
 *     -device vgpu-stub,socket=/run/vgpu/mediator.sock,vm_id=1,priority=high
 *     -chardev socket,id=c,path=...,reconnect=1 -device vgpu-stub,chardev=c
 *
 * vgpu-regs.h has the registers, vgpu-wire.h the messages, vgpu-hello.h the
 * hello, vgpu-link.h the connection; this file connects them to QEMU: BARs,
 * interrupts, time-out, reset and migration.
 *
 * The fast path is set up here but bypasses this file: BAR2 is memory shared
 * with the mediator, a queue's doorbell is an eventfd that KVM, or QEMU's
 * memory core, writes, and its interrupt is an eventfd from which KVM generates
 * an MSI-X message. Without KVM, or while a vector is masked, the main loop
 * reads the interrupt's eventfd.
 *
 * A vCPU must never block: the doorbell passes the request to a non-blocking
 * socket and returns, and the main loop receives the response. Nothing a guest
 * or a mediator sends may stop QEMU: an invalid guest access is logged and
 * ignored, a mediator that violates the protocol is disconnected. Everything
 * here runs under QEMU's global lock.
 *
 * One file for QEMU 4.2 to 10.x: vgpu-compat.h has the differences.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/event_notifier.h"
#include "qemu/host-utils.h"
#include "qemu/log.h"
#include "qemu/main-loop.h"
#include "qemu/memfd.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "chardev/char-fe.h"
#include "hw/pci/msi.h"
#include "hw/pci/msix.h"
#include "hw/pci/pci.h"
#include "migration/blocker.h"
#include "migration/vmstate.h"
#include "trace.h"

#include "vgpu-compat.h"
#include "vgpu-hello.h"
#include "vgpu-link.h"
#include "vgpu-regs.h"
#include "vgpu-wire.h"

/* --- the device --- */

#define TYPE_VGPU_STUB "vgpu-stub"
#define VGPU_STUB(obj) OBJECT_CHECK(VgpuStubState, (obj), TYPE_VGPU_STUB)

#define VGPU_TIMEOUT_DEFAULT_MS 30000
#define VGPU_TIMEOUT_MAX_MS 3600000
/*
 * A chardev with reconnect=1 reconnects a little more than a second after a
 * disconnect.
 */
#define VGPU_CONNECT_WAIT_DEFAULT_MS 2000
#define VGPU_CONNECT_WAIT_MAX_MS 60000
#define VGPU_WARN_INTERVAL_MS 60000
#define VGPU_MSIX_BAR 1
#define VGPU_SHM_BAR 2
#define VGPU_QUEUES_DEFAULT 8
#define VGPU_SHM_SIZE_DEFAULT (64 * 1024 * 1024ull)
/*
 * Doorbells in one VM: half of the 1000 devices that KVM accepts on its I/O
 * buses (NR_IOBUS_DEVS in linux/kvm_host.h). QEMU aborts if KVM rejects one,
 * and other devices need some as well.
 */
#define VGPU_DOORBELLS_MAX 512
/* Room for every request that may be abandoned unsent, one more, and pongs. */
#define VGPU_OUT_SIZE                \
    ((VGPU_REGS_MAX_ABANDONED + 2) * \
     (sizeof(struct vgpu_msg_header) + VGPU_BUF_SIZE))

typedef struct VgpuStubState VgpuStubState;

/* QEMU's part of a shared memory queue. */
typedef struct VgpuQueue {
    VgpuStubState *device;
    uint32_t index;
    EventNotifier doorbell; /* written for the guest, read by the mediator */
    /* written by the mediator, read by KVM or by the main loop */
    EventNotifier interrupt;
    /* route by which KVM reads and sends it; -1: the main loop reads it */
    int virq;
} VgpuQueue;

struct VgpuStubState {
    PCIDevice parent_obj;
    MemoryRegion bar0;
    MemoryRegion bar2; /* the shared memory; it owns the memfd */
    struct vgpu_regs regs;

    /* Properties; two more are in `link`. */
    char *pool;
    char *priority;
    uint32_t vm_id;
    uint32_t timeout_ms;
    uint32_t connect_wait_ms;
    bool basic;
    uint64_t shm_size;
    uint32_t queue_count;

    VgpuLink link;
    /* link_bh will close the connection, which is no longer used */
    bool dropping;
    bool renewing; /* and reconnect at once */
    QEMUBH *link_bh;
    QEMUTimer timer;
    /* limits the wait for a connection to send a request on */
    QEMUTimer wait_timer;
    struct vgpu_wire_in in;
    uint8_t *out; /* VGPU_OUT_SIZE bytes, out_len of them waiting to be sent */
    size_t out_len;
    bool request_waits;   /* no byte of the request in flight has been sent */
    size_t request_ahead; /* then: bytes of `out` before it */
    /* the last message passed to the connection was the request */
    bool request_is_last;
    int64_t warned_ms; /* when the last warning was printed; 0: never */
    Error *blocker;    /* blocks migration while a request is in flight */

    /*
     * The fast path; without shared memory `queues` is NULL and the rest is
     * unused.
     */
    VgpuQueue *queues; /* regs.queue_count of them */
    struct vgpu_hello hello;
    QEMUTimer hello_timer; /* limits the wait for a reply to the hello */
    /* next message of the hello to send; at its end: none */
    uint32_t hello_next;
    size_t hello_sent; /* bytes of that message already sent */
    /* the connection rejected the hello: send nothing more on it */
    bool unwritable;
    bool watches_vectors; /* the vector notifiers are set */
    bool announce;        /* notify the guest of SHM_STATE when the VM runs */
    VMChangeStateEntry *vm_state;
    /* blocks migration while a mediator serves the memory */
    Error *shm_blocker;
    uint64_t saved_shm_size; /* in a migration stream */
    uint32_t saved_queue_count;
};

static uint64_t vgpu_now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

/* Updates the interrupt pin, if there is one, from the registers. */
static void vgpu_update_pin(VgpuStubState *s)
{
    if (vgpu_regs_has_interrupt(&s->regs)) {
        pci_set_irq(PCI_DEVICE(s), vgpu_regs_irq_level(&s->regs));
    }
}

/* Updates the interrupt from the registers. */
static void vgpu_update_irq(VgpuStubState *s)
{
    PCIDevice *pci = PCI_DEVICE(s);
    bool due = vgpu_regs_take_notify(&s->regs);

    if (msix_enabled(pci)) {
        if (due) {
            msix_notify(pci, VGPU_MSIX_VECTOR_DEVICE);
        }
    } else if (msi_enabled(pci)) {
        if (due) {
            msi_notify(pci, 0);
        }
    } else {
        vgpu_update_pin(s);
    }
}

/*
 * Call when a request has ended in any way: removes the timers and the
 * migration blocker.
 */
static void vgpu_request_ended(VgpuStubState *s)
{
    s->request_waits = false;
    timer_del(&s->timer);
    timer_del(&s->wait_timer);
    vgpu_del_blocker(&s->blocker);
}

static void vgpu_look_at_memory(VgpuStubState *s);

static void vgpu_completed(VgpuStubState *s)
{
    vgpu_request_ended(s);
    if (s->regs.status == VGPU_STATUS_ERROR) {
        trace_vgpu_stub_error(s->vm_id, s->regs.inflight_id,
                              s->regs.error_code);
    }
    vgpu_update_irq(s);
    /* a connection that could not be replaced while BUSY can be now */
    vgpu_look_at_memory(s);
}

/* --- what the guest sees of the shared memory --- */

static void vgpu_queue_interrupt(VgpuStubState *s, uint32_t queue)
{
    PCIDevice *pci = PCI_DEVICE(s);

    trace_vgpu_stub_queue_interrupt(s->vm_id, queue);
    if (msix_enabled(pci)) {
        msix_notify(pci, VGPU_MSIX_VECTOR_QUEUE + queue);
    } else {
        vgpu_regs_queue_interrupt(&s->regs, queue);
        vgpu_update_irq(s);
    }
}

/*
 * Notifies the guest that SHM_STATE has changed, in every way that it may be
 * waiting for.
 */
static void vgpu_announce(VgpuStubState *s)
{
    uint32_t i;

    s->announce = false;
    vgpu_regs_shm_state_changed(&s->regs);
    vgpu_update_irq(s);
    for (i = 0; i < s->regs.queue_count; i++) {
        vgpu_queue_interrupt(s, i);
    }
}

static void vgpu_set_attached(VgpuStubState *s, bool attached)
{
    if (s->regs.attached == attached) {
        return;
    }
    trace_vgpu_stub_attached(s->vm_id, attached);
    s->regs.attached = attached;
    if (attached) {
        error_setg(&s->shm_blocker,
                   "vgpu-stub (vm_id %" PRIu32
                   "): its shared memory is in use by a mediator and cannot be "
                   "migrated; use shm-size=0 for VMs that migrate",
                   s->vm_id);
        /*
         * No blocker can be added while a migration runs: pre_save checks
         * again.
         */
        vgpu_add_blocker(&s->shm_blocker, NULL);
    } else {
        vgpu_del_blocker(&s->shm_blocker);
    }
    /*
     * Loading an incoming migration would overwrite an announcement made
     * before.
     */
    if (runstate_check(RUN_STATE_INMIGRATE)) {
        s->announce = true;
    } else {
        vgpu_announce(s);
    }
}

static void vgpu_vm_state_changed(void *opaque, VgpuRunning running,
                                  RunState state)
{
    VgpuStubState *s = opaque;

    if (running && s->announce) {
        vgpu_announce(s);
    }
}

/* --- connection --- */

static void vgpu_stop_sending(VgpuStubState *s)
{
    s->out_len = 0;
    s->hello_next = vgpu_hello_messages(&s->hello);
    s->hello_sent = 0;
    vgpu_link_unwatch(&s->link);
}

/*
 * Stops using the connection; a request in flight ends in ERROR 3. One that no
 * mediator can have seen waits for the next connection.
 */
static void vgpu_link_lost(VgpuStubState *s)
{
    if (s->request_waits) {
        s->request_waits = false;
        s->regs.held = true;
    }
    vgpu_stop_sending(s);
    timer_del(&s->hello_timer);
    vgpu_hello_disconnected(&s->hello);
    vgpu_set_attached(s, false);
    if (s->regs.link_up) {
        trace_vgpu_stub_disconnected(s->vm_id);
    }
    if (vgpu_regs_disconnected(&s->regs, vgpu_now())) {
        vgpu_completed(s);
    }
    if (s->regs.held) {
        /* this may be called from within the link's callbacks */
        qemu_bh_schedule(s->link_bh);
    }
}

/*
 * Closes the connection from a bottom half: this may be called from within the
 * link's callbacks.
 */
static void vgpu_cut_connection(VgpuStubState *s)
{
    s->dropping = true;
    qemu_bh_schedule(s->link_bh);
    vgpu_link_lost(s);
}

/* Drops a faulty connection; the link then reconnects. */
static void vgpu_drop_connection(VgpuStubState *s, const char *reason)
{
    int64_t now_ms = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);

    if (s->dropping) {
        return;
    }
    trace_vgpu_stub_drop_connection(s->vm_id, reason);
    if (!s->warned_ms || now_ms - s->warned_ms >= VGPU_WARN_INTERVAL_MS) {
        s->warned_ms = now_ms;
        warn_report("vgpu-stub (vm_id %" PRIu32
                    "): connection dropped: the mediator %s",
                    s->vm_id, reason);
    }
    vgpu_cut_connection(s);
}

/* Ends a request in flight in ERROR 3. */
static void vgpu_unavailable(VgpuStubState *s)
{
    if (vgpu_regs_fail(&s->regs, VGPU_ERR_MEDIATOR_UNAVAILABLE, vgpu_now())) {
        vgpu_completed(s);
    }
}

/* Looks for a connection for the held request. */
static void vgpu_seek_connection(VgpuStubState *s)
{
    enum VgpuLinkConnect result =
        s->dropping ? VGPU_LINK_LATER : vgpu_link_connect(&s->link);

    if (result == VGPU_LINK_CONNECTED) {
        /* the request has been sent, or will be when the hello is settled */
        return;
    }
    if (result == VGPU_LINK_REFUSED || s->connect_wait_ms == 0) {
        vgpu_unavailable(s);
    } else if (!timer_pending(&s->wait_timer)) {
        trace_vgpu_stub_wait(s->vm_id, s->regs.inflight_id, s->connect_wait_ms);
        timer_mod(&s->wait_timer,
                  qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + s->connect_wait_ms);
    }
}

static void vgpu_wait_timeout(void *opaque)
{
    VgpuStubState *s = opaque;

    if (s->regs.held && !s->regs.link_up) {
        vgpu_unavailable(s);
    }
}

static void vgpu_link_bh(void *opaque)
{
    VgpuStubState *s = opaque;
    bool renewing = s->renewing;

    s->renewing = false;
    if (s->dropping) {
        s->dropping = false;
        vgpu_link_drop(&s->link);
    }
    if (s->regs.link_up) {
        return;
    }
    if (s->regs.held) {
        vgpu_seek_connection(s);
    } else if (renewing) {
        vgpu_link_connect(&s->link);
    }
}

static struct vgpu_msg_header vgpu_header(VgpuStubState *s, uint32_t type)
{
    return (struct vgpu_msg_header){
        .magic = VGPU_MSG_MAGIC,
        .msg_type = type,
        .vm_id = s->vm_id,
        .pool_id = s->regs.pool_id,
        .priority = s->regs.priority,
    };
}

/*
 * Collects the descriptors of message `index` of the hello; returns how many.
 */
static size_t vgpu_hello_descriptors(VgpuStubState *s, uint32_t index,
                                     int fds[VGPU_LINK_DESCRIPTORS])
{
#ifdef CONFIG_LINUX
    if (index == 0) {
        fds[0] = memory_region_get_fd(&s->bar2);
        return 1;
    }
    fds[0] = event_notifier_get_fd(&s->queues[index - 1].doorbell);
    fds[1] = event_notifier_get_fd(&s->queues[index - 1].interrupt);
    return 2;
#else
    return 0;
#endif
}

/*
 * Sends as much as possible of the hello's next message; returns and sets errno
 * like write().
 */
static int vgpu_write_hello(VgpuStubState *s)
{
    struct vgpu_msg_header identity = vgpu_header(s, VGPU_MSG_HELLO);
    uint8_t bytes[VGPU_HELLO_MESSAGE_MAX];
    size_t size = vgpu_hello_encode(&s->hello, &identity, s->hello_next, bytes);
    int fds[VGPU_LINK_DESCRIPTORS];
    size_t fd_count =
        s->hello_sent == 0 ? vgpu_hello_descriptors(s, s->hello_next, fds) : 0;
    int sent = vgpu_link_write(&s->link, bytes + s->hello_sent,
                               size - s->hello_sent, fds, fd_count);

    if (sent > 0 && s->regs.link_up) {
        s->hello_sent += sent;
        if (s->hello_sent == size) {
            s->hello_sent = 0;
            s->hello_next++;
        }
    }
    return sent;
}

/* Sends as much as possible of the output after the hello. */
static int vgpu_write_out(VgpuStubState *s)
{
    int sent = vgpu_link_write(&s->link, s->out, s->out_len, NULL, 0);

    if (sent > 0 && s->regs.link_up) {
        if ((size_t)sent > s->request_ahead) {
            s->request_waits = false;
        }
        s->request_ahead -= MIN((size_t)sent, s->request_ahead);
        s->out_len -= sent;
        memmove(s->out, s->out + sent, s->out_len);
    }
    return sent;
}

/*
 * Sends output until the socket would block; a watch sends the rest. The hello
 * goes first.
 */
static void vgpu_flush(VgpuStubState *s)
{
    while (!vgpu_link_watched(&s->link) && !s->unwritable) {
        bool hello = s->hello_next < vgpu_hello_messages(&s->hello);
        int sent;

        if (!hello && s->out_len == 0) {
            return;
        }
        sent = hello ? vgpu_write_hello(s) : vgpu_write_out(s);
        if (!s->regs.link_up) {
            return; /* lost while writing: the event handler has handled it */
        }
        if (sent > 0) {
            continue;
        }
        if (hello && sent < 0 && errno != EAGAIN) {
            /*
             * Closed, or too many descriptors in flight: the disconnect or the
             * timer follows.
             */
            s->unwritable = true;
            return;
        }
        if (!vgpu_link_watch(&s->link)) {
            vgpu_drop_connection(
                s, "cannot be polled for writing on this type of chardev");
            return;
        }
    }
}

static void vgpu_send(VgpuStubState *s, const struct vgpu_msg_header *header,
                      const uint8_t *payload)
{
    size_t size = sizeof(*header) + header->payload_len;

    vgpu_hello_overtaken(&s->hello);
    s->request_is_last = header->msg_type == VGPU_MSG_REQUEST;
    if (size > VGPU_OUT_SIZE - s->out_len) {
        vgpu_drop_connection(s, "does not read its messages");
        return;
    }
    memcpy(s->out + s->out_len, header, sizeof(*header));
    if (header->payload_len) {
        memcpy(s->out + s->out_len + sizeof(*header), payload,
               header->payload_len);
    }
    s->out_len += size;
    vgpu_flush(s);
}

static void vgpu_send_request(VgpuStubState *s)
{
    struct vgpu_msg_header header = vgpu_header(s, VGPU_MSG_REQUEST);

    header.request_id = s->regs.inflight_id;
    header.payload_len = s->regs.inflight_len;
    trace_vgpu_stub_send(s->vm_id, header.request_id, header.payload_len);
    s->request_waits = true;
    s->request_ahead = s->out_len;
    vgpu_send(s, &header, s->regs.inflight);
}

/* Sends the request that waits for a connection or for the hello. */
static void vgpu_send_held(VgpuStubState *s)
{
    if (s->regs.held) {
        s->regs.held = false;
        timer_del(&s->wait_timer);
        vgpu_send_request(s);
    }
}

/*
 * Sends the request that the doorbell has just submitted, or holds it until it
 * can be sent.
 */
static void vgpu_submit(VgpuStubState *s)
{
    error_setg(&s->blocker,
               "vgpu-stub (vm_id %" PRIu32
               "): a request is in flight; retry after the guest has received "
               "its response",
               s->vm_id);
    /* No blocker can be added while a migration runs: pre_save checks again. */
    vgpu_add_blocker(&s->blocker, NULL);
    timer_mod(&s->timer, qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) + s->timeout_ms);
    if (!s->regs.link_up) {
        vgpu_seek_connection(s);
    } else if (s->hello.phase == VGPU_HELLO_WAITING) {
        s->regs.held = true;
    } else {
        vgpu_send_request(s);
    }
}

static void vgpu_send_reset(VgpuStubState *s)
{
    struct vgpu_msg_header header = vgpu_header(s, VGPU_MSG_SHM_RESET);

    trace_vgpu_stub_shm_reset(s->vm_id, s->hello.resets);
    vgpu_send(s, &header, NULL);
}

/* Handles the mediator's reply to the hello or to a reset. */
static void vgpu_hello_answered(VgpuStubState *s, uint32_t type,
                                const uint8_t *payload)
{
    const char *reason = NULL;
    enum vgpu_hello_verdict verdict =
        vgpu_hello_answer(&s->hello, type, payload, &reason);

    trace_vgpu_stub_hello_answer(s->vm_id, type, ldl_le_p(payload),
                                 s->hello.generation);
    switch (verdict) {
    case VGPU_HELLO_BAD:
        vgpu_drop_connection(s, reason);
        return;
    case VGPU_HELLO_SEND_RESET:
        vgpu_send_reset(s);
        break;
    case VGPU_HELLO_ATTACH:
        vgpu_set_attached(s, true);
        break;
    case VGPU_HELLO_SETTLED:
    case VGPU_HELLO_NOTHING:
        break;
    }
    timer_del(&s->hello_timer);
    vgpu_send_held(s);
}

static void vgpu_hello_timeout(void *opaque)
{
    VgpuStubState *s = opaque;

    if (s->hello.phase == VGPU_HELLO_WAITING) {
        vgpu_drop_connection(
            s, "did not answer the handshake; reconnecting without one");
    } else {
        vgpu_hello_retry_due(&s->hello);
        vgpu_look_at_memory(s);
    }
}

static void vgpu_timeout(void *opaque)
{
    VgpuStubState *s = opaque;
    bool keep;

    if (s->regs.status != VGPU_STATUS_BUSY) {
        return;
    }
    keep = vgpu_regs_timeout(&s->regs, vgpu_now());
    vgpu_completed(s);
    if (!keep) {
        vgpu_drop_connection(s, "owes too many responses");
    }
}

static void vgpu_message(VgpuStubState *s, const struct vgpu_msg_header *header,
                         const uint8_t *payload)
{
    enum vgpu_regs_verdict verdict;
    struct vgpu_msg_header pong;

    switch (header->msg_type) {
    case VGPU_MSG_PING:
        pong = *header;
        pong.msg_type = VGPU_MSG_PONG;
        vgpu_send(s, &pong, NULL);
        return;
    case VGPU_MSG_RESPONSE:
        verdict = vgpu_regs_answer(&s->regs, header->request_id, payload,
                                   header->payload_len, vgpu_now());
        break;
    case VGPU_MSG_BUSY:
        verdict = vgpu_regs_refused(&s->regs, header->request_id,
                                    VGPU_ERR_RATE_LIMITED, vgpu_now());
        break;
    case VGPU_MSG_QUARANTINED:
        verdict = vgpu_regs_refused(&s->regs, header->request_id,
                                    VGPU_ERR_QUARANTINED, vgpu_now());
        break;
    case VGPU_MSG_HELLO_REPLY:
    case VGPU_MSG_SHM_RESET_DONE:
        vgpu_hello_answered(s, header->msg_type, payload);
        return;
    default: /* PONG */
        return;
    }
    switch (verdict) {
    case VGPU_REGS_COMPLETED:
        vgpu_link_answered(&s->link);
        trace_vgpu_stub_answer(s->vm_id, header->request_id,
                               header->payload_len);
        vgpu_completed(s);
        break;
    case VGPU_REGS_LATE:
        trace_vgpu_stub_late_answer(s->vm_id, header->request_id);
        break;
    case VGPU_REGS_UNKNOWN:
        trace_vgpu_stub_unknown_answer(s->vm_id, header->request_id);
        break;
    }
}

static void vgpu_received(void *opaque, const uint8_t *data, int size)
{
    VgpuStubState *s = opaque;
    size_t left = size;

    while (s->regs.link_up && !s->dropping) {
        struct vgpu_msg_header header;
        const uint8_t *payload;
        const char *reason;

        switch (
            vgpu_wire_feed(&s->in, &data, &left, &header, &payload, &reason)) {
        case VGPU_WIRE_MORE:
            return;
        case VGPU_WIRE_MESSAGE:
            vgpu_message(s, &header, payload);
            break;
        case VGPU_WIRE_BAD:
            vgpu_drop_connection(s, reason);
            break;
        }
    }
}

static void vgpu_say_hello(VgpuStubState *s)
{
    trace_vgpu_stub_hello(s->vm_id, s->shm_size, s->queue_count);
    timer_mod(&s->hello_timer,
              qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + VGPU_HELLO_TIMEOUT_MS);
    s->hello_next = 0;
    vgpu_flush(s);
}

/* Returns whether the guest has mapped and enabled BAR 2. */
static bool vgpu_memory_is_mapped(VgpuStubState *s)
{
    return s->queues &&
           pci_get_bar_addr(PCI_DEVICE(s), VGPU_SHM_BAR) != PCI_BAR_UNMAPPED;
}

/* Notifies the mediator of BAR 2 if the guest has mapped it. */
static void vgpu_look_at_memory(VgpuStubState *s)
{
    if (!s->regs.link_up || !vgpu_memory_is_mapped(s)) {
        return;
    }
    switch (vgpu_hello_mapped(&s->hello)) {
    case VGPU_HELLO_SAY:
        vgpu_say_hello(s);
        break;
    case VGPU_HELLO_RENEW:
        /* It is not known whether a chardev would reconnect. */
        if (vgpu_link_owned(&s->link) && s->regs.status != VGPU_STATUS_BUSY) {
            vgpu_hello_renewed(&s->hello);
            s->renewing = true;
            vgpu_cut_connection(s);
        }
        break;
    case VGPU_HELLO_KEEP:
        break;
    }
}

static void vgpu_opened(void *opaque)
{
    VgpuStubState *s = opaque;

    s->dropping = false;
    s->unwritable = false;
    vgpu_stop_sending(s);
    vgpu_wire_restart(&s->in, s->vm_id, s->queues != NULL);
    vgpu_regs_connected(&s->regs);
    trace_vgpu_stub_connected(s->vm_id);
    if (vgpu_hello_connected(&s->hello, vgpu_link_passes_descriptors(&s->link),
                             vgpu_memory_is_mapped(s))) {
        vgpu_say_hello(s);
        return;
    }
    if (vgpu_hello_is_skipped(&s->hello)) {
        timer_mod(&s->hello_timer,
                  qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + VGPU_HELLO_RETRY_MS);
    }
    vgpu_send_held(s);
}

static void vgpu_closed(void *opaque, bool unread)
{
    VgpuStubState *s = opaque;

    /*
     * A mediator that has not read a request completely has not started it
     * either.
     */
    if (unread && s->request_is_last && s->regs.status == VGPU_STATUS_BUSY &&
        !s->regs.held) {
        s->request_waits = true;
    }
    s->dropping = false;
    vgpu_link_lost(s);
}

static void vgpu_writable(void *opaque)
{
    vgpu_flush(opaque);
}

static const VgpuLinkOps vgpu_link_ops = {
    .opened = vgpu_opened,
    .closed = vgpu_closed,
    .received = vgpu_received,
    .writable = vgpu_writable,
};

/* --- BAR 0 --- */

static uint64_t vgpu_bar0_read(void *opaque, hwaddr offset, unsigned size)
{
    VgpuStubState *s = opaque;
    uint32_t effect;
    uint64_t value = vgpu_regs_read(&s->regs, offset, size, &effect);

    trace_vgpu_stub_read(s->vm_id, offset, size, value);
    if (effect & VGPU_REGS_GUEST_ERROR) {
        qemu_log_mask(
            LOG_GUEST_ERROR,
            "vgpu-stub: read of %u bytes at register offset 0x%" PRIx64
            " is not an aligned 4-byte access\n",
            size, (uint64_t)offset);
    }
    return value;
}

static void vgpu_bar0_write(void *opaque, hwaddr offset, uint64_t value,
                            unsigned size)
{
    VgpuStubState *s = opaque;
    uint32_t effect;

    trace_vgpu_stub_write(s->vm_id, offset, size, value);
    if (offset == VGPU_REG_DOORBELL) {
        trace_vgpu_stub_doorbell(s->vm_id, s->regs.request_id,
                                 s->regs.request_len);
    }
    effect = vgpu_regs_write(&s->regs, offset, value, size, vgpu_now());
    if (effect & VGPU_REGS_GUEST_ERROR) {
        qemu_log_mask(LOG_GUEST_ERROR,
                      "vgpu-stub: write of 0x%" PRIx64
                      " (%u bytes) at register "
                      "offset 0x%" PRIx64 " is ignored\n",
                      value, size, (uint64_t)offset);
    }
    if (effect & VGPU_REGS_NOT_TAKEN) {
        trace_vgpu_stub_error(s->vm_id, s->regs.request_id, s->regs.error_code);
    }
    if (effect & VGPU_REGS_IRQ_CHANGED) {
        vgpu_update_irq(s);
    }
    if (effect & VGPU_REGS_SUBMIT) {
        vgpu_submit(s);
    }
    if (effect & VGPU_REGS_QUEUE_RUNG) {
        uint32_t queue = vgpu_regs_doorbell_queue(offset);

        /*
         * Only without ioeventfds in KVM: with them the write does not reach
         * this function.
         */
        event_notifier_set(&s->queues[queue].doorbell);
    }
}

/*
 * Every access reaches the register file as the guest made it; that code checks
 * it.
 */
static const MemoryRegionOps vgpu_bar0_ops = {
    .read = vgpu_bar0_read,
    .write = vgpu_bar0_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = {.min_access_size = 1, .max_access_size = 8, .unaligned = true},
    .impl = {.min_access_size = 1, .max_access_size = 8, .unaligned = true},
};

/* --- queue interrupts --- */

/* The mediator has interrupted a queue whose eventfd the main loop reads. */
static void vgpu_interrupt_written(EventNotifier *notifier)
{
    VgpuQueue *queue = container_of(notifier, VgpuQueue, interrupt);

    if (event_notifier_test_and_clear(notifier)) {
        vgpu_queue_interrupt(queue->device, queue->index);
    }
}

/* Lets KVM read the queue's interrupt, if possible. */
static void vgpu_irqfd_add(VgpuQueue *queue)
{
    VgpuStubState *s = queue->device;
    int virq;

    if (queue->virq >= 0) {
        return;
    }
    virq = vgpu_add_msi_route(PCI_DEVICE(s),
                              VGPU_MSIX_VECTOR_QUEUE + queue->index);
    if (virq < 0) {
        return;
    }
    event_notifier_set_handler(&queue->interrupt, NULL);
    if (kvm_irqchip_add_irqfd_notifier_gsi(kvm_state, &queue->interrupt, NULL,
                                           virq) < 0) {
        kvm_irqchip_release_virq(kvm_state, virq);
        event_notifier_set_handler(&queue->interrupt, vgpu_interrupt_written);
        return;
    }
    trace_vgpu_stub_irqfd(s->vm_id, queue->index, true);
    queue->virq = virq;
}

/* Lets the main loop read the queue's interrupt again. */
static void vgpu_irqfd_remove(VgpuQueue *queue)
{
    if (queue->virq < 0) {
        return;
    }
    trace_vgpu_stub_irqfd(queue->device->vm_id, queue->index, false);
    kvm_irqchip_remove_irqfd_notifier_gsi(kvm_state, &queue->interrupt,
                                          queue->virq);
    kvm_irqchip_release_virq(kvm_state, queue->virq);
    queue->virq = -1;
    event_notifier_set_handler(&queue->interrupt, vgpu_interrupt_written);
}

/* Called when a vector is unmasked. Never fails: QEMU would abort. */
static int vgpu_vector_unmask(PCIDevice *pci, unsigned vector,
                              MSIMessage message)
{
    VgpuStubState *s = VGPU_STUB(pci);

    if (vector >= VGPU_MSIX_VECTOR_QUEUE) {
        vgpu_irqfd_add(&s->queues[vector - VGPU_MSIX_VECTOR_QUEUE]);
    }
    return 0;
}

/*
 * Called when a vector is masked: the main loop turns further interrupts into a
 * pending bit.
 */
static void vgpu_vector_mask(PCIDevice *pci, unsigned vector)
{
    VgpuStubState *s = VGPU_STUB(pci);

    if (vector >= VGPU_MSIX_VECTOR_QUEUE) {
        vgpu_irqfd_remove(&s->queues[vector - VGPU_MSIX_VECTOR_QUEUE]);
    }
}

/* Lets KVM serve the vectors if `wanted`, and the main loop otherwise. */
static void vgpu_watch_vectors(VgpuStubState *s, bool wanted)
{
    uint32_t i;

    if (wanted == s->watches_vectors) {
        return;
    }
    s->watches_vectors = wanted;
    if (wanted) {
        msix_set_vector_notifiers(PCI_DEVICE(s), vgpu_vector_unmask,
                                  vgpu_vector_mask, NULL);
        return;
    }
    msix_unset_vector_notifiers(PCI_DEVICE(s));
    /*
     * QEMU omits vectors that are masked because MSI-X was disabled as a whole.
     */
    for (i = 0; i < s->regs.queue_count; i++) {
        vgpu_irqfd_remove(&s->queues[i]);
    }
}

static void vgpu_write_config(PCIDevice *pci, uint32_t address, uint32_t value,
                              int size)
{
    VgpuStubState *s = VGPU_STUB(pci);

    /*
     * QEMU handles INTX_DISABLE only in writes to the lower byte of COMMAND. A
     * change through the upper byte alone would leave the pin counted as raised
     * on the bus, and QEMU aborts at the next reset. A low pin is not counted;
     * it is raised again below.
     */
    if (address == PCI_COMMAND + 1 && vgpu_regs_has_interrupt(&s->regs)) {
        pci_set_irq(pci, 0);
    }
    pci_default_write_config(pci, address, value, size);
    vgpu_watch_vectors(s, kvm_msi_via_irqfd_enabled() && msix_enabled(pci));
    /*
     * If the guest has just disabled MSI and MSI-X, a pending interrupt goes
     * back to the pin.
     */
    if (!msi_enabled(pci) && !msix_enabled(pci)) {
        vgpu_update_pin(s);
    }
    vgpu_look_at_memory(s);
}

/* --- shared memory --- */

/*
 * Queues of all devices, each with a doorbell. Protected by the big QEMU lock.
 */
static uint32_t vgpu_doorbells;

static void vgpu_del_queue(VgpuQueue *queue)
{
    VgpuStubState *s = queue->device;

    event_notifier_set_handler(&queue->interrupt, NULL);
    memory_region_del_eventfd(
        &s->bar0,
        VGPU_REG_QUEUE_DOORBELL + queue->index * VGPU_QUEUE_DOORBELL_STRIDE, 4,
        false, 0, &queue->doorbell);
    event_notifier_cleanup(&queue->interrupt);
    event_notifier_cleanup(&queue->doorbell);
    vgpu_doorbells--;
}

static bool vgpu_add_queue(VgpuStubState *s, uint32_t index, Error **errp)
{
    VgpuQueue *queue = &s->queues[index];
    int ret;

    queue->device = s;
    queue->index = index;
    queue->virq = -1;
    ret = event_notifier_init(&queue->doorbell, 0);
    if (ret < 0) {
        error_setg_errno(
            errp, -ret,
            "vgpu-stub: cannot create an eventfd for queue %" PRIu32, index);
        return false;
    }
    ret = event_notifier_init(&queue->interrupt, 0);
    if (ret < 0) {
        event_notifier_cleanup(&queue->doorbell);
        error_setg_errno(
            errp, -ret,
            "vgpu-stub: cannot create an eventfd for queue %" PRIu32, index);
        return false;
    }
    memory_region_add_eventfd(
        &s->bar0, VGPU_REG_QUEUE_DOORBELL + index * VGPU_QUEUE_DOORBELL_STRIDE,
        4, false, 0, &queue->doorbell);
    event_notifier_set_handler(&queue->interrupt, vgpu_interrupt_written);
    vgpu_doorbells++;
    return true;
}

/* Removes the first `count` queues and frees the array. */
static void vgpu_del_queues(VgpuStubState *s, uint32_t count)
{
    memory_region_transaction_begin();
    while (count > 0) {
        vgpu_del_queue(&s->queues[--count]);
    }
    memory_region_transaction_commit();
    g_free(s->queues);
    s->queues = NULL;
}

static bool vgpu_add_queues(VgpuStubState *s, Error **errp)
{
    uint32_t i;
    bool ok = true;

    if (s->queue_count > VGPU_DOORBELLS_MAX - vgpu_doorbells) {
        error_setg(errp,
                   "vgpu-stub: a VM can have %d queues over all its devices, "
                   "and %" PRIu32
                   " are in use: set queues to less than %" PRIu32
                   ", or shm-size=0",
                   VGPU_DOORBELLS_MAX, vgpu_doorbells, s->queue_count);
        return false;
    }
    s->queues = g_new0(VgpuQueue, s->queue_count);
    memory_region_transaction_begin();
    for (i = 0; i < s->queue_count; i++) {
        ok = vgpu_add_queue(s, i, errp);
        if (!ok) {
            break;
        }
    }
    memory_region_transaction_commit();
    if (!ok) {
        vgpu_del_queues(s, i);
    }
    return ok;
}

/*
 * Returns whether BAR 2 can be a memfd: under Xen QEMU supports no memory from
 * a file.
 */
static bool vgpu_host_shares_memory(void)
{
#ifdef CONFIG_LINUX
    return !xen_enabled();
#else
    return false;
#endif
}

/*
 * BAR 2: sealed memory, which cannot shrink while the mediator has it mapped.
 */
static bool vgpu_add_memory(VgpuStubState *s, Error **errp)
{
#ifdef CONFIG_LINUX
    Error *local = NULL;
    int fd;

    if (!vgpu_host_shares_memory()) {
        error_setg(errp,
                   "vgpu-stub: Xen does not support the shared memory: use "
                   "shm-size=0");
        return false;
    }
    fd = qemu_memfd_create("vgpu-stub", s->shm_size, false, 0,
                           F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, errp);
    if (fd < 0) {
        return false;
    }
    vgpu_init_shared_ram(&s->bar2, OBJECT(s), "vgpu-stub-bar2", s->shm_size, fd,
                         &local);
    if (local) {
        close(fd);
        error_propagate(errp, local);
        return false;
    }
    return true;
#else
    error_setg(errp,
               "vgpu-stub: shared memory needs a Linux host: use shm-size=0");
    return false;
#endif
}

static void vgpu_shm_exit(VgpuStubState *s)
{
    PCIDevice *pci = PCI_DEVICE(s);

    if (!s->queues) {
        return;
    }
    if (s->vm_state) {
        qemu_del_vm_change_state_handler(s->vm_state);
        s->vm_state = NULL;
    }
    vgpu_watch_vectors(s, false);
    vgpu_del_queues(s, s->regs.queue_count);
    msix_uninit_exclusive_bar(pci);
    vgpu_del_blocker(&s->shm_blocker);
    /*
     * BAR 2 is freed with the device: every remaining user holds a reference to
     * the device.
     */
}

static bool vgpu_shm_init(VgpuStubState *s, Error **errp)
{
    PCIDevice *pci = PCI_DEVICE(s);
    Error *local = NULL;
    uint32_t vectors = VGPU_MSIX_VECTOR_QUEUE + s->queue_count;
    uint32_t i;
    int ret;

    if (s->shm_size == 0) {
        return true;
    }
    if (!vgpu_add_memory(s, errp) || !vgpu_add_queues(s, errp)) {
        return false;
    }
    ret = msix_init_exclusive_bar(pci, vectors, VGPU_MSIX_BAR, &local);
    if (ret == -ENOTSUP) {
        error_free(local); /* a board without MSI: use the pin */
        vectors = 0;
    } else if (ret < 0) {
        error_propagate(errp, local);
        vgpu_del_queues(s, s->queue_count);
        return false;
    }
    for (i = 0; i < vectors; i++) {
        msix_vector_use(pci, i);
    }
    vgpu_regs_init_shm(&s->regs, s->shm_size, s->queue_count, vectors);
    s->hello.shm_size = s->shm_size;
    s->hello.queue_count = s->queue_count;
    pci_register_bar(pci, VGPU_SHM_BAR,
                     PCI_BASE_ADDRESS_SPACE_MEMORY |
                         PCI_BASE_ADDRESS_MEM_TYPE_64 |
                         PCI_BASE_ADDRESS_MEM_PREFETCH,
                     &s->bar2);
    s->vm_state = qemu_add_vm_change_state_handler(vgpu_vm_state_changed, s);
    return true;
}

/* --- life of the device --- */

static bool vgpu_parse_priority(const char *text, uint8_t *priority)
{
    static const char *const names[] = {"low", "medium", "high"};
    unsigned i;

    for (i = 0; i < VGPU_PRIORITY_COUNT; i++) {
        if (strcmp(text, names[i]) == 0 ||
            (text[0] == (char)('0' + i) && text[1] == '\0')) {
            *priority = i;
            return true;
        }
    }
    return false;
}

/* Checks the properties and fills the register file from them. */
static bool vgpu_configure(VgpuStubState *s, Error **errp)
{
    const char *pool = s->pool ? s->pool : "A";
    const char *text = s->priority ? s->priority : "medium";
    uint8_t priority;
    uint64_t most;

    if (!g_ascii_isalpha(pool[0]) || pool[1] != '\0') {
        error_setg(
            errp,
            "vgpu-stub: pool_id must be one letter, A to Z or a to z, not '%s'",
            pool);
        return false;
    }
    if (!vgpu_parse_priority(text, &priority)) {
        error_setg(
            errp,
            "vgpu-stub: priority must be low, medium or high (or 0, 1 or 2), "
            "not '%s'",
            text);
        return false;
    }
    if (s->timeout_ms < 1 || s->timeout_ms > VGPU_TIMEOUT_MAX_MS) {
        error_setg(
            errp,
            "vgpu-stub: timeout-ms must be 1 to %d milliseconds, not %" PRIu32,
            VGPU_TIMEOUT_MAX_MS, s->timeout_ms);
        return false;
    }
    if (s->connect_wait_ms > VGPU_CONNECT_WAIT_MAX_MS) {
        error_setg(errp,
                   "vgpu-stub: connect-wait-ms must be 0 to %d milliseconds, "
                   "not %" PRIu32,
                   VGPU_CONNECT_WAIT_MAX_MS, s->connect_wait_ms);
        return false;
    }
    if ((s->basic || !vgpu_host_shares_memory()) &&
        s->shm_size == VGPU_SHM_SIZE_DEFAULT) {
        s->shm_size = 0; /* not requested explicitly */
    }
    if (s->basic && s->shm_size != 0) {
        error_setg(
            errp,
            "vgpu-stub: basic=on disables the shared memory: remove shm-size");
        return false;
    }
    if (s->shm_size != 0) {
        if (s->shm_size < VGPU_SHM_SIZE_MIN ||
            s->shm_size > VGPU_SHM_SIZE_MAX || !is_power_of_2(s->shm_size)) {
            error_setg(errp,
                       "vgpu-stub: shm-size must be a power of two from 1M to "
                       "4G, or 0 for none, "
                       "not %" PRIu64,
                       s->shm_size);
            return false;
        }
        most = MIN(VGPU_QUEUES_MAX, s->shm_size / VGPU_SHM_BYTES_PER_QUEUE);
        if (s->queue_count < 1 || s->queue_count > most) {
            error_setg(errp,
                       "vgpu-stub: queues must be 1 to %" PRIu64
                       " for this shm-size, not %" PRIu32,
                       most, s->queue_count);
            return false;
        }
    }
    if (!vgpu_link_configure(&s->link, errp)) {
        return false;
    }
    vgpu_regs_init(&s->regs, pool[0], priority, s->vm_id);
    if (s->basic) {
        vgpu_regs_init_basic(&s->regs);
    }
    /*
     * The device's own socket is tried at once, and connect() reports at once
     * if none listens.
     */
    s->regs.wait_for_link = vgpu_link_owned(&s->link) || s->connect_wait_ms > 0;
    return true;
}

static void vgpu_realize(PCIDevice *pci, Error **errp)
{
    VgpuStubState *s = VGPU_STUB(pci);
    Error *local = NULL;
    int ret;

    if (!vgpu_configure(s, errp)) {
        return;
    }
    if (!s->basic) {
        pci_config_set_interrupt_pin(pci->config, 1);
        ret = msi_init(pci, 0, 1, true, false, &local);
        if (ret == -ENOTSUP) {
            error_free(local); /* a board without MSI: use the pin */
        } else if (ret < 0) {
            error_propagate(errp, local);
            vgpu_link_unconfigure(&s->link);
            return;
        }
    }
    memory_region_init_io(&s->bar0, OBJECT(s), &vgpu_bar0_ops, s,
                          "vgpu-stub-bar0", VGPU_BAR0_SIZE);
    pci_register_bar(pci, 0, PCI_BASE_ADDRESS_SPACE_MEMORY, &s->bar0);
    if (!vgpu_shm_init(s, errp)) {
        vgpu_link_unconfigure(&s->link);
        msi_uninit(pci);
        return;
    }

    s->out = g_malloc(VGPU_OUT_SIZE);
    s->link_bh = qemu_bh_new(vgpu_link_bh, s);
    timer_init_ms(&s->timer, QEMU_CLOCK_VIRTUAL, vgpu_timeout, s);
    timer_init_ms(&s->wait_timer, QEMU_CLOCK_REALTIME, vgpu_wait_timeout, s);
    timer_init_ms(&s->hello_timer, QEMU_CLOCK_REALTIME, vgpu_hello_timeout, s);
    vgpu_link_init(&s->link, &vgpu_link_ops, s, s->vm_id);
}

static void vgpu_exit(PCIDevice *pci)
{
    VgpuStubState *s = VGPU_STUB(pci);

    /* First stop the callbacks, then free what they use. */
    vgpu_stop_sending(s);
    vgpu_link_exit(&s->link);
    timer_del(&s->hello_timer);
    vgpu_request_ended(s);
    qemu_bh_delete(s->link_bh);
    s->link_bh = NULL;
    vgpu_shm_exit(s);
    g_free(s->out);
    s->out = NULL;
    msi_uninit(pci);
}

static void vgpu_reset(VgpuStubState *s)
{
    bool keep = vgpu_regs_reset(&s->regs);

    trace_vgpu_stub_reset(s->vm_id);
    vgpu_request_ended(s);
    vgpu_watch_vectors(s, false);
    vgpu_del_blocker(&s->shm_blocker);
    s->announce = false;
    if (vgpu_hello_reset(&s->hello)) {
        vgpu_send_reset(s);
    }
    if (!keep) {
        vgpu_drop_connection(s, "owes too many responses");
    }
}

#if VGPU_QEMU_AT_LEAST(5, 0)
static void vgpu_reset_enter(Object *obj, ResetType type)
{
    vgpu_reset(VGPU_STUB(obj));
}

#if VGPU_QEMU_AT_LEAST(9, 1)
static void vgpu_reset_hold(Object *obj, ResetType type)
#else
static void vgpu_reset_hold(Object *obj)
#endif
{
    vgpu_update_irq(VGPU_STUB(obj));
}
#else
static void vgpu_reset_legacy(DeviceState *dev)
{
    vgpu_reset(VGPU_STUB(dev));
    vgpu_update_irq(VGPU_STUB(dev));
}
#endif

/* --- migration --- */

static int vgpu_pre_save(void *opaque)
{
    VgpuStubState *s = opaque;

    if (s->regs.status == VGPU_STATUS_BUSY) {
        error_report("vgpu-stub (vm_id %" PRIu32
                     "): a request is in flight; retry after the guest has "
                     "received its response",
                     s->vm_id);
        return -EBUSY;
    }
    if (s->regs.attached) {
        error_report("vgpu-stub (vm_id %" PRIu32
                     "): its shared memory is in use by a mediator and cannot "
                     "be migrated; use shm-size=0 for VMs that migrate",
                     s->vm_id);
        return -EBUSY;
    }
    return 0;
}

static int vgpu_post_load(void *opaque, int version_id)
{
    VgpuStubState *s = opaque;

    if (!vgpu_regs_valid(&s->regs)) {
        error_report("vgpu-stub (vm_id %" PRIu32
                     "): the migration stream contains invalid register values",
                     s->vm_id);
        return -EINVAL;
    }
    vgpu_watch_vectors(
        s, kvm_msi_via_irqfd_enabled() && msix_enabled(PCI_DEVICE(s)));
    /* The memory was not served on the migration source. */
    s->announce = s->regs.attached;
    vgpu_look_at_memory(s);
    return 0;
}

static bool vgpu_shm_needed(void *opaque)
{
    return ((VgpuStubState *)opaque)->queues != NULL;
}

static int vgpu_shm_pre_save(void *opaque)
{
    VgpuStubState *s = opaque;

    s->saved_shm_size = s->shm_size;
    s->saved_queue_count = s->queue_count;
    return 0;
}

static int vgpu_shm_post_load(void *opaque, int version_id)
{
    VgpuStubState *s = opaque;

    if (s->saved_shm_size != s->shm_size ||
        s->saved_queue_count != s->queue_count) {
        error_report(
            "vgpu-stub (vm_id %" PRIu32
            "): the migration stream is from a device with shm-size=%" PRIu64
            ",queues=%" PRIu32,
            s->vm_id, s->saved_shm_size, s->saved_queue_count);
        return -EINVAL;
    }
    return 0;
}

/*
 * The memory's contents are not migrated: it is not served during a migration.
 */
/* clang-format off */
static const VMStateDescription vgpu_shm_vmstate = {
    .name = TYPE_VGPU_STUB "/shm",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = vgpu_shm_needed,
    .pre_save = vgpu_shm_pre_save,
    .post_load = vgpu_shm_post_load,
    .fields = (VMStateField[]) {
        VMSTATE_UINT64(saved_shm_size, VgpuStubState),
        VMSTATE_UINT32(saved_queue_count, VgpuStubState),
        VMSTATE_UINT64(regs.queue_irq, VgpuStubState),
        VMSTATE_MSIX(parent_obj, VgpuStubState),
        VMSTATE_END_OF_LIST()
    }
};

/*
 * Pool, priority and VM id are not migrated: the destination's command line
 * sets them.
 */
static const VMStateDescription vgpu_vmstate = {
    .name = TYPE_VGPU_STUB,
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_save = vgpu_pre_save,
    .post_load = vgpu_post_load,
    .fields = (VMStateField[]) {
        VMSTATE_PCI_DEVICE(parent_obj, VgpuStubState),
        VMSTATE_UINT32(regs.status, VgpuStubState),
        VMSTATE_UINT32(regs.error_code, VgpuStubState),
        VMSTATE_UINT32(regs.request_len, VgpuStubState),
        VMSTATE_UINT32(regs.response_len, VgpuStubState),
        VMSTATE_UINT32(regs.irq_ctrl, VgpuStubState),
        VMSTATE_UINT32(regs.irq_status, VgpuStubState),
        VMSTATE_UINT32(regs.request_id, VgpuStubState),
        VMSTATE_UINT64(regs.timestamp, VgpuStubState),
        VMSTATE_UINT32(regs.scratch, VgpuStubState),
        VMSTATE_UINT8_ARRAY(regs.request, VgpuStubState, VGPU_BUF_SIZE),
        VMSTATE_UINT8_ARRAY(regs.response, VgpuStubState, VGPU_BUF_SIZE),
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription * []) {
        &vgpu_shm_vmstate, NULL
    }
};
/* clang-format on */

/* --- registration --- */

/* clang-format off */
static VGPU_PROPERTY vgpu_properties[] = {
    DEFINE_PROP_CHR("chardev", VgpuStubState, link.chr),
    DEFINE_PROP_STRING("socket", VgpuStubState, link.socket),
    DEFINE_PROP_STRING("pool_id", VgpuStubState, pool),
    DEFINE_PROP_STRING("priority", VgpuStubState, priority),
    DEFINE_PROP_UINT32("vm_id", VgpuStubState, vm_id, 0),
    DEFINE_PROP_UINT32("timeout-ms", VgpuStubState, timeout_ms,
                       VGPU_TIMEOUT_DEFAULT_MS),
    DEFINE_PROP_UINT32("connect-wait-ms", VgpuStubState, connect_wait_ms,
                       VGPU_CONNECT_WAIT_DEFAULT_MS),
    DEFINE_PROP_BOOL("basic", VgpuStubState, basic, false),
    DEFINE_PROP_SIZE("shm-size", VgpuStubState, shm_size,
                     VGPU_SHM_SIZE_DEFAULT),
    DEFINE_PROP_UINT32("queues", VgpuStubState, queue_count,
                       VGPU_QUEUES_DEFAULT),
#ifdef DEFINE_PROP_END_OF_LIST
    DEFINE_PROP_END_OF_LIST(),
#endif
};
/* clang-format on */

static void vgpu_class_init(ObjectClass *klass, VgpuClassData *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *pc = PCI_DEVICE_CLASS(klass);

    pc->realize = vgpu_realize;
    pc->exit = vgpu_exit;
    pc->config_write = vgpu_write_config;
    pc->vendor_id = VGPU_PCI_VENDOR_ID;
    pc->device_id = VGPU_PCI_DEVICE_ID;
    pc->class_id = VGPU_PCI_CLASS;
    pc->revision = VGPU_PCI_REVISION;

    dc->desc = "vgpu: forwards the guest's GPU requests to the mediator";
    dc->vmsd = &vgpu_vmstate;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
#if VGPU_QEMU_AT_LEAST(5, 0)
    device_class_set_props(dc, vgpu_properties);
    RESETTABLE_CLASS(klass)->phases.enter = vgpu_reset_enter;
    RESETTABLE_CLASS(klass)->phases.hold = vgpu_reset_hold;
#else
    dc->props = vgpu_properties;
    dc->reset = vgpu_reset_legacy;
#endif
}

static void vgpu_register_types(void)
{
    /* clang-format off */
    static VGPU_INTERFACES interfaces[] = {
        { INTERFACE_CONVENTIONAL_PCI_DEVICE },
        { }
    };
    /* clang-format on */
    static const TypeInfo info = {
        .name = TYPE_VGPU_STUB,
        .parent = TYPE_PCI_DEVICE,
        .instance_size = sizeof(VgpuStubState),
        .class_init = vgpu_class_init,
        .interfaces = interfaces,
    };

    type_register_static(&info);
}

type_init(vgpu_register_types)
