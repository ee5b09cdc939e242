// SPDX-License-Identifier: MIT
//
// The checks of the fast path: commands through queues, replies and bulk data in the heap, GPU
// operations on the heap itself, and reopening a queue that was stopped by an error.
#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include "cli/vgpu/selftest.h"

namespace vgpu::cli {
namespace {

const char* const kGroup = "queues";
constexpr std::uint64_t kBytes = 300'000;  // per copy: not a power of two, larger than a ring

std::uint32_t pattern(std::size_t i, std::uint32_t seed) {
    const auto word = static_cast<std::uint32_t>(i) * 1664525U + seed * 1013904223U;
    return word ^ word >> 15U;
}

// Ends a check with an error text.
struct Stopped {
    std::string complaint;
};

template <typename T>
T need(Expected<T> outcome) {
    if (!outcome) {
        throw Stopped{outcome.failure().message};
    }
    return std::move(*outcome);
}
void need(const Expected<void>& outcome) {
    if (!outcome) {
        throw Stopped{outcome.failure().message};
    }
}

class QueueChecks {
  public:
    explicit QueueChecks(SelfTest& test) : test_(test), limit_(test.settings().timeout) {}

    void check(const char* name, Complaint (QueueChecks::*body)(Queue&)) {
        test_.check(kGroup, name, [&]() -> Complaint {
            try {
                Queue queue = need(Queue::open(device(), VGPU_QUEUE_ANY, limit_));
                return (this->*body)(queue);
            } catch (const Stopped& stopped) {
                return stopped.complaint;
            }
        });
    }

    Complaint answers(Queue& queue) {
        need(queue.nop(limit_));
        return expect_equal("the sum", need(queue.add(0xFFFFFFFF, 301, limit_)), 300);
    }

    // Sends more commands than a ring holds, with up to kPlaces in flight.
    Complaint keeps_order(Queue& queue) {
        constexpr std::uint32_t kCommands = 5000;
        constexpr std::uint32_t kPlaces = 64;
        constexpr std::uint32_t kPlace = 64;
        const HeapBlock replies = need(HeapBlock::take(device(), std::uint64_t{kPlaces} * kPlace));
        // The timeline continues where the queue's last owner left it.
        const std::uint64_t before = queue.submitted();
        for (std::uint32_t i = 0; i < kCommands + kPlaces; ++i) {
            const std::uint64_t at = std::uint64_t{i % kPlaces} * kPlace;
            if (i >= kPlaces) {
                const std::uint32_t old = i - kPlaces;
                const ReplyView reply = need(
                    queue.finish(before + old + 1, replies.reply_place(at, kPlace, old), limit_));
                if (reply.result_count != 1) {
                    return "the response to an addition contains no result";
                }
                if (auto complaint = expect_equal("sum " + std::to_string(old), reply.results[0],
                                                  std::uint64_t{old} + pattern(old, 1) % 1000)) {
                    return complaint;
                }
            }
            if (i < kCommands) {
                need(queue.push_add(i, pattern(i, 1) % 1000, replies.reply_place(at, kPlace, i)));
            }
        }
        return std::nullopt;
    }

    Complaint names_the_gpu(Queue& queue) {
        const GpuInfo info = need(queue.info(limit_));
        return info.name[0] != '\0' ? Complaint() : "the name is empty";
    }

    Complaint copies_come_back(Queue& queue) {
        const HeapBlock block = need(HeapBlock::take(device(), kBytes));
        const auto words = block.as<std::uint32_t>().first(kBytes / 4);
        for (std::size_t i = 0; i < words.size(); ++i) {
            words[i] = pattern(i, 2);
        }
        const std::uint32_t handle = need(queue.alloc(kBytes + 4, limit_));
        need(queue.push_copy_to(handle, 4, block.offset(), kBytes));
        need(queue.push_copy_within(handle, 0, handle, 4, kBytes));
        const HeapBlock place = need(HeapBlock::take(device(), 512));
        const auto first = place.reply_place(0, 256);
        need(
            queue.wait(need(queue.push_copy_to(handle, 0, block.offset(), kBytes, first)), limit_));
        need(queue.read_reply(first));
        std::memset(block.bytes().data(), 0, block.size());
        const auto second = place.reply_place(256, 256);
        need(queue.finish(need(queue.push_copy_from(handle, 0, block.offset(), kBytes, second)),
                          second, limit_));
        need(queue.free(handle, limit_));
        for (std::size_t i = 0; i < words.size(); ++i) {
            if (words[i] != pattern(i, 2)) {
                return expect_equal("word " + std::to_string(i), words[i], pattern(i, 2));
            }
        }
        return std::nullopt;
    }

    Complaint copies_programs_memory(Queue& queue) {
        std::vector<std::byte> bytes(5 * kBytes + 1);
        for (std::size_t i = 0; i < bytes.size(); ++i) {
            bytes[i] = static_cast<std::byte>(pattern(i, 3));
        }
        const std::uint32_t handle = need(queue.alloc(bytes.size() + 3, limit_));
        need(queue.copy_to(handle, 3, bytes, limit_));
        std::vector<std::byte> back(bytes.size());
        need(queue.copy_from(handle, 3, back, limit_));
        need(queue.free(handle, limit_));
        return back == bytes ? Complaint() : "the bytes read back differ";
    }

    // Operates on the heap itself, on buffers, and on both in one command.
    Complaint computes(Queue& queue) {
        constexpr std::uint64_t kCount = 10'001;
        constexpr std::uint64_t kSize = 4 * kCount;
        const HeapBlock heap = need(HeapBlock::take(device(), 3 * kSize));
        const auto numbers = heap.as<std::uint32_t>();
        for (std::size_t i = 0; i < 2 * kCount; ++i) {
            numbers[i] = pattern(i, 4);
        }
        const std::uint32_t buffer = need(queue.alloc(kSize, limit_));
        need(queue.push_copy_to(buffer, 0, heap.offset(), kSize));
        need(queue.vector_add(VGPU_TYPE_I32, heap.operand(2 * kSize), heap.operand(0),
                              heap.operand(kSize), kCount, limit_));
        need(queue.saxpy(VGPU_TYPE_I32, heap.operand(2 * kSize), buffer, 7, kCount, limit_));
        std::uint32_t sum = 0;
        for (std::size_t i = 0; i < kCount; ++i) {
            const std::uint32_t expected = 8 * pattern(i, 4) + pattern(kCount + i, 4);
            sum += expected;
            if (numbers[2 * kCount + i] != expected) {
                return expect_equal("element " + std::to_string(i), numbers[2 * kCount + i],
                                    expected);
            }
        }
        need(queue.free(buffer, limit_));
        return expect_equal(
            "the sum",
            need(queue.reduce_sum(VGPU_TYPE_I32, heap.operand(2 * kSize), kCount, limit_)), sum);
    }

    Complaint refuses(Queue& queue) {
        const auto freed = queue.free(0, limit_);
        if (auto complaint = expect_code("a handle of 0", freed, VGPU_ERR_CUDA_INVALID_HANDLE)) {
            return complaint;
        }
        const auto outside =
            queue.vector_add(VGPU_TYPE_I32, VGPU_HEAP_OPERAND(4), VGPU_HEAP_OPERAND(4),
                             VGPU_HEAP_OPERAND(4), 1, limit_);
        if (auto complaint =
                expect_code("an operand outside the heap", outside, VGPU_ERR_CUDA_OUT_OF_BOUNDS)) {
            return complaint;
        }
        return expect_equal("the sum after that", need(queue.add(1, 2, limit_)), 3);
    }

    // A reply place outside the heap is the one error that a program can cause by accident.
    Complaint stops_and_reopens(Queue& queue) {
        const std::uint32_t index = queue.index();
        const auto point = queue.push_nop(ReplyPlace{8, 0, 64, 0});
        if (auto complaint = expect_code("a reply place outside the heap",
                                         queue.wait(need(point), limit_), VGPU_E_QUEUE_STOPPED)) {
            return complaint;
        }
        { const Queue closed = std::move(queue); }
        Queue again = need(Queue::open(device(), index, limit_));
        return expect_equal("the sum", need(again.add(1, 2, limit_)), 3);
    }

    Complaint goes_side_by_side(Queue& queue) {
        const auto same = Queue::open(device(), queue.index(), limit_);
        if (same || same.failure().code != VGPU_E_IN_USE) {
            return "a queue in use was opened a second time";
        }
        auto second = Queue::open(device(), VGPU_QUEUE_ANY, limit_);
        if (!second) {
            // A device may have only one queue.
            return device().shm_info().free_queues == 0 ? Complaint() : second.failure().message;
        }
        for (std::uint32_t i = 0; i < 100; ++i) {
            need(queue.push_nop());
            need(queue.flush());
            if (auto complaint =
                    expect_equal("a sum", need(second->add(i, i, limit_)), std::uint64_t{i} + i)) {
                return complaint;
            }
        }
        need(queue.wait(queue.submitted(), limit_));
        return std::nullopt;
    }

  private:
    static Complaint expect_code(const char* what, const Expected<void>& done, int expected) {
        return expect_equal(what, static_cast<std::uint64_t>(done ? 0 : done.failure().code),
                            static_cast<std::uint64_t>(expected));
    }
    [[nodiscard]] Device& device() const { return test_.device(); }

    SelfTest& test_;
    std::chrono::nanoseconds limit_;
};

}  // namespace

void check_queues(SelfTest& test) {
    const auto probe = Queue::open(test.device(), VGPU_QUEUE_ANY, test.settings().timeout);
    if (!probe && probe.failure().code == VGPU_E_NO_QUEUES) {
        test.skip(kGroup, "all checks", probe.failure().message);
        return;
    }
    QueueChecks checks(test);
    checks.check("a queue answers", &QueueChecks::answers);
    checks.check("5000 additions, 64 in flight, come back in order", &QueueChecks::keeps_order);
    checks.check("GET_DEVICE_INFO names the GPU", &QueueChecks::names_the_gpu);
    checks.check("300000 bytes are copied from the heap and back", &QueueChecks::copies_come_back);
    checks.check("1.5 MB of program memory are copied to the device and back",
                 &QueueChecks::copies_programs_memory);
    checks.check("the GPU works in the heap and on buffers", &QueueChecks::computes);
    checks.check("two queues at a time, none opened twice", &QueueChecks::goes_side_by_side);
    checks.check("invalid commands get an error, and the queue continues", &QueueChecks::refuses);
    checks.check("a stopped queue can be reopened", &QueueChecks::stops_and_reopens);
}

}  // namespace vgpu::cli
