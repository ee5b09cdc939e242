// SPDX-License-Identifier: MIT
#include "client/queue/region.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "client/core/pause.h"

namespace vgpu::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t kSmallestChunk = 64 << 10;
// Blocks do not share cache lines.
constexpr std::uint64_t kBlockGranule = 64;
constexpr std::uint64_t kLargestAlignment = 4096;
// Free chunks of up to 1/kSpareShare of the heap (at least 4 chunks) are kept as a reserve.
constexpr std::uint64_t kSpareShare = 16;
// Time-out for commands of a dead process.
constexpr Nanoseconds kQuiesceFor = seconds(5);
constexpr Nanoseconds kHandoverFor = seconds(5);

std::uint64_t round_up(std::uint64_t value, std::uint64_t step) {
    return (value + (step - 1)) / step * step;
}

// All processes of the VM must compute the same value.
std::uint64_t chunk_size_of(const ring::Layout& layout) {
    return std::max(kSmallestChunk,
                    round_up((layout.heap_size + kMostChunks - 1) / kMostChunks, 4096));
}

}  // namespace

Failure no_queues(const std::string& why) {
    return {VGPU_E_NO_QUEUES, why, 0};
}

class Region::Handover {
  public:
    explicit Handover(Region& region) : region_(region), lock_(region.handover_) {}
    Handover(const Handover&) = delete;
    Handover& operator=(const Handover&) = delete;
    ~Handover() {
        if (held_) {
            region_.claims_.give_back(kHandoverByte, 1);
        }
    }

    // Returns false at the deadline.
    Expected<bool> take(Nanoseconds deadline) {
        Pause pause(region_.clock_, Nanoseconds(0));
        for (;;) {
            auto taken = region_.claims_.take(kHandoverByte, 1);
            if (!taken || *taken) {
                held_ = taken.has_value();
                return taken;
            }
            if (!pause.step(deadline)) {
                return false;
            }
        }
    }

  private:
    Region& region_;
    std::unique_lock<std::mutex> lock_;
    bool held_ = false;
};

Region::Region(std::unique_ptr<QueuePort> port, Clock& clock)
    : port_(std::move(port)),
      layout_(port_->layout()),
      clock_(clock),
      claims_(port_->claims_file()),
      chunk_size_(chunk_size_of(layout_)),
      chunk_count_((layout_.heap_size + chunk_size_ - 1) / chunk_size_) {}

std::uint64_t Region::generation() {
    const std::uint64_t found = generation_in_memory();
    return found != 0 && port_->attached() ? found : 0;
}

vgpu_shm_info Region::info() {
    vgpu_shm_info made{};
    made.size = layout_.size;
    made.queue_count = layout_.queue_count;
    made.ring_size = layout_.ring_size;
    made.heap_offset = layout_.heap_offset;
    made.heap_size = layout_.heap_size;
    made.generation = generation();
    const std::lock_guard lock(mutex_);
    for (std::uint32_t queue = 0; queue != layout_.queue_count; ++queue) {
        if (!own_queues_[queue] && !claims_.end_of_obstacle(queue, 1)) {
            ++made.free_queues;
        }
    }
    return made;
}

Expected<Region::ClaimedQueue> Region::claim_queue(std::uint32_t index, Nanoseconds deadline) {
    const bool any = index == VGPU_QUEUE_ANY;
    if (!any && index >= layout_.queue_count) {
        return Failure{VGPU_E_ARGUMENT,
                       "the device has no queue " + std::to_string(index) + ": it has " +
                           std::to_string(layout_.queue_count),
                       0};
    }
    Handover handover(*this);
    const auto held = handover.take(deadline);
    if (!held) {
        return held.failure();
    }
    if (!*held) {
        return Failure{
            VGPU_E_WAIT_TIMEOUT,
            "another process holds the lock of queues and heap: retry, or end that process", 0};
    }
    const std::uint32_t first = any ? 0 : index;
    const std::uint32_t end = any ? layout_.queue_count : index + 1;
    const std::lock_guard lock(mutex_);
    for (std::uint32_t queue = first; queue != end; ++queue) {
        if (own_queues_[queue]) {
            continue;
        }
        const auto taken = claims_.take(queue, 1);
        if (!taken) {
            return taken.failure();
        }
        if (*taken) {
            own_queues_[queue] = true;
            ring::Producer producer(layout_.queue(base(), queue));
            if (producer.request_reset()) {
                port_->ring_doorbell(queue);
            }
            return ClaimedQueue{queue, producer};
        }
    }
    return Failure{
        VGPU_E_IN_USE,
        any ? "all " + std::to_string(layout_.queue_count) +
                  " queues of the device are in use: close one, or give the device more"
            : "queue " + std::to_string(index) + " is in use: use another, or VGPU_QUEUE_ANY",
        0};
}

void Region::give_queue_back(std::uint32_t index) {
    const std::lock_guard lock(mutex_);
    own_queues_[index] = false;
    claims_.give_back(index, 1);
}

bool Region::is_idle(std::uint32_t queue) const {
    using Memory = ring::SharedMemory;
    vgpu_queue_control& control = *layout_.queue(base(), queue).control;
    return Memory::load_acquire(control.state) == VGPU_QUEUE_STOPPED &&
           Memory::load_relaxed(control.reset_request) == Memory::load_relaxed(control.reset_ack) &&
           Memory::load_acquire(control.completed) + 1 >= Memory::load_relaxed(control.error_index);
}

bool Region::await_reset(ring::Producer& producer, Nanoseconds deadline) {
    Pause pause(clock_, std::chrono::microseconds(100));
    while (producer.reset_progress() == ring::Reset::kPending) {
        if (pause.long_since(milliseconds(1)) && !port_->attached()) {
            return true;
        }
        if (!pause.step(deadline)) {
            return false;
        }
    }
    return true;
}

// Failure of a wait for another process: the caller's deadline, or the limit of this library.
Failure Region::still_busy(const std::string& why, Nanoseconds deadline) {
    return {clock_.now() >= deadline ? VGPU_E_WAIT_TIMEOUT : VGPU_E_BUSY, why, 0};
}

Expected<vgpu_heap_block> Region::alloc(std::uint64_t size, std::uint64_t alignment,
                                        Nanoseconds deadline) {
    alignment = alignment == 0 ? kBlockGranule : alignment;
    if (size == 0 || alignment > kLargestAlignment || (alignment & (alignment - 1)) != 0) {
        return Failure{VGPU_E_ARGUMENT,
                       "a heap block needs a size of at least 1 byte, and an alignment that is a "
                       "power of two up to 4096",
                       0};
    }
    const Failure none{VGPU_E_NO_MEMORY,
                       "the heap has no free block of " + std::to_string(size) + " bytes, out of " +
                           std::to_string(layout_.heap_size) +
                           ": free blocks, use smaller ones, or give the device more shared memory",
                       0};
    if (size > layout_.heap_size) {
        return none;
    }
    size = round_up(size, kBlockGranule);
    if (const auto block = take_block(size, alignment)) {
        return *block;
    }
    Handover handover(*this);
    const auto held = handover.take(std::min(deadline, clock_.now() + kHandoverFor));
    if (!held) {
        return held.failure();
    }
    if (!*held) {
        return still_busy(
            "another process holds the lock of queues and heap: retry, or end that process",
            deadline);
    }
    // Another thread may have claimed chunks meanwhile. Chunks start at multiples of 4096.
    if (const auto block = take_block(size, alignment)) {
        return *block;
    }
    auto chunks = claim_chunks(size, deadline);
    if (!chunks && chunks.failure().code == VGPU_E_NO_MEMORY) {
        // Spare chunks of this process may fragment the range: return them and retry.
        give_free_chunks_back();
        chunks = claim_chunks(size, deadline);
    }
    if (!chunks) {
        return chunks.failure().code == VGPU_E_NO_MEMORY ? none : chunks.failure();
    }
    const auto block = take_block(size, alignment);
    return block ? Expected<vgpu_heap_block>(*block) : none;
}

std::optional<vgpu_heap_block> Region::take_block(std::uint64_t size, std::uint64_t alignment) {
    const std::lock_guard lock(mutex_);
    const auto at = heap_.take(size, alignment);
    if (!at) {
        return std::nullopt;
    }
    return vgpu_heap_block{*at, size, base() + *at};
}

Expected<void> Region::free_block(const vgpu_heap_block& block) {
    const std::lock_guard lock(mutex_);
    const auto size = heap_.give_back(block.offset);
    if (!size) {
        return Failure{VGPU_E_ARGUMENT,
                       "no block is allocated at offset " + std::to_string(block.offset) +
                           ": it was already freed, or belongs to another device handle",
                       0};
    }
    give_spare_chunks_back(block.offset);
    return {};
}

vgpu_heap_info Region::heap_info() {
    const std::lock_guard lock(mutex_);
    vgpu_heap_info made{};
    made.size = layout_.heap_size;
    made.chunk_size = chunk_size_;
    made.taken = heap_.total();
    made.allocated = heap_.allocated();
    // Own chunks do not show as claimed, so they are subtracted at the end.
    for (std::uint64_t chunk = 0; chunk != chunk_count_; ++chunk) {
        if (!claims_.end_of_obstacle(kFirstChunkByte + chunk, 1)) {
            made.available += chunk_end(chunk) - chunk_offset(chunk);
        }
    }
    made.available -= std::min(made.available, made.taken);
    return made;
}

// Claims contiguous chunks of at least `size` bytes and adds them to the heap map. VGPU_E_NO_MEMORY
// has no error text. Precondition: the handover lock is held.
Expected<void> Region::claim_chunks(std::uint64_t size, Nanoseconds deadline) {
    const std::uint64_t count = (size + chunk_size_ - 1) / chunk_size_;
    std::uint64_t first = 0;
    // The last chunk may be shorter: a range that ends with it may be too small.
    while (first + count <= chunk_count_ &&
           chunk_end(first + count - 1) - chunk_offset(first) >= size) {
        // Skip chunks that this process owns: they are in the map already.
        {
            const std::lock_guard lock(mutex_);
            std::uint64_t own = first;
            for (std::uint64_t chunk = first; chunk != first + count; ++chunk) {
                own = own_chunks_.test(chunk) ? chunk + 1 : own;
            }
            if (own != first) {
                first = own;
                continue;
            }
        }
        const auto taken = claims_.take(kFirstChunkByte + first, count);
        if (!taken) {
            return taken.failure();
        }
        if (*taken) {
            const auto quiet = quiesce_abandoned_queues(deadline);
            if (!quiet) {
                claims_.give_back(kFirstChunkByte + first, count);
                return quiet.failure();
            }
            const std::lock_guard lock(mutex_);
            for (std::uint64_t chunk = first; chunk != first + count; ++chunk) {
                own_chunks_.set(chunk);
            }
            heap_.add(chunk_offset(first), chunk_end(first + count - 1) - chunk_offset(first));
            return {};
        }
        const auto obstacle = claims_.end_of_obstacle(kFirstChunkByte + first, count);
        // Released meanwhile: retry the same range.
        first = obstacle ? std::min(*obstacle - kFirstChunkByte, chunk_count_) : first;
    }
    return Failure{VGPU_E_NO_MEMORY, {}, 0};
}

// See the top of region.h. Precondition: the handover lock is held.
Expected<void> Region::quiesce_abandoned_queues(Nanoseconds deadline) {
    if (!port_->attached()) {
        return {};
    }
    const Nanoseconds end = std::min(deadline, clock_.now() + kQuiesceFor);
    for (std::uint32_t queue = 0; queue != layout_.queue_count; ++queue) {
        {
            const std::lock_guard lock(mutex_);
            if (own_queues_[queue]) {
                continue;
            }
        }
        if (!quiesce(queue, end)) {
            return still_busy(
                "commands of a process that has exited are still in flight in queue " +
                    std::to_string(queue) + ": retry",
                deadline);
        }
    }
    return {};
}

bool Region::quiesce(std::uint32_t queue, Nanoseconds deadline) {
    using Memory = ring::SharedMemory;
    vgpu_queue_control& control = *layout_.queue(base(), queue).control;
    const auto taken = claims_.take(queue, 1);
    if (!taken || !*taken) {
        // Commands of the owner use only its own memory, once the reset that it requested is done.
        Pause pause(clock_, std::chrono::microseconds(100));
        while (Memory::load_relaxed(control.reset_request) !=
               Memory::load_acquire(control.reset_ack)) {
            if (pause.long_since(milliseconds(1)) && !port_->attached()) {
                return true;
            }
            if (!pause.step(deadline)) {
                return false;
            }
        }
        return true;
    }
    bool quiet = true;
    if (!is_idle(queue)) {
        ring::Producer producer(layout_.queue(base(), queue));
        if (producer.request_reset()) {
            port_->ring_doorbell(queue);
        }
        quiet = await_reset(producer, deadline);
    }
    claims_.give_back(queue, 1);
    return quiet;
}

// Returns entirely free chunks of the free range around an offset while more than the spare memory
// is free. Precondition: mutex_ is held.
void Region::give_spare_chunks_back(std::uint64_t around) {
    const std::uint64_t kept = std::max(4 * chunk_size_, layout_.heap_size / kSpareShare);
    const auto piece = heap_.free_piece_at(around);
    if (!piece) {
        return;
    }
    std::uint64_t chunk = (piece->end - layout_.heap_offset - 1) / chunk_size_;
    // From the upper end; the range may contain only a part of the last chunk.
    for (;; --chunk) {
        if (chunk_offset(chunk) < piece->begin || heap_.total() - heap_.allocated() <= kept) {
            return;
        }
        give_chunk_back_if_free(chunk);
        if (chunk == 0) {
            return;
        }
    }
}

void Region::give_free_chunks_back() {
    const std::lock_guard lock(mutex_);
    for (std::uint64_t chunk = 0; chunk != chunk_count_; ++chunk) {
        if (own_chunks_.test(chunk)) {
            give_chunk_back_if_free(chunk);
        }
    }
}

void Region::give_chunk_back_if_free(std::uint64_t chunk) {
    const std::uint64_t begin = chunk_offset(chunk);
    if (heap_.remove(begin, chunk_end(chunk) - begin)) {
        own_chunks_.reset(chunk);
        claims_.give_back(kFirstChunkByte + chunk, 1);
    }
}

std::uint64_t Region::chunk_offset(std::uint64_t chunk) const {
    return layout_.heap_offset + chunk * chunk_size_;
}

std::uint64_t Region::chunk_end(std::uint64_t chunk) const {
    return std::min(layout_.size, chunk_offset(chunk) + chunk_size_);
}

}  // namespace vgpu::client
