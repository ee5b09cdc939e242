// SPDX-License-Identifier: MIT
//
// The operations on buffers, based on vgpu_call. Splits copies into pieces that fit a request.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <initializer_list>

#include "client/include/vgpu.h"

namespace {

// Bytes of data in a copy to the device, which has four params.
constexpr size_t kMostSent = VGPU_MAX_DATA - 4 * sizeof(uint32_t);

uint32_t low(uint64_t value) {
    return static_cast<uint32_t>(value);
}

uint32_t high(uint64_t value) {
    return static_cast<uint32_t>(value >> 32);
}

int fail(vgpu_failure* why, int code, const char* message) {
    if (why != nullptr) {
        why->code = code;
        why->sys_errno = 0;
        (void)std::snprintf(why->message, sizeof why->message, "%s", message);
    }
    return code;
}

struct Data {
    const void* bytes = nullptr;
    size_t length = 0;
};

int call(vgpu_device* device, uint32_t opcode, uint32_t flags,
         std::initializer_list<uint32_t> params, uint32_t timeout_ms, vgpu_reply* reply,
         vgpu_failure* why, const Data& data = {}) {
    vgpu_command command{};
    command.opcode = opcode;
    command.flags = flags;
    command.params = params.begin();
    command.param_count = static_cast<uint32_t>(params.size());
    command.data = data.bytes;
    command.data_length = static_cast<uint32_t>(data.length);
    return vgpu_call(device, &command, timeout_ms, reply, why);
}

int call_for_word(vgpu_device* device, uint32_t opcode, std::initializer_list<uint32_t> params,
                  uint32_t timeout_ms, uint32_t* word, vgpu_failure* why) {
    if (word == nullptr) {
        return fail(why, VGPU_E_ARGUMENT, "the pointer to the result is null");
    }
    vgpu_reply reply;
    const int code = call(device, opcode, 0, params, timeout_ms, &reply, why);
    if (code != VGPU_OK) {
        return code;
    }
    if (reply.result_count < 1) {
        return fail(why, VGPU_E_BAD_RESPONSE,
                    "the response contains no result: this is a bug in the mediator");
    }
    *word = reply.results[0];
    return VGPU_OK;
}

bool wraps(uint64_t offset, size_t length) {
    return length > UINT64_MAX - offset;
}

int bad_range(vgpu_failure* why) {
    return fail(why, VGPU_E_ARGUMENT, "the pointer is null, or offset + length exceeds 2^64");
}

}  // namespace

int vgpu_alloc(vgpu_device* device, uint64_t size, uint32_t timeout_ms, uint32_t* handle,
               vgpu_failure* why) {
    return call_for_word(device, VGPU_OP_MEMORY_ALLOC, {low(size), high(size)}, timeout_ms, handle,
                         why);
}

int vgpu_free(vgpu_device* device, uint32_t handle, uint32_t timeout_ms, vgpu_failure* why) {
    return call(device, VGPU_OP_MEMORY_FREE, 0, {handle}, timeout_ms, nullptr, why);
}

int vgpu_copy_to(vgpu_device* device, uint32_t handle, uint64_t offset, const void* from,
                 size_t length, uint32_t timeout_ms, vgpu_failure* why) {
    if (wraps(offset, length) || (from == nullptr && length > 0)) {
        return bad_range(why);
    }
    const auto* const bytes = static_cast<const unsigned char*>(from);
    size_t done = 0;
    do {
        const size_t piece = std::min(kMostSent, length - done);
        const uint64_t at = offset + done;
        const int code =
            call(device, VGPU_OP_MEMORY_COPY, 0, {VGPU_COPY_TO_DEVICE, handle, low(at), high(at)},
                 timeout_ms, nullptr, why, {piece > 0 ? bytes + done : nullptr, piece});
        if (code != VGPU_OK) {
            return code;
        }
        done += piece;
    } while (done < length);
    return VGPU_OK;
}

int vgpu_copy_from(vgpu_device* device, uint32_t handle, uint64_t offset, void* to, size_t length,
                   uint32_t timeout_ms, vgpu_failure* why) {
    if (wraps(offset, length) || (to == nullptr && length > 0)) {
        return bad_range(why);
    }
    auto* const bytes = static_cast<unsigned char*>(to);
    size_t done = 0;
    do {
        const size_t piece = std::min<size_t>(VGPU_COPY_MAX_LENGTH, length - done);
        const uint64_t at = offset + done;
        vgpu_reply reply;
        const int code =
            call(device, VGPU_OP_MEMORY_COPY, 0,
                 {VGPU_COPY_FROM_DEVICE, handle, low(at), high(at), static_cast<uint32_t>(piece)},
                 timeout_ms, &reply, why);
        if (code != VGPU_OK) {
            return code;
        }
        if (reply.data_length != piece) {
            return fail(
                why, VGPU_E_BAD_RESPONSE,
                "the response does not contain the requested bytes: this is a bug in the mediator");
        }
        if (piece > 0) {
            std::memcpy(bytes + done, reply.data, piece);
        }
        done += piece;
    } while (done < length);
    return VGPU_OK;
}

int vgpu_copy_within(vgpu_device* device, uint32_t to, uint64_t to_offset, uint32_t from,
                     uint64_t from_offset, uint64_t length, uint32_t timeout_ms,
                     vgpu_failure* why) {
    return call(device, VGPU_OP_MEMORY_COPY, 0,
                {VGPU_COPY_WITHIN_DEVICE, to, low(to_offset), high(to_offset), from,
                 low(from_offset), high(from_offset), low(length), high(length)},
                timeout_ms, nullptr, why);
}

int vgpu_synchronize(vgpu_device* device, uint32_t timeout_ms, vgpu_failure* why) {
    return call(device, VGPU_OP_SYNCHRONIZE, 0, {}, timeout_ms, nullptr, why);
}

int vgpu_vector_add(vgpu_device* device, uint32_t flags, uint32_t type, uint32_t to, uint32_t a,
                    uint32_t b, uint64_t count, uint32_t timeout_ms, vgpu_failure* why) {
    return call(device, VGPU_OP_VECTOR_ADD, flags, {type, to, a, b, low(count), high(count)},
                timeout_ms, nullptr, why);
}

int vgpu_saxpy(vgpu_device* device, uint32_t flags, uint32_t type, uint32_t y, uint32_t x,
               uint32_t alpha_bits, uint64_t count, uint32_t timeout_ms, vgpu_failure* why) {
    return call(device, VGPU_OP_SAXPY, flags, {type, y, x, alpha_bits, low(count), high(count)},
                timeout_ms, nullptr, why);
}

int vgpu_matmul(vgpu_device* device, uint32_t flags, uint32_t type, uint32_t to, uint32_t a,
                uint32_t b, uint32_t m, uint32_t n, uint32_t k, uint32_t timeout_ms,
                vgpu_failure* why) {
    return call(device, VGPU_OP_MATMUL, flags, {type, to, a, b, m, n, k}, timeout_ms, nullptr, why);
}

int vgpu_reduce_sum(vgpu_device* device, uint32_t type, uint32_t from, uint64_t count,
                    uint32_t timeout_ms, uint32_t* sum_bits, vgpu_failure* why) {
    return call_for_word(device, VGPU_OP_REDUCE_SUM, {type, from, low(count), high(count)},
                         timeout_ms, sum_bits, why);
}
