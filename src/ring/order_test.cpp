// SPDX-License-Identifier: MIT
//
// Both ends of a queue in every interleaving that the memory model allows: nothing is read before
// it is written or overwritten before it is read, and no wake-up is lost. In addition each fence,
// acquire and release that the code relies on is removed in turn, and the model must detect it.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "ring/consumer.h"
#include "ring/producer.h"
#include "ring/testing/model_memory.h"

namespace vgpu::ring {
namespace {

using model::expect;
using model::Explorer;
using model::ModelMemory;
using model::Mutation;
using model::Outcome;
using model::Weakening;
using ModelProducer = BasicProducer<ModelMemory>;
using ModelConsumer = BasicConsumer<ModelMemory>;

constexpr std::size_t kDoorbell = 0;
constexpr std::size_t kInterrupt = 1;
constexpr std::size_t kGpuStart = 2;
constexpr std::size_t kGpuDone = 3;

constexpr std::size_t kRingSize = 128;  // bytes: two records of kParams
constexpr std::array<std::uint32_t, 2> kParams{17, 4};

// Only the addresses matter: the model holds the contents.
struct Memory {
    vgpu_queue_control control;
    alignas(64) std::array<std::uint64_t, kRingSize / 8> ring;
    std::array<std::uint64_t, 4> replies;
};
Memory memory;

const Layout kLayout = *Layout::compute(VGPU_SHM_SIZE_MIN, 1);

QueueView view() {
    return {&memory.control, memory.ring.data(), kRingSize};
}

// Expected violations.
constexpr const char* kNotWoken = "a sleeper is not woken";
constexpr const char* kTooEarly = "contents read before they are written";
constexpr const char* kTooLate = "contents overwritten before they are read";
constexpr const char* kToldWrongly = "an error is told wrongly";
constexpr const char* kNoReset = "does not run after a reset";

// ---- Common steps of all scenarios

void ring_if(bool owed, std::size_t signal) {
    if (owed) {
        model::ring(signal);
    }
}

// Takes turns until the queue runs, so that exploration starts there.
ModelProducer started_producer() {
    model::turn(1);
    ModelProducer producer(view());
    expect(!producer.request_reset(), "a doorbell although the peer is not asleep");
    model::turn(2);
    model::turn(5);
    expect(producer.reset_progress() == Reset::kRunning, kNoReset);
    return producer;
}
ModelConsumer started_consumer() {
    ModelConsumer consumer(view(), kLayout);
    model::turn(0);
    model::turn(3);
    Record record;
    expect(consumer.take(record) == Take::kReset, "a reset is not noticed");
    expect(!consumer.finish_reset(), "an interrupt although the peer is not asleep");
    model::turn(4);
    return consumer;
}

void push(ModelProducer& producer, std::uint64_t cookie, std::uint64_t reply_offset = 0) {
    const vgpu_record command{0, VGPU_OP_NOP, 0, 0, 0, 0, 0, 0, reply_offset, cookie};
    expect(producer.push(command, kParams, {}) == Push::kDone, "no room where there must be some");
}

void wait_for(ModelProducer& producer, std::uint64_t index) {
    while (producer.prepare_sleep(index)) {
        model::sleep(kInterrupt);
        producer.wake();
    }
}

// Takes the next record, and sleeps until it arrives.
Take wait_for_record(ModelConsumer& consumer, Record& record) {
    for (;;) {
        const Take taken = consumer.take(record);
        if (taken != Take::kEmpty) {
            return taken;
        }
        if (consumer.prepare_sleep()) {
            model::sleep(kDoorbell);
        }
        consumer.wake();
    }
}

void check(const Record& record, std::uint64_t cookie) {
    expect(record.header().cookie == cookie && record.params().size() == 2 &&
               record.params()[0] == kParams[0] && record.params()[1] == kParams[1],
           "a record is not what was pushed");
}

// ---- Scenarios

// Two commands with replies, the second submitted while the first may be in flight.
Outcome work(Mutation mutation) {
    constexpr std::uint64_t kCommands = 2;
    const auto produce = [] {
        ModelProducer producer = started_producer();
        for (std::uint64_t i = 1; i <= kCommands; ++i) {
            push(producer, i);
            ring_if(producer.publish(), kDoorbell);
        }
        wait_for(producer, kCommands);
        for (std::uint64_t i = 0; i != kCommands; ++i) {
            expect(ModelMemory::read(memory.replies[i]) == i + 1,
                   "a reply is not what was written");
        }
    };
    const auto consume = [] {
        ModelConsumer consumer = started_consumer();
        Record record;
        for (std::uint64_t i = 1; i <= kCommands; ++i) {
            expect(wait_for_record(consumer, record) == Take::kRecord, "the queue has stopped");
            check(record, i);
            ModelMemory::write(memory.replies[i - 1], i);
            ring_if(consumer.complete(1), kInterrupt);
        }
    };
    return Explorer::run({produce, consume}, mutation);
}

// One command after the other, each waited for: both sides sleep repeatedly.
Outcome ping_pong(Mutation mutation) {
    constexpr std::uint64_t kCommands = 2;
    const auto produce = [] {
        ModelProducer producer = started_producer();
        for (std::uint64_t i = 1; i <= kCommands; ++i) {
            push(producer, i);
            ring_if(producer.publish(), kDoorbell);
            wait_for(producer, i);
            expect(ModelMemory::read(memory.replies[0]) == i, "a reply is not what was written");
        }
    };
    const auto consume = [] {
        ModelConsumer consumer = started_consumer();
        Record record;
        for (std::uint64_t i = 1; i <= kCommands; ++i) {
            expect(wait_for_record(consumer, record) == Take::kRecord, "the queue has stopped");
            check(record, i);
            ModelMemory::write(memory.replies[0], i);
            ring_if(consumer.complete(1), kInterrupt);
        }
    };
    return Explorer::run({produce, consume}, mutation);
}

// Three commands through a ring of two: `head` determines the free space.
Outcome room(Mutation mutation) {
    constexpr std::uint64_t kCommands = 3;
    const auto produce = [] {
        ModelProducer producer = started_producer();
        push(producer, 1);
        push(producer, 2);
        ring_if(producer.publish(), kDoorbell);
        const vgpu_record command{0, VGPU_OP_NOP, 0, 0, 0, 0, 0, 0, 0, 3};
        // Polls `head` only, like a program that has other work to do.
        const Push pushed = producer.push(command, kParams, {});
        expect(pushed == Push::kDone || pushed == Push::kFull, "head makes no sense");
        if (pushed == Push::kFull) {
            wait_for(producer, 1);
            push(producer, 3);
        }
        ring_if(producer.publish(), kDoorbell);
    };
    const auto consume = [] {
        ModelConsumer consumer = started_consumer();
        Record record;
        for (std::uint64_t i = 1; i <= kCommands; ++i) {
            expect(wait_for_record(consumer, record) == Take::kRecord, "the queue has stopped");
            check(record, i);
            ring_if(consumer.complete(1), kInterrupt);
        }
    };
    return Explorer::run({produce, consume}, mutation);
}

// The second of two commands stops the queue; the guest waits for it.
Outcome error(Mutation mutation) {
    const auto produce = [] {
        ModelProducer producer = started_producer();
        push(producer, 1);
        push(producer, 2, /*reply_offset=*/8);
        ring_if(producer.publish(), kDoorbell);
        wait_for(producer, 2);
        expect(producer.poll(2) == Progress::kNever, "a command that stopped the queue is done");
        const QueueStatus status = producer.status();
        expect(status.state == VGPU_QUEUE_STOPPED && status.error == VGPU_QUEUE_ERR_REPLY_PLACE &&
                   status.error_index == 2,
               kToldWrongly);
        wait_for(producer, 1);
        expect(producer.poll(1) == Progress::kReached, "a command before the error is lost");
    };
    const auto consume = [] {
        ModelConsumer consumer = started_consumer();
        Record record;
        expect(wait_for_record(consumer, record) == Take::kRecord, "the queue has stopped early");
        expect(wait_for_record(consumer, record) == Take::kStopped, "a wrong record was taken");
        ring_if(consumer.take_interrupt(), kInterrupt);
        ring_if(consumer.complete(1), kInterrupt);
    };
    return Explorer::run({produce, consume}, mutation);
}

// A reset, and a command after it; both sides sleep when they have nothing to do.
Outcome reset(Mutation mutation) {
    const auto produce = [] {
        ModelProducer producer = started_producer();
        ring_if(producer.request_reset(), kDoorbell);
        while (producer.prepare_sleep_for_reset()) {
            model::sleep(kInterrupt);
            producer.wake();
        }
        expect(producer.reset_progress() == Reset::kRunning, kNoReset);
        push(producer, 1);
        ring_if(producer.publish(), kDoorbell);
    };
    const auto consume = [] {
        ModelConsumer consumer = started_consumer();
        Record record;
        Take taken = wait_for_record(consumer, record);
        expect(taken == Take::kReset, "something else than a reset");
        ring_if(consumer.finish_reset(), kInterrupt);
        taken = wait_for_record(consumer, record);
        expect(taken == Take::kRecord, "something else than a record after a reset");
        check(record, 1);
    };
    return Explorer::run({produce, consume}, mutation);
}

// A reset with a command in flight, which the host may take first or drop.
Outcome late_reset(Mutation mutation) {
    constexpr std::size_t kDone = kGpuStart;  // signals that order
    constexpr std::size_t kGoOn = kGpuDone;
    const auto produce = [] {
        ModelProducer producer = started_producer();
        push(producer, 1);
        ring_if(producer.publish(), kDoorbell);
        ring_if(producer.request_reset(), kDoorbell);
        model::ring(kGoOn, /*ordered=*/true);
        model::sleep(kDone);
        expect(producer.reset_progress() == Reset::kRunning, kNoReset);
        push(producer, 2);
        ring_if(producer.publish(), kDoorbell);
        model::ring(kGoOn, /*ordered=*/true);
    };
    const auto consume = [] {
        ModelConsumer consumer = started_consumer();
        Record record;
        Take taken = consumer.take(record);
        if (taken == Take::kRecord) {
            check(record, 1);
            ring_if(consumer.complete(1), kInterrupt);
        }
        if (taken != Take::kReset) {
            model::sleep(kGoOn);
            taken = consumer.take(record);
            expect(taken == Take::kReset, "a reset is not noticed");
        }
        ring_if(consumer.finish_reset(), kInterrupt);
        model::ring(kDone, /*ordered=*/true);
        do {
            model::sleep(kGoOn);
            taken = consumer.take(record);
        } while (taken == Take::kEmpty);
        expect(taken == Take::kRecord, "something else than a record after a reset");
        check(record, 2);
    };
    return Explorer::run({produce, consume}, mutation);
}

// The GPU writes the reply and the timeline, and only then notifies the host.
Outcome gpu(Mutation mutation) {
    const auto produce = [] {
        ModelProducer producer = started_producer();
        push(producer, 1);
        ring_if(producer.publish(), kDoorbell);
        wait_for(producer, 1);
        expect(ModelMemory::read(memory.replies[0]) == 1, "a reply is not what was written");
    };
    const auto consume = [] {
        ModelConsumer consumer = started_consumer();
        Record record;
        expect(wait_for_record(consumer, record) == Take::kRecord, "the queue has stopped");
        model::ring(kGpuStart, /*ordered=*/true);
        model::sleep(kGpuDone);
        ring_if(consumer.note_completed(1), kInterrupt);
    };
    const auto compute = [] {
        model::sleep(kGpuStart);
        ModelMemory::write(memory.replies[0], 1);
        ModelMemory::store_release(memory.control.completed, std::uint64_t{1});
        model::ring(kGpuDone, /*ordered=*/true);
    };
    return Explorer::run({produce, consume, compute}, mutation);
}

// ---- Expected results

struct Scenario {
    const char* name;
    Outcome (*run)(Mutation);
};
constexpr Scenario kWork{"Work", work};
constexpr Scenario kPingPong{"PingPong", ping_pong};
constexpr Scenario kRoom{"Room", room};
constexpr Scenario kError{"Error", error};
constexpr Scenario kReset{"Reset", reset};
constexpr Scenario kLateReset{"LateReset", late_reset};
constexpr Scenario kGpu{"Gpu", gpu};

class OrderTest : public testing::TestWithParam<Scenario> {};

TEST_P(OrderTest, HoldsInEveryInterleaving) {
    const Outcome outcome = GetParam().run({});
    EXPECT_EQ(outcome.violation, "");
    EXPECT_TRUE(outcome.complete);
    EXPECT_GT(outcome.ends, 1U) << "hardly an interleaving was explored";
    RecordProperty("states", std::to_string(outcome.states));
    RecordProperty("ends", std::to_string(outcome.ends));
}
INSTANTIATE_TEST_SUITE_P(All, OrderTest,
                         testing::Values(kWork, kPingPong, kRoom, kError, kReset, kLateReset, kGpu),
                         [](const auto& tested) { return std::string(tested.param.name); });

struct Weakened {
    const char* name;
    Scenario scenario;
    Mutation mutation;
    const char* violation;
};

class WeakenedOrderTest : public testing::TestWithParam<Weakened> {};

TEST_P(WeakenedOrderTest, IsMissed) {
    const Weakened& weakened = GetParam();
    EXPECT_EQ(weakened.scenario.run(weakened.mutation).violation, weakened.violation);
}

const std::array kWeakened{
    // Sleeping: each fence.
    Weakened{"PublishFence", kWork, {Weakening::kNoFenceAfter, &memory.control.tail}, kNotWoken},
    Weakened{"HostSleepFence",
             kWork,
             {Weakening::kNoFenceAfter, &memory.control.doorbell_wanted},
             kNotWoken},
    Weakened{
        "CompleteFence", kWork, {Weakening::kNoFenceAfter, &memory.control.completed}, kNotWoken},
    Weakened{
        "GuestSleepFence", kWork, {Weakening::kNoFenceAfter, &memory.control.wake_at}, kNotWoken},
    Weakened{"NoteCompletedFence",
             kGpu,
             {Weakening::kNoFenceAfter, &memory.control.completed},
             kNotWoken},
    Weakened{"StopFence", kError, {Weakening::kNoFenceAfter, &memory.control.state}, kNotWoken},
    Weakened{"ResetRequestFence",
             kReset,
             {Weakening::kNoFenceAfter, &memory.control.reset_request},
             kNotWoken},
    Weakened{
        "ResetAckFence", kReset, {Weakening::kNoFenceAfter, &memory.control.reset_ack}, kNotWoken},
    // Message passing: each pair, either side. (The fences before and after reset_request order the
    // same as its release and acquire, unless request_reset() changes the tail.)
    Weakened{"TailRelease", kWork, {Weakening::kRelaxedStore, &memory.control.tail}, kTooEarly},
    Weakened{"TailAcquire", kWork, {Weakening::kRelaxedLoad, &memory.control.tail}, kTooEarly},
    Weakened{"HeadRelease", kRoom, {Weakening::kRelaxedStore, &memory.control.head}, kTooLate},
    Weakened{"HeadAcquire", kRoom, {Weakening::kRelaxedLoad, &memory.control.head}, kTooLate},
    Weakened{"CompletedRelease",
             kWork,
             {Weakening::kRelaxedStore, &memory.control.completed},
             kTooEarly},
    Weakened{
        "CompletedAcquire", kWork, {Weakening::kRelaxedLoad, &memory.control.completed}, kTooEarly},
    Weakened{"TailAgainRelease",
             kLateReset,
             {Weakening::kRelaxedStore, &memory.control.tail},
             kTooEarly},
    Weakened{
        "ResetAckRelease", kReset, {Weakening::kRelaxedStore, &memory.control.reset_ack}, kNoReset},
    Weakened{
        "ResetAckAcquire", kReset, {Weakening::kRelaxedLoad, &memory.control.reset_ack}, kNoReset},
    Weakened{
        "StateRelease", kError, {Weakening::kRelaxedStore, &memory.control.state}, kToldWrongly},
    Weakened{
        "StateAcquire", kError, {Weakening::kRelaxedLoad, &memory.control.state}, kToldWrongly},
};
INSTANTIATE_TEST_SUITE_P(All, WeakenedOrderTest, testing::ValuesIn(kWeakened),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace vgpu::ring
