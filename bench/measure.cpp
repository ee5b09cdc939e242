// SPDX-License-Identifier: MIT
#include "measure.h"

#include <fmt/core.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <deque>
#include <functional>
#include <span>
#include <stdexcept>
#include <system_error>

#include "base/fd.h"
#include "raw_echo.h"
#include "socket_device.h"
#include "socket_io.h"

namespace vgpu::bench {

namespace {

using Clock = std::chrono::steady_clock;

// Each connection has its own VM id: the mediator may notice a disconnect only after the next
// connection has started.
constexpr std::uint32_t kFirstLatencyVm = 1;
constexpr std::uint32_t kFirstThroughputVm = 1000;

std::int64_t nanoseconds(Clock::duration duration) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
}

// Appends the durations of `iterations` calls of `operation`.
template <typename Operation>
void time_each(std::size_t iterations, Operation operation, std::vector<std::int64_t>& durations) {
    for (std::size_t i = 0; i < iterations; ++i) {
        const auto begin = Clock::now();
        operation();
        durations.push_back(nanoseconds(Clock::now() - begin));
    }
}

// Adds pairs of changing numbers; a wrong response ends the measurement.
class Adder {
  public:
    explicit Adder(SocketDevice& device) : device_(device) {}

    void operator()() {
        a_ += 7;
        b_ += 0x01000193;  // wraps around every few hundred additions
        device_.send_add(a_, b_);
        const std::uint32_t sum = device_.receive_add();
        if (sum != a_ + b_) {
            throw std::runtime_error(
                fmt::format("wrong sum from the mediator: {} + {} = {} (mod 2^32)", a_, b_, sum));
        }
        exec_time_us_ += device_.last_exec_time_us();
        ++count_;
    }

    [[nodiscard]] double mean_exec_time_us() const {
        return count_ == 0 ? 0 : static_cast<double>(exec_time_us_) / static_cast<double>(count_);
    }

  private:
    SocketDevice& device_;
    std::uint32_t a_ = 0;
    std::uint32_t b_ = 0;
    std::uint64_t exec_time_us_ = 0;
    std::uint64_t count_ = 0;
};

// Runs rounds of one operation interleaved with its baseline, in turns of a few milliseconds each.
// `native` does the same work without a mediator; null if there is none.
template <typename Operation>
Latency measure_operation(const Plan& plan, Placement placement, std::string name,
                          std::size_t request_size, std::size_t reply_size, Operation& operation,
                          const std::function<void()>& native = nullptr) {
    constexpr std::size_t kTurn = 100;  // round trips
    RawEcho raw(request_size, reply_size);
    const Placed placed(placement, {plan.mediator_pid, raw.pid()});
    const auto raw_round_trip = [&] { raw.round_trip(); };

    std::vector<std::int64_t> times;
    std::vector<std::int64_t> raw_times;
    std::vector<std::int64_t> native_times;
    const auto run_round = [&](std::size_t iterations) {
        times.clear();
        raw_times.clear();
        native_times.clear();
        while (times.size() < iterations) {
            const std::size_t turn = std::min(kTurn, iterations - times.size());
            time_each(turn, raw_round_trip, raw_times);
            time_each(turn, std::ref(operation), times);
            if (native) {
                time_each(turn, std::cref(native), native_times);
            }
        }
    };
    run_round(plan.iterations / 10 + 10);  // to warm up

    std::vector<Summary> mediator_rounds;
    std::vector<Summary> raw_rounds;
    std::vector<double> ratios_p50;
    std::vector<double> ratios_p99;
    std::vector<Summary> native_rounds;
    std::vector<double> native_ratios;
    for (std::size_t round = 0; round < plan.rounds; ++round) {
        run_round(plan.iterations);
        mediator_rounds.push_back(summarize(times));
        raw_rounds.push_back(summarize(raw_times));
        ratios_p50.push_back(mediator_rounds.back().p50 / raw_rounds.back().p50);
        ratios_p99.push_back(mediator_rounds.back().p99 / raw_rounds.back().p99);
        if (native) {
            native_rounds.push_back(summarize(native_times));
            native_ratios.push_back(mediator_rounds.back().p50 /
                                    (native_rounds.back().p50 + raw_rounds.back().p50));
        }
    }
    Latency latency{
        .placement = placement,
        .operation = std::move(name),
        .request_size = request_size,
        .reply_size = reply_size,
        .mediator = median_of(mediator_rounds),
        .raw = median_of(raw_rounds),
        .ratio_p50 = median(std::move(ratios_p50)),
        .ratio_p99 = median(std::move(ratios_p99)),
        .native = std::nullopt,
    };
    if (native) {
        latency.native = Native{.times = median_of(native_rounds),
                                .ratio_with_raw = median(std::move(native_ratios))};
    }
    return latency;
}

// Keeps one request in flight on each of `fds` until `requests` have been answered. Returns the
// seconds taken. Calls `send` and `receive` with an index into fds.
template <typename Send, typename Receive>
double drive(std::span<const int> fds, std::size_t requests, Send send, Receive receive) {
    const Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
    for (std::size_t i = 0; i < fds.size(); ++i) {
        epoll_event event{.events = EPOLLIN, .data = {.u64 = i}};
        if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fds[i], &event) != 0) {
            throw std::system_error(errno, std::generic_category(), "epoll_ctl");
        }
    }
    std::size_t sent = 0;
    std::size_t answered = 0;
    const auto begin = Clock::now();
    for (; sent < fds.size() && sent < requests; ++sent) {
        send(sent);
    }
    while (answered < requests) {
        std::array<epoll_event, 64> events{};
        const int count =
            ::epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), 10'000);
        if (count == 0) {
            throw std::runtime_error(fmt::format("no response for 10 s: {} of {} requests answered",
                                                 answered, requests));
        }
        for (int i = 0; i < count; ++i) {
            const auto index =
                static_cast<std::size_t>(events[static_cast<std::size_t>(i)].data.u64);
            receive(index);
            ++answered;
            if (sent < requests) {
                send(index);
                ++sent;
            }
        }
    }
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

std::vector<Latency> measure_latency(const Plan& plan, Placement placement) {
    const std::uint32_t vm_id = kFirstLatencyVm + static_cast<std::uint32_t>(placement);
    SocketDevice device(plan.socket_path, vm_id);
    const auto nop = [&] {
        device.send_nop();
        device.receive_nop();
    };
    Adder add(device);
    std::function<void()> native;
    std::uint32_t number = 0;
    if (plan.native != nullptr) {
        native = [&] {
            number += 7;
            if (plan.native->add(number, 1) != number + 1) {
                throw std::runtime_error("the GPU returned a wrong sum");
            }
        };
    }
    std::vector<Latency> results;
    results.push_back(measure_operation(plan, placement, "nop", SocketDevice::kNopRequestSize,
                                        SocketDevice::kNopReplySize, nop));
    results.push_back(measure_operation(plan, placement, "add", SocketDevice::kAddRequestSize,
                                        SocketDevice::kAddReplySize, add, native));
    results.back().exec_time_us = add.mean_exec_time_us();
    return results;
}

Throughput measure_throughput(const Plan& plan) {
    constexpr std::size_t kRequest = SocketDevice::kNopRequestSize;
    constexpr std::size_t kReply = SocketDevice::kNopReplySize;
    RawEcho raw(kRequest, kReply, plan.connections);
    std::deque<SocketDevice> devices;
    std::vector<int> device_fds;
    std::vector<int> raw_fds;
    for (std::size_t i = 0; i < plan.connections; ++i) {
        devices.emplace_back(plan.socket_path, kFirstThroughputVm + static_cast<std::uint32_t>(i));
        device_fds.push_back(devices.back().fd());
        raw_fds.push_back(raw.fd(i));
    }

    std::array<std::byte, kRequest> request{};
    std::array<std::byte, kReply> reply{};
    const auto check = [](bool done) {
        if (!done) {
            throw std::system_error(errno, std::generic_category(), "raw throughput");
        }
    };
    const auto raw_send = [&](std::size_t i) { check(send_all(raw_fds[i], request)); };
    const auto raw_receive = [&](std::size_t i) { check(receive_exactly(raw_fds[i], reply)); };
    const auto send = [&](std::size_t i) { devices[i].send_nop(); };
    const auto receive = [&](std::size_t i) { devices[i].receive_nop(); };

    const std::size_t warm_up = plan.connections * 10;
    drive(raw_fds, warm_up, raw_send, raw_receive);
    drive(device_fds, warm_up, send, receive);
    const auto requests = static_cast<double>(plan.requests);
    std::vector<double> raw_rates;
    std::vector<double> rates;
    for (std::size_t round = 0; round < plan.throughput_rounds; ++round) {
        raw_rates.push_back(requests / drive(raw_fds, plan.requests, raw_send, raw_receive));
        rates.push_back(requests / drive(device_fds, plan.requests, send, receive));
    }
    return Throughput{.connections = plan.connections,
                      .mediator_per_second = median(std::move(rates)),
                      .raw_per_second = median(std::move(raw_rates))};
}

}  // namespace vgpu::bench
