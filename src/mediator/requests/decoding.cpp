// SPDX-License-Identifier: MIT
#include "mediator/requests/decoding.h"

#include <array>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "ring/reply.h"

namespace vgpu {
namespace {

constexpr std::uint64_t kElementSize = 4;  // bytes
constexpr std::size_t kAnyCount = SIZE_MAX;

using Decoded = Result<Operation, Refusal>;

Refusal invalid(std::string message) {
    return {VGPU_ERR_INVALID_REQUEST, std::move(message)};
}

// The common parts of a request and a command of a queue, and the additional parts of a command.
struct Source {
    std::uint32_t opcode = 0;
    std::uint32_t flags = 0;
    std::size_t param_count = 0;
    const RequestView* request = nullptr;  // holds the params; null: `words` does
    std::span<const std::uint32_t> words;  // params of a command
    // Of a command:
    const ring::Layout* layout = nullptr;  // null: this is a request
    std::uint64_t data_offset = 0;
    std::uint64_t data_length = 0;

    // Precondition: index < param_count.
    [[nodiscard]] std::uint32_t param(std::size_t index) const {
        return request != nullptr ? request->param(index) : words[index];
    }
    [[nodiscard]] bool is_command() const { return layout != nullptr; }
    [[nodiscard]] bool heap_operands() const {
        return is_command() && (flags & VGPU_FLAG_HEAP_OPERANDS) != 0;
    }
};

// Reads params from left to right. Precondition: there are enough of them.
class Params {
  public:
    explicit Params(const Source& source) : source_(source) {}
    std::uint32_t word() { return source_.param(next_++); }
    std::uint64_t wide() {
        const std::uint64_t low = word();
        return std::uint64_t{word()} << 32U | low;
    }

  private:
    const Source& source_;
    std::size_t next_ = 0;
};

Refusal not_in_heap(const std::string& what) {
    return {VGPU_ERR_CUDA_OUT_OF_BOUNDS, what + " is not within the heap"};
}

void use(Operation& operation, const BufferUse& what) {
    operation.uses.at(operation.use_count++) = what;
}

Decoded plain(const Source& /*source*/, Operation operation) {
    return operation;
}

Decoded cuda_kernel(const Source& source, Operation operation) {
    operation.job.params = {source.param(0), source.param(1)};
    return operation;
}

Decoded memory_alloc(const Source& source, Operation operation) {
    operation.job.length = Params(source).wide();
    if (operation.job.length == 0) {
        return invalid("MEMORY_ALLOC of 0 bytes: request at least 1");
    }
    return operation;
}

Decoded memory_free(const Source& source, Operation operation) {
    use(operation, {.handle = source.param(0)});
    return operation;
}

Decoded memory_copy(const Source& source, Operation operation) {
    struct Kind {
        std::size_t params;
        const char* what;
    };
    // From the device, the length is a param, unless the data in the heap provides it.
    const std::array kinds{Kind{4, "to the device"},
                           Kind{source.is_command() ? 4U : 5U, "from the device"},
                           Kind{9, "within the device"}};
    if (source.param_count == 0 || source.param(0) >= kinds.size()) {
        return invalid("the first param of MEMORY_COPY must be 0, 1 or 2");
    }
    Params params(source);
    Job& job = operation.job;
    job.copy = params.word();
    const Kind& kind = kinds.at(job.copy);
    if (source.param_count != kind.params) {
        return invalid(std::string("MEMORY_COPY ") + kind.what + " takes " +
                       std::to_string(kind.params) + " params, and the request has " +
                       std::to_string(source.param_count));
    }
    BufferUse first{.handle = params.word()};
    first.offset = params.wide();
    BufferUse second;
    if (source.is_command() && job.copy != VGPU_COPY_WITHIN_DEVICE) {
        if (source.data_length != 0 &&
            !source.layout->in_heap(source.data_offset, source.data_length)) {
            return not_in_heap("the data of MEMORY_COPY");
        }
        job.length = source.data_length;
        job.heap_data = job.length == 0 ? 0 : source.data_offset;
    } else if (job.copy == VGPU_COPY_TO_DEVICE) {
        const std::span<const std::byte> data = source.request->data;
        job.length = data.size();
        job.data.assign(reinterpret_cast<const char*>(data.data()), data.size());
    } else if (job.copy == VGPU_COPY_FROM_DEVICE) {
        job.length = params.word();
        if (job.length > VGPU_COPY_MAX_LENGTH) {
            return invalid("MEMORY_COPY from the device returns at most " +
                           std::to_string(VGPU_COPY_MAX_LENGTH) + " bytes at a time");
        }
        if (operation.async) {
            return invalid(
                "MEMORY_COPY from the device cannot be asynchronous: its response carries the "
                "data");
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

// Reads the element type. Returns false if there is no such type.
bool read_type(Params& params, Operation& operation) {
    operation.job.type = params.word();
    return operation.job.type <= VGPU_TYPE_I32;
}

Refusal unknown_type(std::uint32_t type) {
    return invalid("unknown element type " + std::to_string(type) + ": use 0 (f32) or 1 (i32)");
}

// Reads an operand of `operation`: a handle or, in a command with VGPU_FLAG_HEAP_OPERANDS, possibly
// an offset in the heap. Its extent is not known yet.
void operand(const Source& source, Params& params, Operation& operation) {
    BufferUse what{.unit = kElementSize};
    if (source.heap_operands()) {
        const std::uint64_t wide = params.wide();
        constexpr std::uint64_t kInHeap = std::uint64_t{VGPU_OPERAND_HI_HEAP} << 32U;
        what.in_heap = (wide & kInHeap) != 0;
        what.offset = wide & ~kInHeap;
        if (!what.in_heap) {
            // No valid handle has a high half other than 0.
            what.handle = what.offset >> 32U == 0 ? static_cast<std::uint32_t>(what.offset) : 0;
            what.offset = 0;
        }
    } else {
        what.handle = params.word();
    }
    use(operation, what);
}

// Fills in the job's heap operands once their extents are known. Returns the error of an operand
// that is not within the heap, or misaligned.
std::optional<Refusal> place_in_heap(const Source& source, Operation& operation) {
    for (std::size_t i = 0; i < operation.use_count; ++i) {
        const BufferUse& what = operation.uses.at(i);
        if (!what.in_heap) {
            continue;
        }
        if (what.count > UINT64_MAX / what.unit ||
            !source.layout->in_heap(what.offset, what.count * what.unit)) {
            return not_in_heap("operand " + std::to_string(i));
        }
        if (what.offset % kElementSize != 0) {
            return invalid("operand " + std::to_string(i) + " is not a multiple of " +
                           std::to_string(kElementSize) + " bytes into the heap");
        }
        operation.job.heap_operands |= 1U << i;
        operation.job.heap.at(i) = what.offset;
    }
    return std::nullopt;
}

Decoded placed(const Source& source, Operation operation) {
    if (auto refusal = place_in_heap(source, operation)) {
        return *std::move(refusal);
    }
    return operation;
}

// Returns true if two operands may share bytes. Precondition: they have been placed.
bool overlap(const BufferUse& a, const BufferUse& b) {
    if (a.in_heap != b.in_heap) {
        return false;
    }
    return a.in_heap
               ? a.offset < b.offset + b.count * b.unit && b.offset < a.offset + a.count * a.unit
               : a.handle == b.handle;
}

// VECTOR_ADD, SAXPY and REDUCE_SUM: buffers of `count` elements each.
Decoded on_vectors(const Source& source, Operation operation) {
    Params params(source);
    if (!read_type(params, operation)) {
        return unknown_type(operation.job.type);
    }
    const std::uint32_t opcode = operation.job.opcode;
    const std::size_t buffers = opcode == VGPU_OP_VECTOR_ADD ? 3 : opcode == VGPU_OP_SAXPY ? 2 : 1;
    for (std::size_t i = 0; i < buffers; ++i) {
        operand(source, params, operation);
    }
    if (opcode == VGPU_OP_SAXPY) {
        operation.job.alpha = params.word();
    }
    operation.job.length = params.wide();
    for (BufferUse& what : operation.uses) {
        what.count = operation.job.length;
    }
    return placed(source, std::move(operation));
}

Decoded matmul(const Source& source, Operation operation) {
    Params params(source);
    if (!read_type(params, operation)) {
        return unknown_type(operation.job.type);
    }
    for (int i = 0; i < 3; ++i) {
        operand(source, params, operation);
    }
    const std::uint64_t m = params.word();
    const std::uint64_t n = params.word();
    const std::uint64_t k = params.word();
    operation.job.extents = {static_cast<std::uint32_t>(m), static_cast<std::uint32_t>(n),
                             static_cast<std::uint32_t>(k)};
    const std::array counts{m * n, m * k, k * n};
    for (std::size_t i = 0; i < counts.size(); ++i) {
        operation.uses.at(i).count = counts.at(i);
    }
    if (auto refusal = place_in_heap(source, operation)) {
        return *std::move(refusal);
    }
    if (overlap(operation.uses[0], operation.uses[1]) ||
        overlap(operation.uses[0], operation.uses[2])) {
        return invalid("the result of MATMUL must not be one of its sources");
    }
    return operation;
}

struct Entry {
    std::uint32_t opcode;
    const char* name;
    std::size_t params;
    bool can_be_async;
    std::uint32_t results;  // words in the response
    std::size_t operands;   // that may be in the heap
    bool can_follow;
    Decoded (*decode)(const Source& source, Operation operation);
};

constexpr std::array kEntries{
    Entry{VGPU_OP_NOP, "NOP", kAnyCount, true, 0, 0, false, plain},
    Entry{VGPU_OP_CUDA_KERNEL, "CUDA_KERNEL", 2, true, 1, 0, true, cuda_kernel},
    Entry{VGPU_OP_MEMORY_ALLOC, "MEMORY_ALLOC", 2, false, 1, 0, false, memory_alloc},
    Entry{VGPU_OP_MEMORY_FREE, "MEMORY_FREE", 1, true, 0, 0, false, memory_free},
    Entry{VGPU_OP_MEMORY_COPY, "MEMORY_COPY", kAnyCount, true, 0, 0, true, memory_copy},
    Entry{VGPU_OP_GET_DEVICE_INFO, "GET_DEVICE_INFO", kAnyCount, false, VGPU_INFO_RESULT_COUNT, 0,
          false, plain},
    Entry{VGPU_OP_SYNCHRONIZE, "SYNCHRONIZE", 0, false, 0, 0, false, plain},
    Entry{VGPU_OP_VECTOR_ADD, "VECTOR_ADD", 6, true, 0, 3, true, on_vectors},
    Entry{VGPU_OP_SAXPY, "SAXPY", 6, true, 0, 2, true, on_vectors},
    Entry{VGPU_OP_MATMUL, "MATMUL", 7, true, 0, 3, true, matmul},
    Entry{VGPU_OP_REDUCE_SUM, "REDUCE_SUM", 4, true, 1, 1, true, on_vectors},
};

const Entry* find_entry(std::uint32_t opcode) {
    for (const Entry& entry : kEntries) {
        if (entry.opcode == opcode) {
            return &entry;
        }
    }
    return nullptr;
}

Decoded decode(const Source& source) {
    const Entry* const entry = find_entry(source.opcode);
    if (entry == nullptr) {
        return Refusal{VGPU_ERR_UNSUPPORTED_OPERATION,
                       "this mediator does not support opcode " + std::to_string(source.opcode)};
    }
    if (source.heap_operands() && entry->operands == 0) {
        return invalid(std::string(entry->name) + " does not support operands in the heap");
    }
    // An operand that may be in the heap takes two params.
    const std::size_t params = entry->params == kAnyCount || !source.heap_operands()
                                   ? entry->params
                                   : entry->params + entry->operands;
    if (params != kAnyCount && source.param_count != params) {
        return invalid(std::string(entry->name) + " takes " + std::to_string(params) +
                       " params, and the request has " + std::to_string(source.param_count));
    }
    Operation operation;
    operation.job.opcode = entry->opcode;
    operation.result_words = entry->results;
    // Every command is asynchronous; the caller knows which ones report their failure through
    // SYNCHRONIZE.
    operation.async = !source.is_command() && (source.flags & VGPU_FLAG_ASYNC) != 0;
    if (operation.async && !entry->can_be_async) {
        return invalid(std::string(entry->name) + " cannot be asynchronous");
    }
    return entry->decode(source, std::move(operation));
}

}  // namespace

Decoded decode_operation(const RequestView& request) {
    return decode({.opcode = request.fixed.opcode,
                   .flags = request.fixed.flags,
                   .param_count = request.fixed.param_count,
                   .request = &request,
                   .words = {}});
}

Decoded decode_command(const ring::Record& record, const ring::Layout& layout) {
    const vgpu_record& header = record.header();
    if ((header.flags & ~VGPU_RECORD_FLAGS_KNOWN) != 0) {
        return invalid("the command has an unknown flag");
    }
    if (header.inline_length != 0) {
        return invalid("the command has inline data, which no operation accepts");
    }
    Decoded decoded = decode({.opcode = header.opcode,
                              .flags = header.flags,
                              .param_count = header.param_count,
                              .words = record.params(),
                              .layout = &layout,
                              .data_offset = header.data_offset,
                              .data_length = header.data_length});
    if (decoded) {
        const std::uint64_t needed = ring::reply_size(decoded->result_words, 0);
        if (decoded->result_words > 0 && header.reply_capacity < needed) {
            return invalid("the reply needs " + std::to_string(needed) + " bytes and has " +
                           std::to_string(header.reply_capacity));
        }
    }
    return decoded;
}

bool can_follow(std::uint32_t opcode) {
    const Entry* const entry = find_entry(opcode);
    return entry != nullptr && entry->can_follow;
}

}  // namespace vgpu
