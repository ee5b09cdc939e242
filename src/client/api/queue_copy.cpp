// SPDX-License-Identifier: MIT
//
// Copies between the program's own memory and a buffer, through the heap. Double-buffered: the CPU
// copies one piece while the GPU processes the other.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>

#include "client/api/queue_command.h"
#include "client/core/api_support.h"
#include "client/include/vgpu.h"
#include "client/queue/queue.h"

namespace {

using namespace vgpu::client;  // NOLINT: this file implements the public API

constexpr std::uint64_t kPiece = std::uint64_t{1} << 20;  // bytes
constexpr std::uint32_t kPieceReply = 256;                // bytes

// A heap block, freed once no command in flight uses it.
class Staging {
  public:
    explicit Staging(Queue& queue) : queue_(queue) {}
    Staging(const Staging&) = delete;
    Staging& operator=(const Staging&) = delete;
    ~Staging() {
        if (block_.size == 0) {
            return;
        }
        if (queue_.completed() >= last_point) {
            (void)queue_.region().free_block(block_);
        } else {
            queue_.keep_until(last_point, block_);
        }
    }
    vgpu::Expected<vgpu_heap_block> take(std::uint64_t size, Nanoseconds deadline) {
        queue_.make_room_to_keep();
        auto made = queue_.region().alloc(size, 0, deadline);
        if (made) {
            block_ = *made;
        }
        return made;
    }

    std::uint64_t last_point = 0;  // of the last command that uses the block

  private:
    Queue& queue_;
    vgpu_heap_block block_{};
};

// One direction of a copy between the program's memory and a buffer.
struct Copy {
    std::uint32_t kind;  // enum vgpu_copy
    std::uint32_t handle;
    std::uint64_t offset;
    const std::byte* from;  // for a copy to the device
    std::byte* to;          // for a copy from the device
    std::uint64_t length;
};

class PieceCopier {
  public:
    PieceCopier(vgpu_queue* queue, const Copy& copy, std::uint32_t timeout_ms, vgpu_failure* why)
        : queue_(queue),
          copy_(copy),
          clock_(queue->impl->region().clock()),
          deadline_(deadline_after(clock_, timeout_ms)),
          timeout_ms_(timeout_ms),
          why_(why),
          staging_(*queue->impl) {}

    int run() {
        piece_ = std::clamp<std::uint64_t>(copy_.length, 64, kPiece);
        piece_ = (piece_ + 63) / 64 * 64;
        const auto block = staging_.take(2 * (piece_ + kPieceReply), deadline_);
        if (!block) {
            return fail(why_, block.failure());
        }
        const std::uint64_t count =
            std::max<std::uint64_t>(1, (copy_.length + piece_ - 1) / piece_);
        int code = VGPU_OK;
        // Start piece i before waiting for piece i - 1.
        for (std::uint64_t i = 0; i <= count && code == VGPU_OK; ++i) {
            if (i < count) {
                code = begin(*block, i);
            }
            if (i > 0 && code == VGPU_OK) {
                code = finish(*block, i - 1);
            }
        }
        return code;
    }

  private:
    [[nodiscard]] std::uint64_t length_of(std::uint64_t i) const {
        return std::min(piece_, copy_.length - i * piece_);
    }
    [[nodiscard]] vgpu_reply_place reply_of(const vgpu_heap_block& block, std::uint64_t i) const {
        return {block.offset + 2 * piece_ + (i % 2) * kPieceReply, i, kPieceReply, 0};
    }
    [[nodiscard]] std::byte* bytes_of(const vgpu_heap_block& block, std::uint64_t i) const {
        return static_cast<std::byte*>(block.pointer) + (i % 2) * piece_;
    }
    [[nodiscard]] std::uint32_t time_left() const {
        if (deadline_ == kNever) {
            return timeout_ms_;
        }
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - clock_.now());
        return static_cast<std::uint32_t>(
            std::clamp<std::int64_t>(left.count(), 0, std::int64_t{timeout_ms_}));
    }

    int begin(const vgpu_heap_block& block, std::uint64_t i) {
        const std::uint64_t length = length_of(i);
        if (copy_.kind == VGPU_COPY_TO_DEVICE && length > 0) {
            std::memcpy(bytes_of(block, i), copy_.from + i * piece_, length);
        }
        const Params params = copy_params(copy_.kind, copy_.handle, copy_.offset + i * piece_);
        vgpu_queue_command command = command_of(VGPU_OP_MEMORY_COPY, params);
        command.data_offset = block.offset + (i % 2) * piece_;
        command.data_length = length;
        const vgpu_reply_place reply = reply_of(block, i);
        int code = push_command(queue_, command, &reply, &points_[i % 2], why_);
        if (code == VGPU_E_QUEUE_FULL) {
            code = vgpu_queue_wait(queue_, queue_->impl->submitted(), time_left(), why_);
            code = code == VGPU_OK ? push_command(queue_, command, &reply, &points_[i % 2], why_)
                                   : code;
        }
        if (code == VGPU_OK) {
            staging_.last_point = points_[i % 2];
            queue_->impl->flush();
        }
        return code;
    }

    int finish(const vgpu_heap_block& block, std::uint64_t i) {
        const vgpu_reply_place reply = reply_of(block, i);
        const int code =
            vgpu_queue_finish(queue_, points_[i % 2], &reply, time_left(), nullptr, why_);
        if (code == VGPU_OK && copy_.kind == VGPU_COPY_FROM_DEVICE && length_of(i) > 0) {
            std::memcpy(copy_.to + i * piece_, bytes_of(block, i), length_of(i));
        }
        return code;
    }

    vgpu_queue* queue_;
    const Copy& copy_;
    Clock& clock_;
    Nanoseconds deadline_;
    std::uint32_t timeout_ms_;
    vgpu_failure* why_;
    Staging staging_;
    std::uint64_t piece_ = 0;
    std::array<std::uint64_t, 2> points_{};
};

int copy_in_pieces(vgpu_queue* queue, const Copy& copy, std::uint32_t timeout_ms,
                   vgpu_failure* why) {
    if (queue == nullptr || (copy.from == nullptr && copy.to == nullptr && copy.length > 0) ||
        copy.length > UINT64_MAX - copy.offset) {
        return bad_argument(why, "a pointer is null, or offset + length exceeds 2^64");
    }
    return guarded(why, [&] { return PieceCopier(queue, copy, timeout_ms, why).run(); });
}

}  // namespace

int vgpu_queue_copy_to(vgpu_queue* queue, uint32_t handle, uint64_t offset, const void* from,
                       size_t length, uint32_t timeout_ms, vgpu_failure* why) {
    return copy_in_pieces(
        queue,
        {VGPU_COPY_TO_DEVICE, handle, offset, static_cast<const std::byte*>(from), nullptr, length},
        timeout_ms, why);
}

int vgpu_queue_copy_from(vgpu_queue* queue, uint32_t handle, uint64_t offset, void* to,
                         size_t length, uint32_t timeout_ms, vgpu_failure* why) {
    return copy_in_pieces(
        queue,
        {VGPU_COPY_FROM_DEVICE, handle, offset, nullptr, static_cast<std::byte*>(to), length},
        timeout_ms, why);
}
