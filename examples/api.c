/* SPDX-License-Identifier: MIT */
/*
 * Calls every function of the C API, and checks each result. The API reference takes its examples
 * from here: the first block between two comments with the same words in brackets that calls a
 * function is its example.
 *
 *   cc api.c $(pkg-config --cflags --libs vgpu) -o api && ./api
 *
 * On the host, pass the mediator's socket: ./api unix:/run/vgpu/mediator.sock
 * Exit status: 0 success, 1 failure (with an error message), 2 usage error.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vgpu/vgpu.h>

#define LIMIT_MS 35000u

/* Ends the program if a call failed. */
static void check(int code, const struct vgpu_failure* why, const char* what) {
    if (code != VGPU_OK) {
        (void)fprintf(stderr, "api: %s: %s (%s)\n", what, why->message, vgpu_code_name(code));
        exit(EXIT_FAILURE);
    }
}

/* Ends the program if a result is wrong. */
static void expect(int right, const char* what) {
    if (!right) {
        (void)fprintf(stderr, "api: wrong result: %s\n", what);
        exit(EXIT_FAILURE);
    }
}

static void names(void) {
    /* [names] */
    printf("libvgpu %s\n", vgpu_version());
    /* 3 mediator-unavailable: ... */
    printf("%d %s: %s\n", VGPU_ERR_MEDIATOR_UNAVAILABLE,
           vgpu_code_name(VGPU_ERR_MEDIATOR_UNAVAILABLE),
           vgpu_code_text(VGPU_ERR_MEDIATOR_UNAVAILABLE));
    /* [names] */
}

static void list(void) {
    /* [list] */
    struct vgpu_device_entry entries[8];
    struct vgpu_failure why;
    size_t count = 0;

    if (vgpu_enumerate(NULL, entries, 8, &count, &why) != VGPU_OK) {
        (void)fprintf(stderr, "%s\n", why.message);
    }
    for (size_t i = 0; i < count && i < 8; ++i) {
        printf("%s %s\n", entries[i].address, entries[i].uio);
    }
    /* [list] */
}

static void requests(const char* address) {
    /* [open] */
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    struct vgpu_properties properties;
    struct vgpu_failure why;
    vgpu_device* gpu = NULL;

    options.address = address; /* NULL: the first device of this VM */
    if (vgpu_open(&options, &gpu, &why) != VGPU_OK) {
        (void)fprintf(stderr, "%s (%s)\n", why.message, vgpu_code_name(why.code));
        exit(EXIT_FAILURE);
    }
    if (vgpu_get_properties(gpu, &properties, &why) == VGPU_OK) {
        printf("pool %c, VM id %" PRIu32 "\n", properties.pool, properties.vm_id);
    }
    vgpu_close(gpu);
    /* [open] */

    check(vgpu_open(&options, &gpu, &why), &why, "vgpu_open");

    /* [nop] */
    /* Fails if no mediator serves the device. */
    check(vgpu_nop(gpu, 1000, &why), &why, "vgpu_nop");
    /* [nop] */

    /* [add] */
    uint32_t sum = 0;
    if (vgpu_add(gpu, 100, 200, 1000, &sum, &why) != VGPU_OK) {
        (void)fprintf(stderr, "%s\n", why.message);
    }
    /* sum == 300 */
    /* [add] */
    expect(sum == 300, "vgpu_add");

    /* [device info] */
    struct vgpu_gpu_info info;
    check(vgpu_device_info(gpu, 1000, &info, &why), &why, "vgpu_device_info");
    printf("%s, %" PRIu64 " bytes free\n", info.name, info.memory_free);
    /* [device info] */

    /* [call] */
    const uint32_t numbers[2] = {1, 2};
    struct vgpu_command command = {0};
    struct vgpu_reply reply;

    command.opcode = VGPU_OP_CUDA_KERNEL;
    command.params = numbers;
    command.param_count = 2;
    check(vgpu_call(gpu, &command, 1000, &reply, &why), &why, "vgpu_call");
    /* reply.result_count == 1, reply.results[0] == 3 */
    /* [call] */
    expect(reply.result_count == 1 && reply.results[0] == 3, "vgpu_call");

    /* [submit and wait] */
    uint32_t request_id = 0;
    int code = VGPU_OK;

    check(vgpu_submit(gpu, &command, &request_id, &why), &why, "vgpu_submit");
    /* Do something else here while the GPU works. */
    do {
        code = vgpu_wait(gpu, 100, &reply, &why);
    } while (code == VGPU_E_WAIT_TIMEOUT);
    check(code, &why, "vgpu_wait");
    /* reply.request_id == request_id */

    /* To ignore a response instead of waiting for it with vgpu_wait: */
    check(vgpu_submit(gpu, &command, NULL, &why), &why, "vgpu_submit");
    check(vgpu_drain(gpu, LIMIT_MS, &why), &why, "vgpu_drain");
    /* [submit and wait] */
    expect(reply.request_id == request_id && reply.results[0] == 3, "vgpu_wait");

    /* [counters] */
    printf("completed at %" PRIu64 " ns, %" PRIu64 " interrupts\n", vgpu_timestamp(gpu),
           vgpu_interrupt_count(gpu));
    /* [counters] */
    expect(vgpu_timestamp(gpu) != 0, "vgpu_timestamp");
    vgpu_close(gpu);
}

static void memory(vgpu_device* gpu) {
    struct vgpu_failure why;

    /* [buffers] */
    const char text[] = "kept on the GPU";
    char back[sizeof(text)];
    uint32_t buffer = 0;

    check(vgpu_alloc(gpu, 4096, LIMIT_MS, &buffer, &why), &why, "vgpu_alloc");
    check(vgpu_copy_to(gpu, buffer, 0, text, sizeof(text), LIMIT_MS, &why), &why, "vgpu_copy_to");
    check(vgpu_copy_within(gpu, buffer, 1024, buffer, 0, sizeof(text), LIMIT_MS, &why), &why,
          "vgpu_copy_within");
    check(vgpu_copy_from(gpu, buffer, 1024, back, sizeof(back), LIMIT_MS, &why), &why,
          "vgpu_copy_from");
    check(vgpu_free(gpu, buffer, LIMIT_MS, &why), &why, "vgpu_free");
    /* [buffers] */
    expect(strcmp(text, back) == 0, "vgpu_copy_from");
}

static void arithmetic(vgpu_device* gpu) {
    struct vgpu_failure why;

    /* [arithmetic] */
    const int32_t values[4] = {1, 2, 3, 4};
    int32_t results[4];
    uint32_t a = 0;
    uint32_t b = 0;
    uint32_t sum = 0;

    check(vgpu_alloc(gpu, sizeof(values), LIMIT_MS, &a, &why), &why, "vgpu_alloc");
    check(vgpu_alloc(gpu, sizeof(values), LIMIT_MS, &b, &why), &why, "vgpu_alloc");
    check(vgpu_copy_to(gpu, a, 0, values, sizeof(values), LIMIT_MS, &why), &why, "vgpu_copy_to");
    /* b = a + a; queued, not waited for. */
    check(vgpu_vector_add(gpu, VGPU_FLAG_ASYNC, VGPU_TYPE_I32, b, a, a, 4, LIMIT_MS, &why), &why,
          "vgpu_vector_add");
    /* b = 10 * a + b: 12, 24, 36, 48. */
    check(vgpu_saxpy(gpu, VGPU_FLAG_ASYNC, VGPU_TYPE_I32, b, a, 10, 4, LIMIT_MS, &why), &why,
          "vgpu_saxpy");
    /* Both have ended, and their errors are reported here. */
    check(vgpu_synchronize(gpu, LIMIT_MS, &why), &why, "vgpu_synchronize");
    check(vgpu_copy_from(gpu, b, 0, results, sizeof(results), LIMIT_MS, &why), &why,
          "vgpu_copy_from");
    check(vgpu_reduce_sum(gpu, VGPU_TYPE_I32, b, 4, LIMIT_MS, &sum, &why), &why,
          "vgpu_reduce_sum"); /* 120 */

    uint32_t product = 0; /* a is a row of 4 here, b a column of 4 */
    check(vgpu_alloc(gpu, sizeof(int32_t), LIMIT_MS, &product, &why), &why, "vgpu_alloc");
    check(vgpu_matmul(gpu, 0, VGPU_TYPE_I32, product, a, b, 1, 1, 4, LIMIT_MS, &why), &why,
          "vgpu_matmul"); /* 1 * 12 + 2 * 24 + 3 * 36 + 4 * 48 = 360 */
    /* [arithmetic] */
    int32_t dot = 0;
    check(vgpu_copy_from(gpu, product, 0, &dot, sizeof(dot), LIMIT_MS, &why), &why,
          "vgpu_copy_from");
    expect(results[0] == 12 && results[3] == 48 && sum == 120 && dot == 360, "arithmetic");
    check(vgpu_free(gpu, a, LIMIT_MS, &why), &why, "vgpu_free");
    check(vgpu_free(gpu, b, LIMIT_MS, &why), &why, "vgpu_free");
    check(vgpu_free(gpu, product, LIMIT_MS, &why), &why, "vgpu_free");
}

static void shared_memory(vgpu_device* gpu) {
    struct vgpu_failure why;

    /* [shared memory] */
    struct vgpu_shm_info shm;
    struct vgpu_heap_info heap;

    check(vgpu_get_shm_info(gpu, &shm, &why), &why, "vgpu_get_shm_info");
    printf("%" PRIu64 " bytes of shared memory, %" PRIu32 " queues\n", shm.size, shm.queue_count);
    if (vgpu_generation(gpu) == 0) {
        printf("no mediator serves the queues: use vgpu_call\n");
    }
    check(vgpu_get_heap_info(gpu, &heap, &why), &why, "vgpu_get_heap_info");
    printf("%" PRIu64 " bytes can be allocated\n", heap.available);
    /* [shared memory] */
}

/* The fast path: commands and their replies. */
static void commands(vgpu_device* gpu, vgpu_queue* queue) {
    struct vgpu_failure why;

    /* [submit commands] */
    struct vgpu_queue_command nop = {0};
    uint64_t point = 0;

    nop.opcode = VGPU_OP_NOP;
    check(vgpu_queue_push(queue, &nop, NULL, &why), &why, "vgpu_queue_push");
    check(vgpu_queue_flush(queue, &why), &why, "vgpu_queue_flush"); /* now visible */
    check(vgpu_queue_submit(queue, &nop, &point, &why), &why, "vgpu_queue_submit");
    printf("%" PRIu64 " of %" PRIu64 " commands completed\n", vgpu_queue_completed(queue),
           vgpu_queue_submitted(queue));
    check(vgpu_queue_wait(queue, point, LIMIT_MS, &why), &why, "vgpu_queue_wait");
    /* [submit commands] */
    expect(vgpu_queue_submitted(queue) == point && vgpu_queue_completed(queue) == point,
           "vgpu_queue_completed");

    /* [commands with replies] */
    struct vgpu_heap_block block;
    struct vgpu_reply_place sum = {0};
    struct vgpu_reply_place info = {0};
    struct vgpu_reply_view view;
    uint64_t last = 0;

    check(vgpu_heap_alloc(gpu, 1024, 0, &block, &why), &why, "vgpu_heap_alloc");
    sum.offset = block.offset;
    sum.capacity = 256;
    sum.cookie = 1;
    info.offset = block.offset + 256;
    info.capacity = 512;
    info.cookie = 2;
    check(vgpu_queue_push_nop(queue, NULL, NULL, &why), &why, "vgpu_queue_push_nop");
    check(vgpu_queue_push_add(queue, 100, 200, &sum, &point, &why), &why, "vgpu_queue_push_add");
    check(vgpu_queue_push_device_info(queue, &info, NULL, &why), &why,
          "vgpu_queue_push_device_info");
    check(vgpu_queue_push_synchronize(queue, NULL, &last, &why), &why,
          "vgpu_queue_push_synchronize");
    check(vgpu_queue_wait(queue, last, LIMIT_MS, &why), &why, "vgpu_queue_wait");
    check(vgpu_queue_reply_read(queue, &info, &view, &why), &why, "vgpu_queue_reply_read");
    printf("%.*s\n", (int)view.data_length, (const char*)view.data);
    /* Wait for one command and read its reply: */
    check(vgpu_queue_finish(queue, point, &sum, LIMIT_MS, &view, &why), &why, "vgpu_queue_finish");
    const uint32_t total = view.results[0]; /* 300; copied before the block is freed */
    check(vgpu_heap_free(gpu, &block, &why), &why, "vgpu_heap_free");
    /* [commands with replies] */
    expect(total == 300, "vgpu_queue_finish");
}

/* Bulk data: arithmetic in shared memory, and copies to and from buffers on the GPU. */
static void bulk(vgpu_device* gpu, vgpu_queue* queue) {
    struct vgpu_failure why;

    /* [arithmetic in the heap] */
    enum { kCount = 4 };
    struct vgpu_heap_block block;
    struct vgpu_reply_place place = {0};
    struct vgpu_reply_view view;
    uint64_t point = 0;

    check(vgpu_heap_alloc(gpu, 4096, 0, &block, &why), &why, "vgpu_heap_alloc");
    int32_t* const a = block.pointer;
    int32_t* const b = a + kCount;
    int32_t* const product = b + kCount;
    const uint64_t at_a = VGPU_HEAP_OPERAND(block.offset);
    const uint64_t at_b = VGPU_HEAP_OPERAND(block.offset + kCount * sizeof(*a));
    const uint64_t at_product = VGPU_HEAP_OPERAND(block.offset + sizeof(*a) * 2 * kCount);

    for (int32_t i = 0; i < kCount; ++i) {
        a[i] = i + 1;
    }
    place.offset = block.offset + 1024;
    place.capacity = 256;
    check(vgpu_queue_push_vector_add(queue, VGPU_TYPE_I32, at_b, at_a, at_a, kCount, NULL, NULL,
                                     &why),
          &why, "vgpu_queue_push_vector_add"); /* b = a + a */
    check(vgpu_queue_push_saxpy(queue, VGPU_TYPE_I32, at_b, at_a, 10, kCount, NULL, NULL, &why),
          &why, "vgpu_queue_push_saxpy"); /* b = 10 * a + b */
    check(vgpu_queue_push_matmul(queue, VGPU_TYPE_I32, at_product, at_a, at_b, 1, 1, kCount, NULL,
                                 NULL, &why),
          &why, "vgpu_queue_push_matmul"); /* the scalar product of a and b */
    check(vgpu_queue_push_reduce_sum(queue, VGPU_TYPE_I32, at_b, kCount, &place, &point, &why),
          &why, "vgpu_queue_push_reduce_sum");
    check(vgpu_queue_finish(queue, point, &place, LIMIT_MS, &view, &why), &why,
          "vgpu_queue_finish");
    /* b is 12, 24, 36, 48; *product == 360; view.results[0] == 120 */
    /* [arithmetic in the heap] */
    expect(b[3] == 48 && *product == 360 && view.results[0] == 120, "arithmetic in the heap");

    /* [copies as commands] */
    uint32_t handle = 0;

    check(vgpu_queue_push_alloc(queue, 4096, &place, &point, &why), &why, "vgpu_queue_push_alloc");
    check(vgpu_queue_finish(queue, point, &place, LIMIT_MS, &view, &why), &why,
          "vgpu_queue_finish");
    handle = view.results[0];
    /* 16 bytes from the heap to the buffer, within it, and back to another place of the heap. */
    check(vgpu_queue_push_copy_to(queue, handle, 0, block.offset, 16, NULL, NULL, &why), &why,
          "vgpu_queue_push_copy_to");
    check(vgpu_queue_push_copy_within(queue, handle, 2048, handle, 0, 16, NULL, NULL, &why), &why,
          "vgpu_queue_push_copy_within");
    check(vgpu_queue_push_copy_from(queue, handle, 2048, block.offset + 512, 16, NULL, NULL, &why),
          &why, "vgpu_queue_push_copy_from");
    check(vgpu_queue_push_free(queue, handle, &place, &point, &why), &why, "vgpu_queue_push_free");
    check(vgpu_queue_finish(queue, point, &place, LIMIT_MS, &view, &why), &why,
          "vgpu_queue_finish");
    /* [copies as commands] */
    expect(memcmp((const char*)block.pointer + 512, a, 16) == 0, "vgpu_queue_push_copy_from");
    check(vgpu_heap_free(gpu, &block, &why), &why, "vgpu_heap_free");
}

/* The blocking calls. */
static void calls(vgpu_queue* queue) {
    struct vgpu_failure why;

    /* [blocking calls] */
    struct vgpu_gpu_info info;
    uint32_t sum = 0;

    check(vgpu_queue_nop(queue, LIMIT_MS, &why), &why, "vgpu_queue_nop");
    check(vgpu_queue_device_info(queue, LIMIT_MS, &info, &why), &why, "vgpu_queue_device_info");
    check(vgpu_queue_add(queue, 100, 200, LIMIT_MS, &sum, &why), &why, "vgpu_queue_add");

    const uint32_t numbers[2] = {1, 2};
    struct vgpu_queue_command command = {0};
    struct vgpu_reply reply;
    command.opcode = VGPU_OP_CUDA_KERNEL;
    command.params = numbers;
    command.param_count = 2;
    check(vgpu_queue_call(queue, &command, LIMIT_MS, &reply, &why), &why, "vgpu_queue_call");
    /* sum == 300, reply.results[0] == 3 */
    /* [blocking calls] */
    expect(sum == 300 && reply.results[0] == 3, "vgpu_queue_call");

    /* [blocking calls on buffers] */
    const int32_t values[4] = {1, 2, 3, 4};
    int32_t results[4];
    uint32_t a = 0;
    uint32_t b = 0;
    uint32_t total = 0;

    check(vgpu_queue_alloc(queue, 1024, LIMIT_MS, &a, &why), &why, "vgpu_queue_alloc");
    check(vgpu_queue_alloc(queue, 1024, LIMIT_MS, &b, &why), &why, "vgpu_queue_alloc");
    check(vgpu_queue_copy_to(queue, a, 0, values, sizeof(values), LIMIT_MS, &why), &why,
          "vgpu_queue_copy_to");
    check(vgpu_queue_vector_add(queue, VGPU_TYPE_I32, b, a, a, 4, LIMIT_MS, &why), &why,
          "vgpu_queue_vector_add");
    check(vgpu_queue_saxpy(queue, VGPU_TYPE_I32, b, a, 10, 4, LIMIT_MS, &why), &why,
          "vgpu_queue_saxpy");
    check(vgpu_queue_reduce_sum(queue, VGPU_TYPE_I32, b, 4, LIMIT_MS, &total, &why), &why,
          "vgpu_queue_reduce_sum");
    check(vgpu_queue_copy_within(queue, b, 512, b, 0, sizeof(values), LIMIT_MS, &why), &why,
          "vgpu_queue_copy_within");
    check(vgpu_queue_copy_from(queue, b, 512, results, sizeof(results), LIMIT_MS, &why), &why,
          "vgpu_queue_copy_from");
    check(vgpu_queue_matmul(queue, VGPU_TYPE_I32, b, a, a, 1, 1, 1, LIMIT_MS, &why), &why,
          "vgpu_queue_matmul");
    check(vgpu_queue_synchronize(queue, LIMIT_MS, &why), &why, "vgpu_queue_synchronize");
    check(vgpu_queue_free(queue, a, LIMIT_MS, &why), &why, "vgpu_queue_free");
    check(vgpu_queue_free(queue, b, LIMIT_MS, &why), &why, "vgpu_queue_free");
    /* results: 12, 24, 36, 48; total == 120 */
    /* [blocking calls on buffers] */
    expect(results[0] == 12 && results[3] == 48 && total == 120, "blocking calls");
}

static void queues(const char* address) {
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    vgpu_device* gpu = NULL;
    vgpu_queue* queue = NULL;
    struct vgpu_failure why;

    options.address = address;
    options.flags = VGPU_OPEN_QUEUES;
    check(vgpu_open(&options, &gpu, &why), &why, "vgpu_open");
    memory(gpu);
    arithmetic(gpu);
    shared_memory(gpu);

    /* [queue] */
    if (vgpu_queue_open(gpu, VGPU_QUEUE_ANY, 5000, &queue, &why) == VGPU_E_NO_QUEUES) {
        (void)fprintf(stderr, "%s\n", why.message); /* continue with vgpu_call */
    } else if (queue != NULL) {
        printf("queue %" PRIu32 "\n", vgpu_queue_index(queue));
    }
    vgpu_queue_close(queue);
    /* [queue] */

    check(vgpu_queue_open(gpu, VGPU_QUEUE_ANY, 5000, &queue, &why), &why, "vgpu_queue_open");
    commands(gpu, queue);
    bulk(gpu, queue);
    calls(queue);
    vgpu_queue_close(queue);
    vgpu_close(gpu);
}

int main(int argc, char** argv) {
    const char* const address = argc == 2 ? argv[1] : NULL;

    if (argc > 2) {
        (void)fprintf(stderr, "usage: api [PCI address, or unix:PATH]\n");
        return 2;
    }
    names();
    list();
    requests(address);
    queues(address);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("api: cannot write to standard output");
        return 1;
    }
    return 0;
}
