// SPDX-License-Identifier: MIT
//
// Each end in its own thread: records of random sizes arrive complete and in order, replies are
// readable when the timeline reaches them, and no wake-up is lost.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "ring/reply.h"
#include "ring/testing/test_memory.h"

namespace vgpu::ring {
namespace {

// A doorbell or an interrupt.
class Event {
  public:
    Event() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
    ~Event() { close(fd_); }

    void ring() const { eventfd_write(fd_, 1); }
    // Returns false on a time-out, long enough to mean a lost wake-up.
    [[nodiscard]] bool sleep() const {
        pollfd waiting{fd_, POLLIN, 0};
        eventfd_t count = 0;
        return poll(&waiting, 1, 10'000) == 1 && eventfd_read(fd_, &count) == 0;
    }

  private:
    int fd_;
};

struct Figures {
    std::uint64_t host_sleeps = 0;
    std::uint64_t guest_sleeps = 0;
    double seconds = 0;
};

// Contents of record `index`: at most `largest` bytes of params and inline data.
struct Contents {
    Contents(std::uint64_t index, std::uint32_t largest) {
        if (largest == 0) {
            return;
        }
        std::minstd_rand random(static_cast<std::uint32_t>(index + 1));
        params.resize(random() % (largest / 8));
        data.resize(random() % (largest / 2));
        std::ranges::generate(params, std::ref(random));
        std::ranges::generate(data, [&] { return static_cast<std::byte>(random()); });
    }
    std::vector<std::uint32_t> params;
    std::vector<std::byte> data;
};

class ThreadsTest : public testing::Test {
  protected:
    static constexpr std::uint64_t kReplyPlaces = 1024;
    static constexpr std::uint32_t kReplySize = 64;  // bytes

    [[nodiscard]] std::uint64_t reply_place(std::uint64_t index) const {
        return memory.layout().heap_offset + (index % kReplyPlaces) * kReplySize;
    }

    // The host: takes `count` records and replies to each with its number. Polls `spins` times,
    // then sleeps. Returns an error text, or "".
    std::string serve(std::uint64_t count, std::uint32_t largest, int spins, Figures& figures) {
        Record record;
        int idle = 0;
        std::uint64_t index = 0;
        while (index != count) {
            const Take took = queue.consumer.take(record);
            if (took == Take::kEmpty) {
                if (++idle > spins) {
                    idle = 0;
                    if (queue.consumer.prepare_sleep()) {
                        ++figures.host_sleeps;
                        if (!doorbell.sleep()) {
                            return "the host was not woken";
                        }
                    }
                    queue.consumer.wake();
                }
                continue;
            }
            idle = 0;
            if (took != Take::kRecord) {
                return "stopped with error " + std::to_string(queue.consumer.error());
            }
            ++index;
            const Contents expected(index, largest);
            if (record.header().cookie != index ||
                !std::ranges::equal(record.params(), expected.params) ||
                !std::ranges::equal(record.inline_data(), expected.data)) {
                return "record " + std::to_string(index) + " is not what was pushed";
            }
            const std::array<std::uint32_t, 1> results{static_cast<std::uint32_t>(index)};
            if (!write_reply(memory.base(), record.header(), 0, 0, results, {})) {
                return "a reply does not fit";
            }
            if (queue.consumer.complete(1)) {
                interrupt.ring();
            }
        }
        return {};
    }

    // The guest waits until `index` is complete.
    std::string wait_for(std::uint64_t index, int spins, Figures& figures) {
        for (int idle = 0; queue.producer.poll(index) != Progress::kReached; ++idle) {
            if (idle < spins) {
                continue;
            }
            idle = 0;
            if (queue.producer.prepare_sleep(index)) {
                ++figures.guest_sleeps;
                if (!interrupt.sleep()) {
                    return "the guest was not woken";
                }
            }
            queue.producer.wake();
            if (queue.producer.poll(index) == Progress::kNever) {
                return "the queue has stopped";
            }
        }
        return {};
    }

    // The guest: submits `count` records in bursts of up to `burst` and checks the replies.
    std::string submit(std::uint64_t count, std::uint32_t largest, std::uint32_t burst, int spins,
                       Figures& figures) {
        std::minstd_rand random(5);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same each time
        std::uint64_t checked = 0;
        for (std::uint64_t index = 1; index <= count;) {
            auto left = 1 + random() % burst;
            bool full = false;
            for (; left != 0 && index <= count && !full; --left) {
                const Contents contents(index, largest);
                vgpu_record command = nop(index);
                command.reply_offset = reply_place(index);
                command.reply_capacity = kReplySize;
                full = index - checked >= kReplyPlaces ||
                       queue.producer.push(command, contents.params, contents.data) == Push::kFull;
                index += full ? 0 : 1;
            }
            if (queue.producer.publish()) {
                doorbell.ring();
            }
            if (!full && index <= count && random() % 4 != 0) {
                continue;
            }
            // Wait for the last command if there is no room, else for a random one.
            const std::uint64_t last = queue.producer.submitted();
            const std::uint64_t until = full ? last : checked + random() % (last - checked + 1);
            if (std::string wrong = wait_for(until, spins, figures); !wrong.empty()) {
                return wrong;
            }
            for (; checked != until; ++checked) {
                const auto reply =
                    read_reply({memory.base() + reply_place(checked + 1), kReplySize});
                if (!reply || reply->header.cookie != checked + 1 ||
                    reply->header.result_count != 1 ||
                    reply->result(0) != static_cast<std::uint32_t>(checked + 1)) {
                    return "reply " + std::to_string(checked + 1) + " is not what was written";
                }
            }
        }
        return wait_for(count, spins, figures);
    }

    Figures run(std::uint64_t count, std::uint32_t largest, std::uint32_t burst, int spins) {
        Figures figures;
        std::string host;
        const auto begin = std::chrono::steady_clock::now();
        std::thread server([&] { host = serve(count, largest, spins, figures); });
        const std::string guest = submit(count, largest, burst, spins, figures);
        server.join();
        const auto end = std::chrono::steady_clock::now();
        EXPECT_EQ(host, "");
        EXPECT_EQ(guest, "");
        figures.seconds = std::chrono::duration<double>(end - begin).count();
        RecordProperty("records_per_second", std::to_string(static_cast<std::uint64_t>(
                                                 static_cast<double>(count) / figures.seconds)));
        RecordProperty("host_sleeps", std::to_string(figures.host_sleeps));
        RecordProperty("guest_sleeps", std::to_string(figures.guest_sleeps));
        return figures;
    }

    TestMemory memory;
    RunningQueue<> queue{memory};
    Event doorbell;
    Event interrupt;
};

TEST_F(ThreadsTest, RandomRecordsArriveWholeAndInOrder) {
    run(30'000, 4000, 32, 1000);
}

TEST_F(ThreadsTest, WhoeverSleepsIsWoken) {
    // No spinning: a sleep for each record that has not arrived, or not completed, yet.
    const Figures figures = run(50'000, 16, 2, 0);
    EXPECT_GT(figures.host_sleeps, 0U);
    EXPECT_GT(figures.guest_sleeps, 0U);
}

TEST_F(ThreadsTest, SmallRecordsInBatches) {
    run(500'000, 0, 64, 1000);
}

}  // namespace
}  // namespace vgpu::ring
