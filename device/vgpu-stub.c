/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vgpu-stub: a PCI device that carries a guest's requests to the vgpu mediator and back.
 *
 *     -device vgpu-stub,socket=/run/vgpu/mediator.sock,pool_id=A,priority=high,vm_id=1
 *     -chardev socket,id=vg0,path=...,reconnect=1 -device vgpu-stub,chardev=vg0,vm_id=1
 *
 * The registers are vgpu-regs.h, the messages vgpu-wire.h; this file joins them to QEMU: the BAR,
 * the interrupts, the character device to the mediator, the time-out, reset and migration.
 *
 * It must never make a vCPU wait: the doorbell hands the request to a non-blocking socket and
 * returns, the answer arrives on the main loop. Nothing a guest or a mediator sends may stop QEMU:
 * a guest's wrong access is logged and ignored, a mediator that does not speak the protocol loses
 * its connection. Everything here runs under QEMU's global lock.
 *
 * One file for QEMU 4.2 to 10.x: what differs between them is in the first section.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/config-file.h"
#include "qemu/error-report.h"
#include "qemu/log.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/option.h"
#include "qemu/timer.h"
#include "chardev/char-fe.h"
#include "hw/pci/msi.h"
#include "hw/pci/pci.h"
#include "migration/blocker.h"
#include "migration/vmstate.h"
#include "trace.h"

#include "vgpu-regs.h"
#include "vgpu-wire.h"

/* --- differences between QEMU versions ------------------------------------------------------- */

#define VGPU_QEMU_AT_LEAST(major, minor) \
    (QEMU_VERSION_MAJOR > (major) ||     \
     (QEMU_VERSION_MAJOR == (major) && QEMU_VERSION_MINOR >= (minor)))

#include "hw/qdev-properties.h"
#if VGPU_QEMU_AT_LEAST(6, 0)
#include "hw/qdev-properties-system.h"
#endif
#if VGPU_QEMU_AT_LEAST(8, 0)
#include "hw/pci/pci_device.h"
#endif
#if VGPU_QEMU_AT_LEAST(5, 0)
#include "hw/resettable.h"
#endif

#if VGPU_QEMU_AT_LEAST(5, 0)
typedef QEMUChrEvent VgpuChrEvent;
#else
typedef int VgpuChrEvent;
#endif

#if VGPU_QEMU_AT_LEAST(9, 2)
#define VGPU_RECONNECT_OPTION "reconnect-ms"
#define VGPU_RECONNECT_VALUE "1000"
#else
#define VGPU_RECONNECT_OPTION "reconnect"
#define VGPU_RECONNECT_VALUE "1"
#endif

/* Lists of properties lost their end mark, and became constant, in 10.0. */
#ifdef DEFINE_PROP_END_OF_LIST
#define VGPU_PROPERTY Property
#define VGPU_PROPERTIES_END DEFINE_PROP_END_OF_LIST(),
#else
#define VGPU_PROPERTY const Property
#define VGPU_PROPERTIES_END
#endif

#if VGPU_QEMU_AT_LEAST(10, 1)
typedef const void VgpuClassData;
#define VGPU_INTERFACES const InterfaceInfo
#else
typedef void VgpuClassData;
#define VGPU_INTERFACES InterfaceInfo
#endif

#if VGPU_QEMU_AT_LEAST(10, 2)
#define CharBackend CharFrontend
#endif

/* Adds *reason as a blocker; on failure *reason is freed and NULL. */
static int vgpu_add_blocker(Error **reason, Error **errp)
{
#if VGPU_QEMU_AT_LEAST(8, 2)
    return migrate_add_blocker(reason, errp);
#else
    int ret = migrate_add_blocker(*reason, errp);

    if (ret < 0) {
        error_free(*reason);
        *reason = NULL;
    }
    return ret;
#endif
}

/* Removes *reason, if there is one, and frees it. */
static void vgpu_del_blocker(Error **reason)
{
    if (*reason) {
#if VGPU_QEMU_AT_LEAST(8, 2)
        migrate_del_blocker(reason);
#else
        migrate_del_blocker(*reason);
        error_free(*reason);
        *reason = NULL;
#endif
    }
}

/* --- the device ------------------------------------------------------------------------------ */

#define TYPE_VGPU_STUB "vgpu-stub"
#define VGPU_STUB(obj) OBJECT_CHECK(VgpuStubState, (obj), TYPE_VGPU_STUB)

#define VGPU_TIMEOUT_DEFAULT_MS 30000
#define VGPU_TIMEOUT_MAX_MS 3600000
#define VGPU_WARN_INTERVAL_MS 60000
/* Room for every request that may be given up unsent, one more, and pongs. */
#define VGPU_OUT_SIZE \
    ((VGPU_REGS_MAX_ABANDONED + 2) * (sizeof(struct vgpu_msg_header) + VGPU_BUF_SIZE))

typedef struct VgpuStubState {
    PCIDevice parent_obj;
    MemoryRegion bar0;
    struct vgpu_regs regs;

    /* Properties. */
    CharBackend chr;
    char *socket;
    char *pool;
    char *priority;
    uint32_t vm_id;
    uint32_t timeout_ms;

    bool owns_chardev; /* made for `socket`, goes with the device */
    bool dropping;     /* drop_bh will cut the connection; nothing on it counts any more */
    QEMUBH *drop_bh;
    QEMUTimer timer;
    struct vgpu_wire_in in;
    uint8_t *out; /* VGPU_OUT_SIZE bytes, out_len of them wait to be sent */
    size_t out_len;
    guint out_watch;
    int64_t warned_ms; /* when the last warning was printed; 0: never */
    Error *blocker;    /* refuses migration while a request is in flight */
} VgpuStubState;

static uint64_t vgpu_now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

/* Brings the interrupt in line with the registers. */
static void vgpu_update_irq(VgpuStubState *s)
{
    PCIDevice *pci = PCI_DEVICE(s);
    bool due = vgpu_regs_take_notify(&s->regs);

    if (msi_enabled(pci)) {
        if (due) {
            msi_notify(pci, 0);
        }
    } else {
        pci_set_irq(pci, vgpu_regs_irq_level(&s->regs));
    }
}

/* A request ended, in whatever way: the time-out and the migration blocker go. */
static void vgpu_request_ended(VgpuStubState *s)
{
    timer_del(&s->timer);
    vgpu_del_blocker(&s->blocker);
}

static void vgpu_completed(VgpuStubState *s)
{
    vgpu_request_ended(s);
    if (s->regs.status == VGPU_STATUS_ERROR) {
        trace_vgpu_stub_error(s->vm_id, s->regs.inflight_id, s->regs.error_code);
    }
    vgpu_update_irq(s);
}

/* --- connection ------------------------------------------------------------------------------ */

static void vgpu_stop_sending(VgpuStubState *s)
{
    s->out_len = 0;
    if (s->out_watch) {
        g_source_remove(s->out_watch);
        s->out_watch = 0;
    }
}

/* The connection no longer counts; a request in flight ends in ERROR 3. */
static void vgpu_link_lost(VgpuStubState *s)
{
    vgpu_stop_sending(s);
    if (s->regs.link_up) {
        trace_vgpu_stub_disconnected(s->vm_id);
    }
    if (vgpu_regs_disconnected(&s->regs, vgpu_now())) {
        vgpu_completed(s);
    }
}

/*
 * Cuts a connection that is not worth keeping; QEMU's chardev then connects again. The cut itself
 * is left to a bottom half, as this may be called from within the chardev's own callbacks.
 */
static void vgpu_drop_connection(VgpuStubState *s, const char *reason)
{
    int64_t now_ms = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);

    if (s->dropping) {
        return;
    }
    trace_vgpu_stub_drop_connection(s->vm_id, reason);
    if (!s->warned_ms || now_ms - s->warned_ms >= VGPU_WARN_INTERVAL_MS) {
        s->warned_ms = now_ms;
        warn_report("vgpu-stub (vm_id %" PRIu32 "): connection dropped: the mediator %s", s->vm_id,
                    reason);
    }
    s->dropping = true;
    qemu_bh_schedule(s->drop_bh);
    vgpu_link_lost(s);
}

static void vgpu_drop_bh(void *opaque)
{
    VgpuStubState *s = opaque;

    if (s->dropping) {
        qemu_chr_fe_disconnect(&s->chr);
        s->dropping = false;
    }
}

static gboolean vgpu_out_ready(void *source, GIOCondition condition, void *opaque);

/* Sends what waits as far as the socket takes it; a watch sends the rest. */
static void vgpu_flush(VgpuStubState *s)
{
    while (s->out_len > 0 && !s->out_watch) {
        int sent = qemu_chr_fe_write(&s->chr, s->out, s->out_len);

        if (!s->regs.link_up) {
            return; /* lost while writing: the event handler has dealt with it */
        }
        if (sent > 0) {
            s->out_len -= sent;
            memmove(s->out, s->out + sent, s->out_len);
            continue;
        }
        /* The cast: QEMU before 6.2 declares the callback with its own type of first argument. */
        s->out_watch =
            qemu_chr_fe_add_watch(&s->chr, G_IO_OUT | G_IO_HUP, (void *)vgpu_out_ready, s);
        if (!s->out_watch) {
            vgpu_drop_connection(s, "cannot be waited for on this kind of chardev");
            return;
        }
    }
}

static gboolean vgpu_out_ready(void *source, GIOCondition condition, void *opaque)
{
    VgpuStubState *s = opaque;

    s->out_watch = 0;
    vgpu_flush(s);
    return FALSE;
}

static void vgpu_send(VgpuStubState *s, const struct vgpu_msg_header *header,
                      const uint8_t *payload)
{
    size_t size = sizeof(*header) + header->payload_len;

    if (size > VGPU_OUT_SIZE - s->out_len) {
        vgpu_drop_connection(s, "does not read what it is sent");
        return;
    }
    memcpy(s->out + s->out_len, header, sizeof(*header));
    if (header->payload_len) {
        memcpy(s->out + s->out_len + sizeof(*header), payload, header->payload_len);
    }
    s->out_len += size;
    vgpu_flush(s);
}

/* Sends the request that the doorbell has just taken. */
static void vgpu_submit(VgpuStubState *s)
{
    struct vgpu_msg_header header = {
        .magic = VGPU_MSG_MAGIC,
        .msg_type = VGPU_MSG_REQUEST,
        .vm_id = s->vm_id,
        .request_id = s->regs.inflight_id,
        .pool_id = s->regs.pool_id,
        .priority = s->regs.priority,
        .payload_len = s->regs.inflight_len,
    };

    error_setg(&s->blocker,
               "vgpu-stub (vm_id %" PRIu32
               "): a request is in flight; try again "
               "when the guest has got its answer",
               s->vm_id);
    /* While a migration runs no blocker can be added: pre_save checks again. */
    vgpu_add_blocker(&s->blocker, NULL);
    timer_mod(&s->timer, qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) + s->timeout_ms);
    trace_vgpu_stub_send(s->vm_id, header.request_id, header.payload_len);
    vgpu_send(s, &header, s->regs.inflight);
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
        vgpu_drop_connection(s, "owes too many answers");
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
            verdict = vgpu_regs_answer(&s->regs, header->request_id, payload, header->payload_len,
                                       vgpu_now());
            break;
        case VGPU_MSG_BUSY:
            verdict =
                vgpu_regs_refused(&s->regs, header->request_id, VGPU_ERR_RATE_LIMITED, vgpu_now());
            break;
        case VGPU_MSG_QUARANTINED:
            verdict =
                vgpu_regs_refused(&s->regs, header->request_id, VGPU_ERR_QUARANTINED, vgpu_now());
            break;
        default: /* PONG */
            return;
    }
    switch (verdict) {
        case VGPU_REGS_COMPLETED:
            trace_vgpu_stub_answer(s->vm_id, header->request_id, header->payload_len);
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

static int vgpu_can_read(void *opaque)
{
    return sizeof(struct vgpu_msg_header) + VGPU_BUF_SIZE;
}

static void vgpu_read_chr(void *opaque, const uint8_t *data, int size)
{
    VgpuStubState *s = opaque;
    size_t left = size;

    while (s->regs.link_up && !s->dropping) {
        struct vgpu_msg_header header;
        const uint8_t *payload;
        const char *reason;

        switch (vgpu_wire_feed(&s->in, &data, &left, &header, &payload, &reason)) {
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

static void vgpu_chr_event(void *opaque, VgpuChrEvent event)
{
    VgpuStubState *s = opaque;

    if (event == CHR_EVENT_OPENED) {
        s->dropping = false;
        vgpu_stop_sending(s);
        vgpu_wire_restart(&s->in, s->vm_id);
        vgpu_regs_connected(&s->regs);
        trace_vgpu_stub_connected(s->vm_id);
    } else if (event == CHR_EVENT_CLOSED) {
        s->dropping = false;
        vgpu_link_lost(s);
    }
}

/* --- BAR 0 ----------------------------------------------------------------------------------- */

static uint64_t vgpu_bar0_read(void *opaque, hwaddr offset, unsigned size)
{
    VgpuStubState *s = opaque;
    uint32_t effect;
    uint64_t value = vgpu_regs_read(&s->regs, offset, size, &effect);

    trace_vgpu_stub_read(s->vm_id, offset, size, value);
    if (effect & VGPU_REGS_GUEST_ERROR) {
        qemu_log_mask(LOG_GUEST_ERROR,
                      "vgpu-stub: read of %u bytes at register offset 0x%" PRIx64
                      " is not an aligned 4-byte access\n",
                      size, (uint64_t)offset);
    }
    return value;
}

static void vgpu_bar0_write(void *opaque, hwaddr offset, uint64_t value, unsigned size)
{
    VgpuStubState *s = opaque;
    uint32_t effect;

    trace_vgpu_stub_write(s->vm_id, offset, size, value);
    if (offset == VGPU_REG_DOORBELL) {
        trace_vgpu_stub_doorbell(s->vm_id, s->regs.request_id, s->regs.request_len);
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
}

/* Every access reaches the register file as the guest made it; that decides what is wrong. */
static const MemoryRegionOps vgpu_bar0_ops = {
    .read = vgpu_bar0_read,
    .write = vgpu_bar0_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = {.min_access_size = 1, .max_access_size = 8, .unaligned = true},
    .impl = {.min_access_size = 1, .max_access_size = 8, .unaligned = true},
};

static void vgpu_write_config(PCIDevice *pci, uint32_t address, uint32_t value, int size)
{
    pci_default_write_config(pci, address, value, size);
    /* When the guest has just switched MSI off, a pending interrupt goes back to the pin. */
    if (!msi_enabled(pci)) {
        pci_set_irq(pci, vgpu_regs_irq_level(&VGPU_STUB(pci)->regs));
    }
}

/* --- life of the device ---------------------------------------------------------------------- */

/* Opens a client socket that connects again by itself. Any character may stand in the path. */
static Chardev *vgpu_open_socket(VgpuStubState *s, Error **errp)
{
    char *label = object_get_canonical_path(OBJECT(s));
    char *id = g_strconcat("vgpu", label, NULL);
    Chardev *chr = NULL;
    QemuOpts *opts;

    /* A QEMU id has letters, digits, '-', '.' and '_' only. */
    g_strcanon(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._", '.');
    opts = qemu_opts_create(qemu_find_opts("chardev"), id, 1, errp);
    if (opts) {
        qemu_opt_set(opts, "backend", "socket", &error_abort);
        qemu_opt_set(opts, "path", s->socket, &error_abort);
        qemu_opt_set(opts, VGPU_RECONNECT_OPTION, VGPU_RECONNECT_VALUE, &error_abort);
        chr = qemu_chr_new_from_opts(opts, NULL, errp);
        qemu_opts_del(opts);
    }
    g_free(id);
    g_free(label);
    return chr;
}

static bool vgpu_parse_priority(const char *text, uint8_t *priority)
{
    static const char *const names[] = {"low", "medium", "high"};
    unsigned i;

    for (i = 0; i < VGPU_PRIORITY_COUNT; i++) {
        if (strcmp(text, names[i]) == 0 || (text[0] == (char)('0' + i) && text[1] == '\0')) {
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
    struct sockaddr_un address;
    uint8_t priority;

    if (!g_ascii_isalpha(pool[0]) || pool[1] != '\0') {
        error_setg(errp, "vgpu-stub: pool_id must be one letter, A to Z or a to z, not '%s'", pool);
        return false;
    }
    if (!vgpu_parse_priority(text, &priority)) {
        error_setg(errp,
                   "vgpu-stub: priority must be low, medium or high (or 0, 1 or 2), "
                   "not '%s'",
                   text);
        return false;
    }
    if (s->timeout_ms < 1 || s->timeout_ms > VGPU_TIMEOUT_MAX_MS) {
        error_setg(errp, "vgpu-stub: timeout-ms must be 1 to %d milliseconds, not %" PRIu32,
                   VGPU_TIMEOUT_MAX_MS, s->timeout_ms);
        return false;
    }
    if (s->socket && qemu_chr_fe_backend_connected(&s->chr)) {
        error_setg(errp, "vgpu-stub: give either chardev or socket, not both");
        return false;
    }
    if (s->socket && (s->socket[0] == '\0' || strlen(s->socket) >= sizeof(address.sun_path))) {
        error_setg(errp,
                   "vgpu-stub: socket must be the path of a Unix socket, 1 to %zu bytes "
                   "long, not '%s'",
                   sizeof(address.sun_path) - 1, s->socket);
        return false;
    }
    vgpu_regs_init(&s->regs, pool[0], priority, s->vm_id);
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
    pci_config_set_interrupt_pin(pci->config, 1);
    ret = msi_init(pci, 0, 1, true, false, &local);
    if (ret == -ENOTSUP) {
        error_free(local); /* a board without MSI: the pin serves */
    } else if (ret < 0) {
        error_propagate(errp, local);
        return;
    }
    if (s->socket) {
        Chardev *chr = vgpu_open_socket(s, errp);

        if (!chr) {
            msi_uninit(pci);
            return;
        }
        /* A chardev just made has no other user, so this cannot fail. */
        qemu_chr_fe_init(&s->chr, chr, &error_abort);
        s->owns_chardev = true;
    }

    s->out = g_malloc(VGPU_OUT_SIZE);
    s->drop_bh = qemu_bh_new(vgpu_drop_bh, s);
    timer_init_ms(&s->timer, QEMU_CLOCK_VIRTUAL, vgpu_timeout, s);
    memory_region_init_io(&s->bar0, OBJECT(s), &vgpu_bar0_ops, s, "vgpu-stub-bar0", VGPU_BAR0_SIZE);
    pci_register_bar(pci, 0, PCI_BASE_ADDRESS_SPACE_MEMORY, &s->bar0);
    qemu_chr_fe_set_handlers(&s->chr, vgpu_can_read, vgpu_read_chr, vgpu_chr_event, NULL, s, NULL,
                             true);
}

static void vgpu_exit(PCIDevice *pci)
{
    VgpuStubState *s = VGPU_STUB(pci);

    /* First the callbacks, then what they use. */
    vgpu_stop_sending(s);
    qemu_chr_fe_deinit(&s->chr, s->owns_chardev);
    s->owns_chardev = false;
    vgpu_request_ended(s);
    qemu_bh_delete(s->drop_bh);
    s->drop_bh = NULL;
    g_free(s->out);
    s->out = NULL;
    msi_uninit(pci);
}

static void vgpu_reset(VgpuStubState *s)
{
    bool keep = vgpu_regs_reset(&s->regs);

    trace_vgpu_stub_reset(s->vm_id);
    vgpu_request_ended(s);
    if (!keep) {
        vgpu_drop_connection(s, "owes too many answers");
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

/* --- migration ------------------------------------------------------------------------------- */

static int vgpu_pre_save(void *opaque)
{
    VgpuStubState *s = opaque;

    if (s->regs.status == VGPU_STATUS_BUSY) {
        error_report("vgpu-stub (vm_id %" PRIu32
                     "): a request is in flight; migrate again when "
                     "the guest has got its answer",
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
                     "): the saved state holds register values that "
                     "no device can have",
                     s->vm_id);
        return -EINVAL;
    }
    return 0;
}

/* Pool, priority and VM id are not carried: they are what the destination's command line says. */
static const VMStateDescription vgpu_vmstate = {
    .name = TYPE_VGPU_STUB,
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_save = vgpu_pre_save,
    .post_load = vgpu_post_load,
    .fields = (VMStateField[]){
        VMSTATE_PCI_DEVICE(parent_obj, VgpuStubState), VMSTATE_UINT32(regs.status, VgpuStubState),
        VMSTATE_UINT32(regs.error_code, VgpuStubState),
        VMSTATE_UINT32(regs.request_len, VgpuStubState),
        VMSTATE_UINT32(regs.response_len, VgpuStubState),
        VMSTATE_UINT32(regs.irq_ctrl, VgpuStubState),
        VMSTATE_UINT32(regs.irq_status, VgpuStubState),
        VMSTATE_UINT32(regs.request_id, VgpuStubState),
        VMSTATE_UINT64(regs.timestamp, VgpuStubState), VMSTATE_UINT32(regs.scratch, VgpuStubState),
        VMSTATE_UINT8_ARRAY(regs.request, VgpuStubState, VGPU_BUF_SIZE),
        VMSTATE_UINT8_ARRAY(regs.response, VgpuStubState, VGPU_BUF_SIZE), VMSTATE_END_OF_LIST()}};

/* --- registration ---------------------------------------------------------------------------- */

static VGPU_PROPERTY vgpu_properties[] = {
    DEFINE_PROP_CHR("chardev", VgpuStubState, chr),
    DEFINE_PROP_STRING("socket", VgpuStubState, socket),
    DEFINE_PROP_STRING("pool_id", VgpuStubState, pool),
    DEFINE_PROP_STRING("priority", VgpuStubState, priority),
    DEFINE_PROP_UINT32("vm_id", VgpuStubState, vm_id, 0),
    DEFINE_PROP_UINT32("timeout-ms", VgpuStubState, timeout_ms, VGPU_TIMEOUT_DEFAULT_MS),
    VGPU_PROPERTIES_END};

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

    dc->desc = "vgpu: carries a guest's GPU requests to the mediator";
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
    static VGPU_INTERFACES interfaces[] = {{INTERFACE_CONVENTIONAL_PCI_DEVICE}, {}};
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
