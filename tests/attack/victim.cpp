// SPDX-License-Identifier: MIT
#include "victim.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <exception>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "client/include/vgpu.h"
#include "load_device.h"
#include "queue_device.h"
#include "statistics.h"
#include "support/unix_socket.h"

namespace vgpu::attack {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::uint32_t kRequestsVm = 1;
constexpr std::uint32_t kQueuesVm = 2;
constexpr milliseconds kPause{1};
// Time limit for the last response of a period.
constexpr milliseconds kGrace{200};
constexpr milliseconds kWarmUp{200};
constexpr milliseconds kConnectLimit{10'000};
// Time limit for the victim's report after the period.
constexpr milliseconds kReportLimit{5'000};

// Runs one addition; returns nullopt on time-out. Throws if the device fails.
std::optional<std::uint32_t> add(bench::LoadDevice& device, std::uint32_t a, std::uint32_t b,
                                 Clock::time_point limit) {
    device.send(VGPU_OP_CUDA_KERNEL, std::array{a, b});
    std::optional<std::uint32_t> sum;
    // Late responses from an earlier period arrive first.
    while (device.under_way() != 0) {
        if (!test::wait_readable(device.fd(), limit)) {
            return std::nullopt;
        }
        for (const auto& answer : device.receive()) {
            sum = answer.first_result;
        }
    }
    return sum;
}

std::optional<std::uint32_t> add(bench::QueueDevice& device, std::uint32_t a, std::uint32_t b,
                                 Clock::time_point limit) {
    const auto left = std::chrono::ceil<milliseconds>(limit - Clock::now()).count();
    std::uint32_t sum = 0;
    const int code =
        vgpu_queue_add(device.queue(), a, b, static_cast<std::uint32_t>(std::max<long>(left, 0)),
                       &sum, device.why());
    if (code == VGPU_E_WAIT_TIMEOUT) {
        return std::nullopt;
    }
    device.check(code);
    return sum;
}

template <typename Device>
PathPeriod measure_path(Device& device, Clock::time_point end) {
    PathPeriod period;
    std::vector<std::int64_t> durations;
    for (std::uint32_t n = 1;; ++n) {
        const auto begin = Clock::now();
        if (begin >= end) {
            break;
        }
        const std::uint32_t a = n * 2'654'435'761U;
        std::optional<std::uint32_t> sum;
        try {
            sum = add(device, a, n, end + kGrace);
        } catch (const std::exception& error) {
            // The VM is no longer served: counts as a stall until the end of the period.
            period.failure = error.what();
            durations.push_back(
                std::chrono::nanoseconds(std::max(Clock::now(), end) - begin).count());
            break;
        }
        durations.push_back(std::chrono::nanoseconds(Clock::now() - begin).count());
        if (!sum) {
            ++period.unanswered;
            break;
        }
        ++(*sum == a + n ? period.served : period.wrong);
        std::this_thread::sleep_for(kPause);
    }
    if (!durations.empty()) {
        period.longest = static_cast<double>(*std::max_element(durations.begin(), durations.end()));
    }
    const bench::Summary summary = bench::summarize(std::move(durations));
    period.p50 = summary.p50;
    period.p99 = summary.p99;
    return period;
}

Period measure_both(bench::LoadDevice& requests, bench::QueueDevice& queues, milliseconds length) {
    Period period;
    const auto end = Clock::now() + length;
    std::thread other([&] { period.queues = measure_path(queues, end); });
    period.requests = measure_path(requests, end);
    other.join();
    return period;
}

// Encoding of a period on the channel.
struct Wire {
    struct Path {
        std::uint64_t served, wrong, unanswered;
        double p50, p99, longest;
        char failure[256];
    };
    char kind;
    Path requests, queues;
};

Wire::Path encode(const PathPeriod& path) {
    Wire::Path wire{.served = path.served,
                    .wrong = path.wrong,
                    .unanswered = path.unanswered,
                    .p50 = path.p50,
                    .p99 = path.p99,
                    .longest = path.longest,
                    .failure = {}};
    std::memcpy(wire.failure, path.failure.data(),
                std::min(path.failure.size(), sizeof wire.failure - 1));
    return wire;
}

PathPeriod decode(const Wire::Path& wire) {
    return {.served = wire.served,
            .wrong = wire.wrong,
            .unanswered = wire.unanswered,
            .p50 = wire.p50,
            .p99 = wire.p99,
            .longest = wire.longest,
            .failure = wire.failure};
}

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
    return std::as_bytes(std::span(&value, 1));
}

void live(const Channel& channel) {
    const Place place = decode_place(channel.receive().value());
    bench::LoadDevice requests(place.socket, kRequestsVm, VGPU_PRIORITY_MEDIUM);
    bench::QueueDevice queues(place.socket, kQueuesVm, bench::QueueDevice::Wait::kDefault);
    measure_both(requests, queues, kWarmUp);
    channel.send(bytes_of('r'));
    for (;;) {
        const auto order = channel.receive().value();
        std::int64_t length = 0;
        if (order.size() != sizeof length) {
            return;
        }
        std::memcpy(&length, order.data(), sizeof length);
        const Period period = measure_both(requests, queues, milliseconds(length));
        const Wire wire{
            .kind = 'p', .requests = encode(period.requests), .queues = encode(period.queues)};
        channel.send(bytes_of(wire));
    }
}

}  // namespace

Victim::Victim() : child_(live) {}

void Victim::connect(const Place& place) {
    child_.channel().send(attack::encode(place));
    static_cast<void>(child_.expect("the victim connects", kConnectLimit));
}

Period Victim::measure(milliseconds length) {
    const std::int64_t order = length.count();
    child_.channel().send(bytes_of(order));
    const auto message = child_.expect("the victim measures", length + kReportLimit);
    Wire wire{};
    std::memcpy(&wire, message.data(), std::min(message.size(), sizeof wire));
    return {.requests = decode(wire.requests), .queues = decode(wire.queues)};
}

}  // namespace vgpu::attack
