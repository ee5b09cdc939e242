// SPDX-License-Identifier: MIT
//
// Measurements of vgpu-bench-roundtrip: round trips through the mediator, interleaved with round
// trips over raw sockets in the same run, so that disturbances of the machine affect both.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "native_add.h"
#include "placement.h"
#include "statistics.h"

namespace vgpu::bench {

struct Plan {
    std::string socket_path;  // where the mediator listens
    pid_t mediator_pid = 0;
    std::size_t rounds = 20;        // 1 or more
    std::size_t iterations = 2000;  // round trips per round and operation, 1 or more
    std::size_t connections = 32;   // for the throughput, 1 or more
    std::size_t requests = 20000;   // per round of the throughput, 1 or more
    std::size_t throughput_rounds = 5;
    NativeAdd* native = nullptr;  // with a GPU backend: the same work without a mediator
};

// The same work without a mediator.
struct Native {
    Summary times;              // medians over the rounds
    double ratio_with_raw = 0;  // median over the rounds of mediator p50 / (native p50 + raw p50)
};

// One operation over the mediator's socket, and the raw round trip of the same size.
struct Latency {
    Placement placement = Placement::kAny;
    std::string operation;
    std::size_t request_size = 0;  // bytes, message header included
    std::size_t reply_size = 0;
    Summary mediator;      // medians over the rounds
    Summary raw;           // the same
    double ratio_p50 = 0;  // median over the rounds of mediator p50 / raw p50
    double ratio_p99 = 0;
    std::optional<Native> native;
    double exec_time_us = 0;  // mean over the responses; whole microseconds, rounded up
};

// NOP from many connections at once, each with one request in flight.
struct Throughput {
    std::size_t connections = 0;
    double mediator_per_second = 0;  // median over the rounds
    double raw_per_second = 0;       // one process that serves all of them with epoll
};

// Both throw std::runtime_error or std::system_error, with an error message, if the mediator
// disconnects or sends a wrong response.
// Precondition: Placed::possible(placement).
std::vector<Latency> measure_latency(const Plan& plan, Placement placement);
Throughput measure_throughput(const Plan& plan);

}  // namespace vgpu::bench
