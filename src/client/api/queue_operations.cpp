// SPDX-License-Identifier: MIT
//
// The operations as queue commands, and for each a blocking call. Encodes params and operands.
#include <algorithm>
#include <initializer_list>

#include "client/api/queue_command.h"
#include "client/core/api_support.h"
#include "client/core/response.h"
#include "client/include/vgpu.h"

namespace {

using namespace vgpu::client;  // NOLINT: this file implements the public API

constexpr std::uint64_t kHeapOperand = VGPU_HEAP_OPERAND(0);
// A command on operands in buffers or in the heap. With handles only, it is encoded like a request.
struct OnOperands {
    // `operands` follow `type`; the caller appends the remaining params.
    OnOperands(std::uint32_t type, std::initializer_list<std::uint64_t> operands) : params{type} {
        heap = std::any_of(operands.begin(), operands.end(),
                           [](std::uint64_t one) { return (one & kHeapOperand) != 0; });
        for (const std::uint64_t one : operands) {
            // Without that bit it is a 32-bit handle; a larger value is invalid.
            valid = valid && ((one & kHeapOperand) != 0 || high(one) == 0);
            if (heap) {
                params.add_wide(one);
            } else {
                params.add(low(one));
            }
        }
    }
    [[nodiscard]] vgpu_queue_command command(std::uint32_t opcode) const {
        vgpu_queue_command made = command_of(opcode, params);
        made.flags = heap ? VGPU_FLAG_HEAP_OPERANDS : 0;
        return made;
    }

    Params params;
    bool heap = false;
    bool valid = true;
};

int bad_operand(vgpu_failure* why) {
    return bad_argument(why, "an operand is neither a handle nor VGPU_HEAP_OPERAND(offset)");
}

int call_for_word(vgpu_queue* queue, const vgpu_queue_command& command, std::uint32_t timeout_ms,
                  std::uint32_t* word, vgpu_failure* why) {
    if (word == nullptr) {
        return bad_argument(why, "the pointer to the result is null");
    }
    vgpu_reply reply;
    reply.result_count = reply.data_length = 0;
    const int code = vgpu_queue_call(queue, &command, timeout_ms, &reply, why);
    if (code != VGPU_OK) {
        return code;
    }
    if (reply.result_count < 1) {
        return fail(why, {VGPU_E_BAD_RESPONSE,
                          "the response contains no result: this is a bug in the mediator", 0});
    }
    *word = reply.results[0];
    return VGPU_OK;
}

vgpu_queue_command nop_command() {
    vgpu_queue_command made{};
    made.opcode = VGPU_OP_NOP;
    return made;
}

Params within_params(std::uint32_t to, std::uint64_t to_offset, std::uint32_t from,
                     std::uint64_t from_offset, std::uint64_t length) {
    Params made = copy_params(VGPU_COPY_WITHIN_DEVICE, to, to_offset);
    made.add(from);
    made.add_wide(from_offset);
    made.add_wide(length);
    return made;
}

OnOperands counted(std::uint32_t type, std::initializer_list<std::uint64_t> operands,
                   std::uint64_t count) {
    OnOperands made(type, operands);
    made.params.add_wide(count);
    return made;
}

OnOperands saxpy_params(std::uint32_t type, std::uint64_t y, std::uint64_t x,
                        std::uint32_t alpha_bits, std::uint64_t count) {
    OnOperands made(type, {y, x});
    made.params.add(alpha_bits);
    made.params.add_wide(count);
    return made;
}

OnOperands matmul_params(std::uint32_t type, std::uint64_t to, std::uint64_t a, std::uint64_t b,
                         std::uint32_t m, std::uint32_t n, std::uint32_t k) {
    OnOperands made(type, {to, a, b});
    made.params.add(m);
    made.params.add(n);
    made.params.add(k);
    return made;
}

int push_on_operands(vgpu_queue* queue, std::uint32_t opcode, const OnOperands& made,
                     const vgpu_reply_place* reply, std::uint64_t* point, vgpu_failure* why) {
    return made.valid ? push_command(queue, made.command(opcode), reply, point, why)
                      : bad_operand(why);
}

int call_on_operands(vgpu_queue* queue, std::uint32_t opcode, const OnOperands& made,
                     std::uint32_t timeout_ms, vgpu_failure* why) {
    if (!made.valid) {
        return bad_operand(why);
    }
    const vgpu_queue_command command = made.command(opcode);
    return vgpu_queue_call(queue, &command, timeout_ms, nullptr, why);
}

}  // namespace

// --- commands to push
// -----------------------------------------------------------------------------

int vgpu_queue_push_nop(vgpu_queue* queue, const vgpu_reply_place* reply, uint64_t* point,
                        vgpu_failure* why) {
    return push_bare(queue, VGPU_OP_NOP, reply, point, why);
}

int vgpu_queue_push_add(vgpu_queue* queue, uint32_t a, uint32_t b, const vgpu_reply_place* reply,
                        uint64_t* point, vgpu_failure* why) {
    const Params params{a, b};
    return push_command(queue, command_of(VGPU_OP_CUDA_KERNEL, params), reply, point, why);
}

int vgpu_queue_push_alloc(vgpu_queue* queue, uint64_t size, const vgpu_reply_place* reply,
                          uint64_t* point, vgpu_failure* why) {
    const Params params{low(size), high(size)};
    return push_command(queue, command_of(VGPU_OP_MEMORY_ALLOC, params), reply, point, why);
}

int vgpu_queue_push_free(vgpu_queue* queue, uint32_t handle, const vgpu_reply_place* reply,
                         uint64_t* point, vgpu_failure* why) {
    const Params params{handle};
    return push_command(queue, command_of(VGPU_OP_MEMORY_FREE, params), reply, point, why);
}

int vgpu_queue_push_copy_to(vgpu_queue* queue, uint32_t handle, uint64_t offset,
                            uint64_t heap_offset, uint64_t length, const vgpu_reply_place* reply,
                            uint64_t* point, vgpu_failure* why) {
    const Params params = copy_params(VGPU_COPY_TO_DEVICE, handle, offset);
    vgpu_queue_command command = command_of(VGPU_OP_MEMORY_COPY, params);
    command.data_offset = heap_offset;
    command.data_length = length;
    return push_command(queue, command, reply, point, why);
}

int vgpu_queue_push_copy_from(vgpu_queue* queue, uint32_t handle, uint64_t offset,
                              uint64_t heap_offset, uint64_t length, const vgpu_reply_place* reply,
                              uint64_t* point, vgpu_failure* why) {
    const Params params = copy_params(VGPU_COPY_FROM_DEVICE, handle, offset);
    vgpu_queue_command command = command_of(VGPU_OP_MEMORY_COPY, params);
    command.data_offset = heap_offset;
    command.data_length = length;
    return push_command(queue, command, reply, point, why);
}

int vgpu_queue_push_copy_within(vgpu_queue* queue, uint32_t to, uint64_t to_offset, uint32_t from,
                                uint64_t from_offset, uint64_t length,
                                const vgpu_reply_place* reply, uint64_t* point, vgpu_failure* why) {
    const Params params = within_params(to, to_offset, from, from_offset, length);
    return push_command(queue, command_of(VGPU_OP_MEMORY_COPY, params), reply, point, why);
}

int vgpu_queue_push_device_info(vgpu_queue* queue, const vgpu_reply_place* reply, uint64_t* point,
                                vgpu_failure* why) {
    return push_command(queue, command_of(VGPU_OP_GET_DEVICE_INFO, {}), reply, point, why);
}

int vgpu_queue_push_synchronize(vgpu_queue* queue, const vgpu_reply_place* reply, uint64_t* point,
                                vgpu_failure* why) {
    return push_command(queue, command_of(VGPU_OP_SYNCHRONIZE, {}), reply, point, why);
}

int vgpu_queue_push_vector_add(vgpu_queue* queue, uint32_t type, uint64_t to, uint64_t a,
                               uint64_t b, uint64_t count, const vgpu_reply_place* reply,
                               uint64_t* point, vgpu_failure* why) {
    return push_on_operands(queue, VGPU_OP_VECTOR_ADD, counted(type, {to, a, b}, count), reply,
                            point, why);
}

int vgpu_queue_push_saxpy(vgpu_queue* queue, uint32_t type, uint64_t y, uint64_t x,
                          uint32_t alpha_bits, uint64_t count, const vgpu_reply_place* reply,
                          uint64_t* point, vgpu_failure* why) {
    return push_on_operands(queue, VGPU_OP_SAXPY, saxpy_params(type, y, x, alpha_bits, count),
                            reply, point, why);
}

int vgpu_queue_push_matmul(vgpu_queue* queue, uint32_t type, uint64_t to, uint64_t a, uint64_t b,
                           uint32_t m, uint32_t n, uint32_t k, const vgpu_reply_place* reply,
                           uint64_t* point, vgpu_failure* why) {
    return push_on_operands(queue, VGPU_OP_MATMUL, matmul_params(type, to, a, b, m, n, k), reply,
                            point, why);
}

int vgpu_queue_push_reduce_sum(vgpu_queue* queue, uint32_t type, uint64_t from, uint64_t count,
                               const vgpu_reply_place* reply, uint64_t* point, vgpu_failure* why) {
    return push_on_operands(queue, VGPU_OP_REDUCE_SUM, counted(type, {from}, count), reply, point,
                            why);
}

// --- calls that wait
// ------------------------------------------------------------------------------

int vgpu_queue_nop(vgpu_queue* queue, uint32_t timeout_ms, vgpu_failure* why) {
    const vgpu_queue_command command = nop_command();
    return vgpu_queue_call(queue, &command, timeout_ms, nullptr, why);
}

int vgpu_queue_add(vgpu_queue* queue, uint32_t a, uint32_t b, uint32_t timeout_ms, uint32_t* sum,
                   vgpu_failure* why) {
    const Params params{a, b};
    return call_for_word(queue, command_of(VGPU_OP_CUDA_KERNEL, params), timeout_ms, sum, why);
}

int vgpu_queue_device_info(vgpu_queue* queue, uint32_t timeout_ms, vgpu_gpu_info* info,
                           vgpu_failure* why) {
    if (info == nullptr) {
        return bad_argument(why, "vgpu_queue_device_info: info is null");
    }
    const vgpu_queue_command command = command_of(VGPU_OP_GET_DEVICE_INFO, {});
    vgpu_reply reply;
    reply.result_count = reply.data_length = 0;
    const int code = vgpu_queue_call(queue, &command, timeout_ms, &reply, why);
    if (code != VGPU_OK) {
        return code;
    }
    return guarded(why, [&]() -> int {
        const auto decoded =
            decode_gpu_info({reply.results, reply.result_count}, {reply.data, reply.data_length});
        if (!decoded) {
            return fail(why, decoded.failure());
        }
        *info = *decoded;
        return VGPU_OK;
    });
}

int vgpu_queue_alloc(vgpu_queue* queue, uint64_t size, uint32_t timeout_ms, uint32_t* handle,
                     vgpu_failure* why) {
    const Params params{low(size), high(size)};
    return call_for_word(queue, command_of(VGPU_OP_MEMORY_ALLOC, params), timeout_ms, handle, why);
}

int vgpu_queue_free(vgpu_queue* queue, uint32_t handle, uint32_t timeout_ms, vgpu_failure* why) {
    const Params params{handle};
    const vgpu_queue_command command = command_of(VGPU_OP_MEMORY_FREE, params);
    return vgpu_queue_call(queue, &command, timeout_ms, nullptr, why);
}

int vgpu_queue_copy_within(vgpu_queue* queue, uint32_t to, uint64_t to_offset, uint32_t from,
                           uint64_t from_offset, uint64_t length, uint32_t timeout_ms,
                           vgpu_failure* why) {
    const Params params = within_params(to, to_offset, from, from_offset, length);
    const vgpu_queue_command command = command_of(VGPU_OP_MEMORY_COPY, params);
    return vgpu_queue_call(queue, &command, timeout_ms, nullptr, why);
}

int vgpu_queue_synchronize(vgpu_queue* queue, uint32_t timeout_ms, vgpu_failure* why) {
    const vgpu_queue_command command = command_of(VGPU_OP_SYNCHRONIZE, {});
    return vgpu_queue_call(queue, &command, timeout_ms, nullptr, why);
}

int vgpu_queue_vector_add(vgpu_queue* queue, uint32_t type, uint64_t to, uint64_t a, uint64_t b,
                          uint64_t count, uint32_t timeout_ms, vgpu_failure* why) {
    return call_on_operands(queue, VGPU_OP_VECTOR_ADD, counted(type, {to, a, b}, count), timeout_ms,
                            why);
}

int vgpu_queue_saxpy(vgpu_queue* queue, uint32_t type, uint64_t y, uint64_t x, uint32_t alpha_bits,
                     uint64_t count, uint32_t timeout_ms, vgpu_failure* why) {
    return call_on_operands(queue, VGPU_OP_SAXPY, saxpy_params(type, y, x, alpha_bits, count),
                            timeout_ms, why);
}

int vgpu_queue_matmul(vgpu_queue* queue, uint32_t type, uint64_t to, uint64_t a, uint64_t b,
                      uint32_t m, uint32_t n, uint32_t k, uint32_t timeout_ms, vgpu_failure* why) {
    return call_on_operands(queue, VGPU_OP_MATMUL, matmul_params(type, to, a, b, m, n, k),
                            timeout_ms, why);
}

int vgpu_queue_reduce_sum(vgpu_queue* queue, uint32_t type, uint64_t from, uint64_t count,
                          uint32_t timeout_ms, uint32_t* sum_bits, vgpu_failure* why) {
    const OnOperands made = counted(type, {from}, count);
    return made.valid
               ? call_for_word(queue, made.command(VGPU_OP_REDUCE_SUM), timeout_ms, sum_bits, why)
               : bad_operand(why);
}
