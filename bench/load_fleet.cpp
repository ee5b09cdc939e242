// SPDX-License-Identifier: MIT
#include "load_fleet.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace vgpu::bench {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;

constexpr auto kSilence = std::chrono::seconds(10);  // an error if no response arrives for so long

}  // namespace

Poller::Poller() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    if (!epoll_) {
        throw std::system_error(errno, std::generic_category(), "epoll_create1");
    }
}

void Poller::add(const LoadDevice& device, std::size_t index) {
    epoll_event event{.events = EPOLLIN, .data = {.u64 = index}};
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, device.fd(), &event) != 0) {
        throw std::system_error(errno, std::generic_category(), "epoll_ctl");
    }
}

std::span<const std::size_t> Poller::wait(std::optional<Clock::time_point> deadline) {
    const auto now = Clock::now();
    const auto limit = std::min(deadline.value_or(now + kSilence), now + kSilence);
    const auto left = std::max<nanoseconds>(limit - now, nanoseconds(0));
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    const timespec time{.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
    std::array<epoll_event, 64> events{};
    const int count = ::epoll_pwait2(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                     &time, nullptr);
    if (count < 0 && errno != EINTR) {
        throw std::system_error(errno, std::generic_category(), "epoll_pwait2");
    }
    if (count == 0 && (!deadline || *deadline > limit)) {
        throw std::runtime_error("no response from the mediator for 10 s");
    }
    ready_.clear();
    for (int i = 0; i < count; ++i) {
        ready_.push_back(static_cast<std::size_t>(events.at(static_cast<std::size_t>(i)).data.u64));
    }
    return ready_;
}

double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

Figure at_most(std::string name, double value, std::string unit, double target) {
    return {std::move(name), value, std::move(unit), Figure::Bound::kAtMost, target};
}

}  // namespace vgpu::bench
