/* SPDX-License-Identifier: MIT */
/* Uses the C API from C: a NULL device is rejected, and a NULL `why` is allowed. */
#include "client/include/vgpu.h"

int vgpu_header_compiles_as_c(void);

int vgpu_header_compiles_as_c(void) {
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    struct vgpu_failure why = {0};
    uint32_t sum = 0;

    options.sysfs_root = "/nonexistent";
    if (vgpu_add(NULL, 1, 2, 0, &sum, &why) != VGPU_E_ARGUMENT || why.code != VGPU_E_ARGUMENT)
        return 1;
    if (vgpu_enumerate(&options, NULL, 0, NULL, NULL) != VGPU_E_ARGUMENT)
        return 2;
    return vgpu_version()[0] == '\0' ? 3 : 0;
}
