/* SPDX-License-Identifier: MIT */
/*
 * Sends additions through a queue with many commands in flight.
 *
 *   cc queue.c $(pkg-config --cflags --libs vgpu) -o queue && ./queue
 *
 * On the host, pass the mediator's socket: ./queue unix:/run/vgpu/mediator.sock
 * Exit status: 0 success, 1 failure (with an error message), 2 usage error.
 */
#include <inttypes.h>
#include <stdio.h>

#include <vgpu/vgpu.h>

#define COMMANDS 100000u
#define IN_FLIGHT 64u
#define REPLY_SIZE 64u /* bytes, enough for the header and a result */
#define LIMIT_MS 35000u

static int report(const char* what, const struct vgpu_failure* why) {
    (void)fprintf(stderr, "queue: %s: %s (%s)\n", what, why->message, vgpu_code_name(why->code));
    if (why->code == VGPU_E_NO_QUEUES) {
        (void)fprintf(stderr, "queue: the example 'add' shows the way without queues\n");
    }
    return 1;
}

/* Returns the reply buffer of command i: one of IN_FLIGHT, used in turn. */
static struct vgpu_reply_place place_of(const struct vgpu_heap_block* block, uint32_t i) {
    struct vgpu_reply_place place = {0};

    place.offset = block->offset + (uint64_t)(i % IN_FLIGHT) * REPLY_SIZE;
    place.capacity = REPLY_SIZE;
    place.cookie = i;
    return place;
}

/* Computes 0 + 0, 1 + 1, 2 + 2, ... on the GPU and sums up the results. Returns a code. */
static int add_up(vgpu_queue* queue, const struct vgpu_heap_block* block, uint64_t* total,
                  struct vgpu_failure* why) {
    uint64_t points[IN_FLIGHT];
    uint32_t pushed = 0;
    uint32_t answered = 0;
    int code = VGPU_OK;

    *total = 0;
    while (answered < COMMANDS) {
        /* Fill the window; one flush makes the commands visible. */
        for (; pushed < COMMANDS && pushed - answered < IN_FLIGHT; ++pushed) {
            const struct vgpu_reply_place place = place_of(block, pushed);
            code = vgpu_queue_push_add(queue, pushed, pushed, &place, &points[pushed % IN_FLIGHT],
                                       why);
            if (code != VGPU_OK) {
                return code;
            }
        }
        code = vgpu_queue_flush(queue, why);
        /* Read half of the replies, so that the GPU has work while the next commands are pushed. */
        for (uint32_t taken = 0; code == VGPU_OK && taken < IN_FLIGHT / 2 && answered < pushed;
             ++taken, ++answered) {
            const struct vgpu_reply_place place = place_of(block, answered);
            struct vgpu_reply_view reply;
            code = vgpu_queue_finish(queue, points[answered % IN_FLIGHT], &place, LIMIT_MS, &reply,
                                     why);
            *total += code == VGPU_OK && reply.result_count == 1 ? reply.results[0] : 0;
        }
        if (code != VGPU_OK) {
            return code;
        }
    }
    return VGPU_OK;
}

/* Fails if the output could not be written. */
static int finish(int status) {
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("queue: cannot write to standard output");
        return 1;
    }
    return status;
}

int main(int argc, char** argv) {
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    struct vgpu_heap_block block;
    struct vgpu_failure why;
    vgpu_device* gpu = NULL;
    vgpu_queue* queue = NULL;
    uint64_t total = 0;
    int status = 0;

    if (argc > 2) {
        (void)fprintf(stderr, "usage: queue [PCI address, or unix:PATH]\n");
        return 2;
    }
    options.address = argc == 2 ? argv[1] : NULL;
    options.flags = VGPU_OPEN_QUEUES; /* share the device with other processes */
    if (vgpu_open(&options, &gpu, &why) != VGPU_OK) {
        return report("cannot open the device", &why);
    }
    if (vgpu_queue_open(gpu, VGPU_QUEUE_ANY, LIMIT_MS, &queue, &why) != VGPU_OK) {
        status = report("cannot open a queue", &why);
    } else if (vgpu_heap_alloc(gpu, (uint64_t)IN_FLIGHT * REPLY_SIZE, 0, &block, &why) != VGPU_OK) {
        status = report("cannot get shared memory", &why);
    } else {
        if (add_up(queue, &block, &total, &why) != VGPU_OK) {
            status = report("an addition failed", &why);
        } else {
            printf("%u additions add up to %" PRIu64 "\n", COMMANDS, total);
            status = total == (uint64_t)COMMANDS * (COMMANDS - 1) ? 0 : 1;
        }
        /* Close the queue first, so that no command in flight can write to the block. */
        vgpu_queue_close(queue);
        queue = NULL;
        (void)vgpu_heap_free(gpu, &block, NULL);
    }
    vgpu_queue_close(queue);
    vgpu_close(gpu);
    return finish(status);
}
