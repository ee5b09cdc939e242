/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vgpu-link.h: the device's connection to the mediator, for vgpu-stub.c only.
 *
 * There are two kinds. With the property `chardev` QEMU owns the socket and
 * decides when to connect. With `socket` the device owns it: connect() on a
 * Unix socket succeeds or fails at once, so a doorbell can connect without
 * blocking the vCPU. Otherwise the device reconnects a second after a
 * disconnect.
 *
 * A mediator may serve one request per connection, so after a connection that
 * delivered a response the next may follow at once. Without a response a guest
 * gets VGPU_LINK_ATTEMPTS connections and then one per second: it must not
 * flood a mediator that rejects it.
 *
 * Nothing here blocks. Everything runs under QEMU's global lock; callbacks come
 * from the main loop, vgpu_link_connect() and vgpu_link_drop().
 */
#ifndef VGPU_LINK_H
#define VGPU_LINK_H

#include <sys/socket.h>
#include <sys/un.h>

#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/sockets.h"
#include "qemu/timer.h"
#include "chardev/char-fe.h"

#include "vgpu-compat.h"

#define VGPU_LINK_RETRY_MS 1000
/* Retry interval while the mediator's backlog is full. */
#define VGPU_LINK_BACKLOG_MS 10
/* Connections without a response that may be made in immediate succession. */
#define VGPU_LINK_ATTEMPTS 3
#define VGPU_LINK_READ 4096
#define VGPU_LINK_DESCRIPTORS 2

typedef struct VgpuLinkOps {
    void (*opened)(void *opaque);
    /*
     * `unread`: the mediator has not read everything that was sent. May be
     * called repeatedly.
     */
    void (*closed)(void *opaque, bool unread);
    void (*received)(void *opaque, const uint8_t *data, int size);
    void (*writable)(void *opaque); /* once for each vgpu_link_watch() */
} VgpuLinkOps;

typedef struct VgpuLink {
    /* Properties. */
    CharBackend chr;
    char *socket;

    const VgpuLinkOps *ops;
    void *opaque;
    uint32_t vm_id;

    char *path; /* absolute; NULL: chardev, or no connection at all */
    int fd;     /* connected to `path`; -1: not connected */
    QEMUTimer retry;
    /* a failed connect was reported since the last connection */
    bool told;
    /* connections made in close succession since the last response */
    uint32_t attempts;
    int64_t made_ms; /* time of the last one */
    bool watching;   /* fd is watched for writability */
    guint chr_watch; /* same for the chardev; 0: not watched */
} VgpuLink;

enum VgpuLinkConnect {
    VGPU_LINK_CONNECTED, /* opened() has been called */
    VGPU_LINK_LATER,     /* a connection may follow */
    VGPU_LINK_REFUSED,   /* no listener, or nothing to connect to */
};

/* Returns whether the device owns the socket. */
static bool vgpu_link_owned(const VgpuLink *l)
{
    return l->path != NULL;
}

/* Frees what vgpu_link_configure() has allocated. */
static void vgpu_link_unconfigure(VgpuLink *l)
{
    g_free(l->path);
    l->path = NULL;
}

/* Checks the properties. */
static bool vgpu_link_configure(VgpuLink *l, Error **errp)
{
    struct sockaddr_un address;
    char *folder;

    if (!l->socket) {
        return true;
    }
    if (qemu_chr_fe_backend_connected(&l->chr)) {
        error_setg(errp,
                   "vgpu-stub: chardev and socket are mutually exclusive");
        return false;
    }
    if (l->socket[0] == '\0' || strlen(l->socket) >= sizeof(address.sun_path)) {
        error_setg(errp,
                   "vgpu-stub: socket must be the path of a Unix socket, 1 to "
                   "%zu bytes "
                   "long, not '%s'",
                   sizeof(address.sun_path) - 1, l->socket);
        return false;
    }
    /* QEMU changes its working directory when it daemonizes. */
    folder = g_get_current_dir();
    l->path = g_path_is_absolute(l->socket)
                  ? g_strdup(l->socket)
                  : g_build_filename(folder, l->socket, NULL);
    g_free(folder);
    if (strlen(l->path) >= sizeof(address.sun_path)) {
        error_setg(errp,
                   "vgpu-stub: the absolute path of socket is longer than %zu "
                   "bytes, '%s': use a shorter absolute path",
                   sizeof(address.sun_path) - 1, l->path);
        vgpu_link_unconfigure(l);
        return false;
    }
    return true;
}

/* --- the device's own socket --- */

static void vgpu_socket_readable(void *opaque);
static void vgpu_socket_writable(void *opaque);

static void vgpu_socket_watch(VgpuLink *l, bool room)
{
    l->watching = room;
    qemu_set_fd_handler(l->fd, vgpu_socket_readable,
                        room ? vgpu_socket_writable : NULL, l);
}

static void vgpu_socket_close(VgpuLink *l)
{
    if (l->fd >= 0) {
        qemu_set_fd_handler(l->fd, NULL, NULL, NULL);
        close(l->fd);
        l->fd = -1;
        l->watching = false;
    }
}

static void vgpu_socket_ended(VgpuLink *l, bool unread)
{
    vgpu_socket_close(l);
    timer_mod(&l->retry,
              qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + VGPU_LINK_RETRY_MS);
    l->ops->closed(l->opaque, unread);
}

static void vgpu_socket_readable(void *opaque)
{
    VgpuLink *l = opaque;
    uint8_t bytes[VGPU_LINK_READ];
    ssize_t got = recv(l->fd, bytes, sizeof(bytes), 0);

    if (got > 0) {
        l->ops->received(l->opaque, bytes, got);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        /*
         * ECONNRESET: Linux reports a Unix socket closed with unread bytes this
         * way.
         */
        vgpu_socket_ended(l, got < 0 && errno == ECONNRESET);
    }
}

static void vgpu_socket_writable(void *opaque)
{
    VgpuLink *l = opaque;

    vgpu_socket_watch(l, false);
    l->ops->writable(l->opaque);
}

/* A socket connected to `path`, or a negative errno. */
static int vgpu_socket_open(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = qemu_socket(AF_UNIX, SOCK_STREAM, 0);
    int error;

    if (fd < 0) {
        return -errno;
    }
    memcpy(address.sun_path, path,
           /* vgpu_link_configure() has checked the path's length */
           strlen(path));
    if (fcntl(fd, F_SETFL, O_NONBLOCK) == 0 &&
        connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
        return fd;
    }
    error = errno;
    close(fd);
    return -error;
}

/* Returns the number of recent attempts. */
static uint32_t vgpu_socket_attempts(const VgpuLink *l)
{
    return qemu_clock_get_ms(QEMU_CLOCK_REALTIME) - l->made_ms <
                   VGPU_LINK_RETRY_MS
               ? l->attempts
               : 0;
}

/* What to do about an error of connect(2), as a sentence to append. */
static const char *vgpu_connect_remedy(int error)
{
    switch (error) {
    case EACCES:
    case EPERM:
        return ". QEMU's user needs write permission on the socket: add it to "
               "the socket's group (vgpu) and start the VM again";
    case ENOENT:
    case ECONNREFUSED:
        return ". Start vgpu-mediator on this host";
    default:
        return "";
    }
}

static enum VgpuLinkConnect vgpu_socket_connect(VgpuLink *l)
{
    int fd = vgpu_socket_open(l->path);
    bool full = fd == -EAGAIN;

    if (fd >= 0) {
        timer_del(&l->retry);
        l->fd = fd;
        l->told = false;
        l->attempts = vgpu_socket_attempts(l) + 1;
        l->made_ms = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
        vgpu_socket_watch(l, false);
        l->ops->opened(l->opaque);
        return VGPU_LINK_CONNECTED;
    }
    timer_mod(&l->retry,
              qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                  (full ? VGPU_LINK_BACKLOG_MS : VGPU_LINK_RETRY_MS));
    if (full) {
        return VGPU_LINK_LATER;
    }
    if (!l->told) {
        l->told = true;
        warn_report(
            "vgpu-stub (vm_id %" PRIu32
            "): cannot connect to the mediator at %s: %s; will keep retrying%s",
            l->vm_id, l->path, strerror(-fd), vgpu_connect_remedy(-fd));
    }
    return VGPU_LINK_REFUSED;
}

static void vgpu_socket_retry(void *opaque)
{
    VgpuLink *l = opaque;

    if (l->fd < 0) {
        vgpu_socket_connect(l);
    }
}

static int vgpu_socket_write(VgpuLink *l, const uint8_t *bytes, size_t size,
                             const int *fds, size_t fd_count)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * VGPU_LINK_DESCRIPTORS)];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t sent;

    if (l->fd < 0) {
        errno = EPIPE;
        return -1;
    }
    if (fd_count > 0) {
        struct cmsghdr *header;

        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
    }
    do {
        sent = sendmsg(l->fd, &message, 0); /* QEMU ignores SIGPIPE */
    } while (sent < 0 && errno == EINTR);
    return sent;
}

/* --- the chardev --- */

static int vgpu_chr_can_read(void *opaque)
{
    return VGPU_LINK_READ;
}

static void vgpu_chr_read(void *opaque, const uint8_t *data, int size)
{
    VgpuLink *l = opaque;

    l->ops->received(l->opaque, data, size);
}

static void vgpu_chr_event(void *opaque, VgpuChrEvent event)
{
    VgpuLink *l = opaque;

    if (event == CHR_EVENT_OPENED) {
        l->ops->opened(l->opaque);
    } else if (event == CHR_EVENT_CLOSED) {
        l->ops->closed(l->opaque, false); /* QEMU does not report it */
    }
}

static gboolean vgpu_chr_writable(void *source, GIOCondition condition,
                                  void *opaque)
{
    VgpuLink *l = opaque;

    l->chr_watch = 0;
    l->ops->writable(l->opaque);
    return FALSE;
}

static int vgpu_chr_write(VgpuLink *l, const uint8_t *bytes, size_t size,
                          const int *fds, size_t fd_count)
{
    int copy[VGPU_LINK_DESCRIPTORS];
    int sent;
    int error;

    if (fd_count == 0) {
        return qemu_chr_fe_write(&l->chr, bytes, size);
    }
    memcpy(copy, fds, sizeof(*fds) * fd_count);
    if (qemu_chr_fe_set_msgfds(&l->chr, copy, fd_count) < 0) {
        errno = EPIPE;
        return -1;
    }
    sent = qemu_chr_fe_write(&l->chr, bytes, size);
    /*
     * After EAGAIN the chardev keeps the descriptors, but they belong to no
     * other message.
     */
    error = errno;
    qemu_chr_fe_set_msgfds(&l->chr, NULL, 0);
    errno = error;
    return sent;
}

/* --- common --- */

/* Starts connecting. The properties have been checked. */
static void vgpu_link_init(VgpuLink *l, const VgpuLinkOps *ops, void *opaque,
                           uint32_t vm_id)
{
    l->ops = ops;
    l->opaque = opaque;
    l->vm_id = vm_id;
    l->fd = -1;
    timer_init_ms(&l->retry, QEMU_CLOCK_REALTIME, vgpu_socket_retry, l);
    if (vgpu_link_owned(l)) {
        /* Connect from the main loop, when the machine is complete. */
        timer_mod(&l->retry, qemu_clock_get_ms(QEMU_CLOCK_REALTIME));
    } else {
        qemu_chr_fe_set_handlers(&l->chr, vgpu_chr_can_read, vgpu_chr_read,
                                 vgpu_chr_event, NULL, l, NULL, true);
    }
}

/* Disconnects and frees everything. No callbacks follow. */
static void vgpu_link_exit(VgpuLink *l)
{
    vgpu_socket_close(l);
    timer_del(&l->retry);
    if (l->chr_watch) {
        g_source_remove(l->chr_watch);
        l->chr_watch = 0;
    }
    qemu_chr_fe_deinit(&l->chr, false);
    vgpu_link_unconfigure(l);
}

/*
 * Connects for a waiting request, if possible now. Precondition: not connected.
 */
static enum VgpuLinkConnect vgpu_link_connect(VgpuLink *l)
{
    if (!vgpu_link_owned(l)) {
        return qemu_chr_fe_backend_connected(&l->chr) ? VGPU_LINK_LATER
                                                      : VGPU_LINK_REFUSED;
    }
    return vgpu_socket_attempts(l) < VGPU_LINK_ATTEMPTS ? vgpu_socket_connect(l)
                                                        : VGPU_LINK_LATER;
}

/* The mediator has responded: the next connection may be made at once. */
static void vgpu_link_answered(VgpuLink *l)
{
    l->attempts = 0;
}

/* Closes the connection; calls closed(). */
static void vgpu_link_drop(VgpuLink *l)
{
    if (!vgpu_link_owned(l)) {
        qemu_chr_fe_disconnect(&l->chr);
    } else if (l->fd >= 0) {
        vgpu_socket_ended(l, false);
    }
}

/* Returns whether the connection can pass descriptors. Sets none. */
static bool vgpu_link_passes_descriptors(VgpuLink *l)
{
    return vgpu_link_owned(l) || qemu_chr_fe_set_msgfds(&l->chr, NULL, 0) >= 0;
}

/*
 * Sends as much as possible, `fds` with the first byte; returns and sets errno
 * like write(). With a chardev, closed() may be called from within.
 */
static int vgpu_link_write(VgpuLink *l, const uint8_t *bytes, size_t size,
                           const int *fds, size_t fd_count)
{
    return vgpu_link_owned(l) ? vgpu_socket_write(l, bytes, size, fds, fd_count)
                              : vgpu_chr_write(l, bytes, size, fds, fd_count);
}

/*
 * Calls writable() once there is room. Returns false if this kind of chardev
 * cannot.
 */
static bool vgpu_link_watch(VgpuLink *l)
{
    if (vgpu_link_owned(l)) {
        if (l->fd >= 0) {
            vgpu_socket_watch(l, true);
        }
        return true;
    }
    /*
     * Cast: before 6.2 QEMU declares the callback with its own type of first
     * argument.
     */
    l->chr_watch = qemu_chr_fe_add_watch(&l->chr, G_IO_OUT | G_IO_HUP,
                                         (void *)vgpu_chr_writable, l);
    return l->chr_watch != 0;
}

static bool vgpu_link_watched(const VgpuLink *l)
{
    return l->watching || l->chr_watch != 0;
}

static void vgpu_link_unwatch(VgpuLink *l)
{
    if (l->watching) {
        vgpu_socket_watch(l, false);
    }
    if (l->chr_watch) {
        g_source_remove(l->chr_watch);
        l->chr_watch = 0;
    }
}

#endif /* VGPU_LINK_H */
