/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vgpu-compat.h: differences between QEMU 4.2 and 10.x, for vgpu-stub.c only.
 *
 * The device uses the newest interfaces; this file defines the same names for
 * older versions.
 */
#ifndef VGPU_COMPAT_H
#define VGPU_COMPAT_H

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
#if VGPU_QEMU_AT_LEAST(10, 0)
#include "system/kvm.h"
#include "system/runstate.h"
#include "system/xen.h"
#else
#include "sysemu/kvm.h"
#include "sysemu/runstate.h"
#if VGPU_QEMU_AT_LEAST(5, 1)
#include "sysemu/xen.h"
#else
#include "hw/xen/xen.h"
#endif
#endif

#if VGPU_QEMU_AT_LEAST(5, 0)
typedef QEMUChrEvent VgpuChrEvent;
#else
typedef int VgpuChrEvent;
#endif

#if VGPU_QEMU_AT_LEAST(6, 0)
typedef bool VgpuRunning;
#else
typedef int VgpuRunning;
#endif

/* QEMU 10.0 removed the end marker of property lists and made them constant. */
#ifdef DEFINE_PROP_END_OF_LIST
#define VGPU_PROPERTY Property
#else
#define VGPU_PROPERTY const Property
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

#ifdef CONFIG_LINUX
/*
 * Creates `region` on `fd`'s memory and takes ownership of `fd`, unless it sets
 * *errp.
 */
static void vgpu_init_shared_ram(MemoryRegion *region, Object *owner,
                                 const char *name, uint64_t size, int fd,
                                 Error **errp)
{
#if VGPU_QEMU_AT_LEAST(6, 1)
    memory_region_init_ram_from_fd(region, owner, name, size, RAM_SHARED, fd, 0,
                                   errp);
#elif VGPU_QEMU_AT_LEAST(6, 0)
    memory_region_init_ram_from_fd(region, owner, name, size, true, fd, 0,
                                   errp);
#else
    memory_region_init_ram_from_fd(region, owner, name, size, true, fd, errp);
#endif
}
#endif

/*
 * Adds a KVM route for the message of MSI-X vector `vector`. Returns < 0 on
 * failure.
 */
static int vgpu_add_msi_route(PCIDevice *pci, unsigned vector)
{
#if VGPU_QEMU_AT_LEAST(7, 0)
    KVMRouteChange change = kvm_irqchip_begin_route_changes(kvm_state);
    int virq = kvm_irqchip_add_msi_route(&change, vector, pci);

    if (virq >= 0) {
        kvm_irqchip_commit_route_changes(&change);
    }
    return virq;
#else
    return kvm_irqchip_add_msi_route(kvm_state, vector, pci);
#endif
}

#endif /* VGPU_COMPAT_H */
