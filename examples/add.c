/* SPDX-License-Identifier: MIT */
/*
 * Opens the VM's vGPU device, prints its properties, and adds two numbers on the GPU.
 *
 *   cc add.c $(pkg-config --cflags --libs vgpu) -o add && ./add 100 200
 *
 * Exit status: 0 success, 1 failure (with an error message), 2 usage error.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <vgpu/vgpu.h>

/* Time-out of the request. The device's own default is 30 s. */
#define LIMIT_MS 35000u

static int read_number(const char* text, uint32_t* number) {
    char* end = NULL;
    unsigned long long value = 0;

    errno = 0;
    value = strtoull(text, &end, 10);
    /* No sign, no space, and no leading zeros, which could be mistaken for octal. */
    if (text[0] < '0' || text[0] > '9' || (text[0] == '0' && text[1] != '\0') || *end != '\0' ||
        errno != 0 || value > UINT32_MAX) {
        return 0;
    }
    *number = (uint32_t)value;
    return 1;
}

/* Prints the error text. Programs evaluate why->code instead. */
static int report(const char* what, const struct vgpu_failure* why) {
    (void)fprintf(stderr, "add: %s: %s (%s)\n", what, why->message, vgpu_code_name(why->code));
    if (why->code == VGPU_ERR_MEDIATOR_UNAVAILABLE || why->code == VGPU_ERR_QUEUE_FULL) {
        (void)fprintf(stderr, "add: this passes: try again in a moment\n");
    }
    return 1;
}

/* Fails if the output could not be written. */
static int finish(int status) {
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("add: cannot write to standard output");
        return 1;
    }
    return status;
}

int main(int argc, char** argv) {
    uint32_t a = 0;
    uint32_t b = 0;
    uint32_t sum = 0;
    vgpu_device* gpu = NULL;
    struct vgpu_properties properties;
    struct vgpu_failure why;
    int status = 0;

    if (argc != 3 || !read_number(argv[1], &a) || !read_number(argv[2], &b)) {
        (void)fprintf(stderr, "usage: add A B (decimal numbers from 0 to 4294967295)\n");
        return 2;
    }
    /* NULL: the first device; waits use the interrupt if there is one. */
    if (vgpu_open(NULL, &gpu, &why) != VGPU_OK) {
        return report("cannot open the device", &why);
    }
    if (vgpu_get_properties(gpu, &properties, &why) != VGPU_OK) {
        status = report("cannot read the device's registers", &why);
    } else {
        printf("device %s, pool %c, VM id %" PRIu32 "\n", properties.address, properties.pool,
               properties.vm_id);
        if (vgpu_add(gpu, a, b, LIMIT_MS, &sum, &why) != VGPU_OK) {
            status = report("the addition failed", &why);
        } else {
            printf("%" PRIu32 " + %" PRIu32 " = %" PRIu32 "\n", a, b, sum);
        }
    }
    vgpu_close(gpu);
    return finish(status);
}
