// SPDX-License-Identifier: MIT
//
// vgpu-bench-micro: cost of the components of the request path by themselves, without sockets and
// threads. Google Benchmark's options apply (--help, --benchmark_format=json, …).
#include <benchmark/benchmark.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <variant>
#include <vector>

#include "ipc/message.h"
#include "ipc/request.h"
#include "sched/clock.h"
#include "sched/scheduler.h"
#include "vgpu_protocol.h"

namespace {

// Returns the payload of a REQUEST for `a + b`.
std::vector<std::byte> add_payload(std::uint32_t a, std::uint32_t b) {
    vgpu_request request{};
    request.version = VGPU_PROTOCOL_VERSION;
    request.opcode = VGPU_OP_CUDA_KERNEL;
    request.param_count = 2;
    const std::array<std::uint32_t, 2> params{a, b};
    std::vector<std::byte> payload(sizeof request + sizeof params);
    std::memcpy(payload.data(), &request, sizeof request);
    std::memcpy(payload.data() + sizeof request, params.data(), sizeof params);
    return payload;
}

vgpu_msg_header request_header() {
    vgpu_msg_header header{};
    header.magic = VGPU_MSG_MAGIC;
    header.msg_type = VGPU_MSG_REQUEST;
    header.vm_id = 7;
    header.request_id = 1;
    header.pool_id = 'A';
    header.priority = VGPU_PRIORITY_MEDIUM;
    return header;
}

// Feeds additions to the parser in chunks of range(0) bytes; an iteration handles one chunk and all
// messages that it completes.
void BM_parse_messages(benchmark::State& state) {
    const auto chunk_size = static_cast<std::size_t>(state.range(0));
    const auto payload = add_payload(100, 200);
    const std::array<std::span<const std::byte>, 1> pieces{payload};
    std::vector<std::byte> message;
    vgpu::append_message(message, request_header(), pieces);
    // A whole number of messages and of chunks, so that the stream can wrap around.
    std::vector<std::byte> stream;
    for (std::size_t i = 0; i < chunk_size; ++i) {
        stream.insert(stream.end(), message.begin(), message.end());
    }

    vgpu::MessageReader reader;
    std::size_t at = 0;
    std::int64_t messages = 0;
    for ([[maybe_unused]] auto _ : state) {
        auto chunk = std::span<const std::byte>(stream).subspan(at, chunk_size);
        while (!chunk.empty()) {
            chunk = chunk.subspan(reader.feed(chunk));
            for (;;) {
                const auto found = reader.next();
                if (std::holds_alternative<vgpu::Violation>(found)) {
                    state.SkipWithError("the parser rejected a valid message");
                    return;
                }
                if (std::holds_alternative<vgpu::NeedMore>(found)) {
                    break;
                }
                benchmark::DoNotOptimize(std::get<vgpu::MessageView>(found).payload.data());
                ++messages;
            }
        }
        at = (at + chunk_size) % stream.size();
    }
    state.SetItemsProcessed(messages);
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_parse_messages)->Name("parse_messages/chunk")->Arg(60)->Arg(24)->Arg(2048);

void BM_decode_request(benchmark::State& state) {
    const auto payload = add_payload(100, 200);
    for ([[maybe_unused]] auto _ : state) {
        const auto decoded = vgpu::decode_request(payload);
        if (!decoded) {
            state.SkipWithError("a valid request was rejected");
            return;
        }
        benchmark::DoNotOptimize(decoded->param(1));
    }
}
BENCHMARK(BM_decode_request)->Name("decode_request/add");

// Rejection is the path that an attacker can trigger continuously.
void BM_refuse_request(benchmark::State& state) {
    auto payload = add_payload(100, 200);
    const std::uint32_t lie = 0xFFFFFFFF;
    std::memcpy(payload.data() + offsetof(vgpu_request, param_count), &lie, sizeof lie);
    for ([[maybe_unused]] auto _ : state) {
        auto decoded = vgpu::decode_request(payload);
        if (decoded) {
            state.SkipWithError("an invalid request was accepted");
            return;
        }
        benchmark::DoNotOptimize(decoded);
    }
}
BENCHMARK(BM_refuse_request)->Name("decode_request/param_count_lies");

void BM_append_response(benchmark::State& state) {
    const vgpu_msg_header header = request_header();
    const std::array<std::uint32_t, 1> results{300};
    std::vector<std::byte> out;
    for ([[maybe_unused]] auto _ : state) {
        out.clear();
        vgpu::append_response(out, header, 0, results, {}, 3);
        benchmark::DoNotOptimize(out.data());
    }
}
BENCHMARK(BM_append_response)->Name("append_response/add");

// One dequeue, its completion and one enqueue with range(0) requests queued over 1,000 VMs (or as
// many VMs as there are requests), of all priorities and sizes, in one pool.
void BM_scheduler(benchmark::State& state, vgpu::Policy policy) {
    constexpr std::size_t kVms = 1000;
    const auto queued = static_cast<std::size_t>(state.range(0));
    const vgpu::SteadyClock clock;
    vgpu::Scheduler scheduler(1, {.per_pool = queued + 1, .per_vm = queued + 1}, clock);
    scheduler.set_policy(0, {.policy = policy, .aging = std::chrono::hours(1)});
    std::vector<vgpu::Scheduler::FlowIndex> flows;
    for (std::uint32_t vm = 0; vm < kVms; ++vm) {
        flows.push_back(scheduler.open_flow(vm));
    }
    // Arrivals drawn in advance: VM, priority and execution time. The fixed seed makes every run
    // the same.
    struct Arrival {
        vgpu::Scheduler::FlowIndex flow;
        std::size_t priority;
        std::chrono::nanoseconds takes;
    };
    std::mt19937 random(1);  // NOLINT(cert-msc32-c,cert-msc51-cpp)
    std::vector<Arrival> arrivals(std::size_t{1} << 16);
    for (Arrival& arrival : arrivals) {
        arrival = {flows[random() % kVms], random() % vgpu::Scheduler::kPriorities,
                   std::chrono::nanoseconds(1000 + random() % 100'000)};
    }
    std::size_t next = 0;
    vgpu::Scheduler::Token token = 0;
    const auto enqueue = [&] {
        const Arrival& arrival = arrivals[next++ % arrivals.size()];
        return scheduler.enqueue(0, arrival.flow, arrival.priority, token++) ==
               vgpu::Scheduler::Admission::kAccepted;
    };
    for (std::size_t i = 0; i < queued; ++i) {
        if (!enqueue()) {
            state.SkipWithError("the scheduler is full");
            return;
        }
    }
    for ([[maybe_unused]] auto _ : state) {
        auto entry = scheduler.dequeue(0);
        benchmark::DoNotOptimize(entry);
        if (!entry || !enqueue()) {
            state.SkipWithError("the scheduler lost a request");
            return;
        }
        scheduler.finished(entry->vm, arrivals[entry->token % arrivals.size()].takes);
    }
    if (scheduler.depth() != queued) {
        state.SkipWithError("the scheduler miscounted");
    }
}
BENCHMARK_CAPTURE(BM_scheduler, strict, vgpu::Policy::kStrict)->Arg(100)->Arg(100'000);
BENCHMARK_CAPTURE(BM_scheduler, fair, vgpu::Policy::kFair)->Arg(100)->Arg(100'000);

}  // namespace

BENCHMARK_MAIN();
