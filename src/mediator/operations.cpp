// SPDX-License-Identifier: MIT
#include "mediator/operations.h"

#include <string>
#include <utility>

namespace vgpu {
namespace {

constexpr std::uint64_t kElementSize = 4;  // bytes
constexpr std::size_t kAnyCount = SIZE_MAX;

using Decoded = std::variant<Operation, Refusal>;

Refusal invalid(std::string sentence) {
    return {VGPU_ERR_INVALID_REQUEST, std::move(sentence)};
}

// Reads params from left to right. Precondition: there are as many as are read.
class Params {
  public:
    explicit Params(const RequestView& request) : request_(request) {}
    std::uint32_t word() { return request_.param(next_++); }
    std::uint64_t wide() {
        const std::uint64_t low = word();
        return std::uint64_t{word()} << 32U | low;
    }

  private:
    const RequestView& request_;
    std::size_t next_ = 0;
};

void use(Operation& operation, const BufferUse& what) {
    operation.uses.at(operation.use_count++) = what;
}

Decoded plain(const RequestView& /*request*/, Operation operation) {
    return operation;
}

Decoded cuda_kernel(const RequestView& request, Operation operation) {
    operation.job.params = {request.param(0), request.param(1)};
    return operation;
}

Decoded memory_alloc(const RequestView& request, Operation operation) {
    operation.job.length = Params(request).wide();
    if (operation.job.length == 0) {
        return invalid("MEMORY_ALLOC of 0 bytes: ask for at least 1");
    }
    return operation;
}

Decoded memory_free(const RequestView& request, Operation operation) {
    use(operation, {.handle = request.param(0)});
    return operation;
}

Decoded memory_copy(const RequestView& request, Operation operation) {
    struct Kind {
        std::size_t params;
        const char* what;
    };
    constexpr std::array kKinds{Kind{4, "to the device"}, Kind{5, "from the device"},
                                Kind{9, "within the device"}};
    if (request.fixed.param_count == 0 || request.param(0) >= kKinds.size()) {
        return invalid("the first param of MEMORY_COPY has to be 0, 1 or 2");
    }
    Params params(request);
    Job& job = operation.job;
    job.copy = params.word();
    const Kind& kind = kKinds.at(job.copy);
    if (request.fixed.param_count != kind.params) {
        return invalid(std::string("MEMORY_COPY ") + kind.what + " takes " +
                       std::to_string(kind.params) + " params, and the request has " +
                       std::to_string(request.fixed.param_count));
    }
    BufferUse first{.handle = params.word()};
    first.offset = params.wide();
    BufferUse second;
    if (job.copy == VGPU_COPY_TO_DEVICE) {
        job.length = request.data.size();
        job.data.assign(reinterpret_cast<const char*>(request.data.data()), request.data.size());
    } else if (job.copy == VGPU_COPY_FROM_DEVICE) {
        job.length = params.word();
        if (job.length > VGPU_COPY_MAX_LENGTH) {
            return invalid("MEMORY_COPY from the device gives at most " +
                           std::to_string(VGPU_COPY_MAX_LENGTH) + " bytes at a time");
        }
        if (operation.async) {
            return invalid(
                "MEMORY_COPY from the device cannot be asynchronous: the answer is "
                "the data");
        }
    } else {
        second.handle = params.word();
        second.offset = params.wide();
        job.length = params.wide();
        second.count = job.length;
    }
    first.count = job.length;
    job.offsets = {first.offset, second.offset};
    use(operation, first);
    if (job.copy == VGPU_COPY_WITHIN_DEVICE) {
        use(operation, second);
    }
    return operation;
}

// Gives the element type; false if there is no such type.
bool read_type(Params& params, Operation& operation) {
    operation.job.type = params.word();
    return operation.job.type <= VGPU_TYPE_I32;
}

Refusal unknown_type(std::uint32_t type) {
    return invalid("there is no element type " + std::to_string(type) +
                   ": give 0 (f32) or 1 (i32)");
}

// VECTOR_ADD, SAXPY and REDUCE_SUM: buffers of `count` elements each.
Decoded on_vectors(const RequestView& request, Operation operation) {
    Params params(request);
    if (!read_type(params, operation)) {
        return unknown_type(operation.job.type);
    }
    const std::uint32_t opcode = operation.job.opcode;
    const std::size_t buffers = opcode == VGPU_OP_VECTOR_ADD ? 3 : opcode == VGPU_OP_SAXPY ? 2 : 1;
    for (std::size_t i = 0; i < buffers; ++i) {
        use(operation, {.handle = params.word(), .offset = 0, .count = 0, .unit = kElementSize});
    }
    if (opcode == VGPU_OP_SAXPY) {
        operation.job.alpha = params.word();
    }
    operation.job.length = params.wide();
    for (BufferUse& what : operation.uses) {
        what.count = operation.job.length;
    }
    return operation;
}

Decoded matmul(const RequestView& request, Operation operation) {
    Params params(request);
    if (!read_type(params, operation)) {
        return unknown_type(operation.job.type);
    }
    const std::array handles{params.word(), params.word(), params.word()};
    const std::uint64_t m = params.word();
    const std::uint64_t n = params.word();
    const std::uint64_t k = params.word();
    if (handles[0] == handles[1] || handles[0] == handles[2]) {
        return invalid("the result of MATMUL cannot go into one of its sources");
    }
    operation.job.extents = {static_cast<std::uint32_t>(m), static_cast<std::uint32_t>(n),
                             static_cast<std::uint32_t>(k)};
    const std::array counts{m * n, m * k, k * n};
    for (std::size_t i = 0; i < handles.size(); ++i) {
        use(operation,
            {.handle = handles[i], .offset = 0, .count = counts[i], .unit = kElementSize});
    }
    return operation;
}

struct Entry {
    std::uint32_t opcode;
    const char* name;
    std::size_t params;
    bool can_be_async;
    Decoded (*decode)(const RequestView& request, Operation operation);
};

constexpr std::array kEntries{
    Entry{VGPU_OP_NOP, "NOP", kAnyCount, true, plain},
    Entry{VGPU_OP_CUDA_KERNEL, "CUDA_KERNEL", 2, true, cuda_kernel},
    Entry{VGPU_OP_MEMORY_ALLOC, "MEMORY_ALLOC", 2, false, memory_alloc},
    Entry{VGPU_OP_MEMORY_FREE, "MEMORY_FREE", 1, true, memory_free},
    Entry{VGPU_OP_MEMORY_COPY, "MEMORY_COPY", kAnyCount, true, memory_copy},
    Entry{VGPU_OP_GET_DEVICE_INFO, "GET_DEVICE_INFO", kAnyCount, false, plain},
    Entry{VGPU_OP_SYNCHRONIZE, "SYNCHRONIZE", 0, false, plain},
    Entry{VGPU_OP_VECTOR_ADD, "VECTOR_ADD", 6, true, on_vectors},
    Entry{VGPU_OP_SAXPY, "SAXPY", 6, true, on_vectors},
    Entry{VGPU_OP_MATMUL, "MATMUL", 7, true, matmul},
    Entry{VGPU_OP_REDUCE_SUM, "REDUCE_SUM", 4, true, on_vectors},
};

}  // namespace

Decoded decode_operation(const RequestView& request) {
    for (const Entry& entry : kEntries) {
        if (entry.opcode != request.fixed.opcode) {
            continue;
        }
        const std::size_t count = request.fixed.param_count;
        if (entry.params != kAnyCount && count != entry.params) {
            return invalid(std::string(entry.name) + " takes " + std::to_string(entry.params) +
                           " params, and the request has " + std::to_string(count));
        }
        Operation operation;
        operation.job.opcode = entry.opcode;
        operation.async = (request.fixed.flags & VGPU_FLAG_ASYNC) != 0;
        if (operation.async && !entry.can_be_async) {
            return invalid(std::string(entry.name) + " cannot be asynchronous");
        }
        return entry.decode(request, std::move(operation));
    }
    return Refusal{VGPU_ERR_UNSUPPORTED_OPERATION,
                   "this mediator does not support opcode " + std::to_string(request.fixed.opcode)};
}

}  // namespace vgpu
