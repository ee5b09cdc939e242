// SPDX-License-Identifier: MIT
#include "floors.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "base/relax.h"

namespace vgpu::bench {

namespace {

// Distance of data written by different processes: two cache lines, as processors fetch pairs.
constexpr std::size_t kApart = 128;
constexpr std::uint32_t kPollsPerCheck = 1U << 20U;

struct PingPongWords {
    alignas(kApart) std::atomic<std::uint64_t> ping;
    alignas(kApart) std::atomic<std::uint64_t> pong;
};

// Slots of a ring: a power of two, at least the largest window. The consumer copies a record out
// and checks its number, which is the first word.
constexpr std::size_t kSlots = 1024;
using RingRecord = std::array<std::uint64_t, RawRing::kRecordSize / sizeof(std::uint64_t)>;
struct RingMemory {
    alignas(kApart) std::atomic<std::uint64_t> produced;
    alignas(kApart) std::atomic<std::uint64_t> completed;
    alignas(kApart) std::array<RingRecord, kSlots> slots;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "used across processes");

// Polls until seen() returns true; throws if the other process has exited meanwhile.
template <typename Seen>
void spin_until(const Child& child, Seen seen) {
    for (std::uint32_t polls = 1; !seen(); ++polls) {
        relax_processor();
        if (polls % kPollsPerCheck == 0 && child.gone()) {
            throw std::runtime_error(
                "the peer of a floor measurement exited: it received a wrong record");
        }
    }
}

[[noreturn]] void answer_pings(PingPongWords& words) {
    for (std::uint64_t count = 1;; ++count) {
        while (words.ping.load(std::memory_order_acquire) != count) {
            relax_processor();
        }
        words.pong.store(count, std::memory_order_release);
    }
}

void answer_eventfds(int ping, int pong) {
    std::uint64_t value = 0;
    while (::read(ping, &value, sizeof value) == sizeof value) {
        value = 1;
        if (::write(pong, &value, sizeof value) != sizeof value) {
            return;
        }
    }
}

// Returns on an unexpected record. A batch is what one poll finds, at most a quarter of the window,
// so that the producer can refill while the rest is consumed.
void consume(RingMemory& ring, std::uint64_t window) {
    const std::uint64_t batch = std::max<std::uint64_t>(1, window / 4);
    std::uint64_t completed = 0;
    for (;;) {
        const std::uint64_t produced = ring.produced.load(std::memory_order_acquire);
        if (produced == completed) {
            relax_processor();
            continue;
        }
        const std::uint64_t end = std::min(produced, completed + batch);
        while (completed != end) {
            const RingRecord record = ring.slots[completed % kSlots];
            if (record[0] != completed || record[7] != ~completed) {
                return;
            }
            ++completed;
        }
        ring.completed.store(completed, std::memory_order_release);
    }
}

Fd make_eventfd() {
    Fd fd(::eventfd(0, EFD_CLOEXEC));
    if (!fd) {
        throw std::system_error(errno, std::generic_category(), "eventfd");
    }
    return fd;
}

}  // namespace

SharedPages::SharedPages(std::size_t size)
    : data_(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)),
      size_(size) {
    if (data_ == MAP_FAILED) {
        throw std::system_error(errno, std::generic_category(), "mmap");
    }
}

SharedPages::~SharedPages() {
    ::munmap(data_, size_);
}

pid_t Child::fork_off() {
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) {
        throw std::system_error(errno, std::generic_category(), "fork");
    }
    if (pid == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) {
            ::_exit(1);
        }
    }
    return pid;
}

void Child::end_here() {
    ::_exit(1);
}

Child::~Child() {
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
}

bool Child::gone() const {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
           info.si_pid != 0;
}

void Child::pause() const {
    siginfo_t info{};
    if (::kill(pid_, SIGSTOP) != 0 ||
        ::waitid(P_PID, static_cast<id_t>(pid_), &info, WSTOPPED | WEXITED | WNOWAIT) != 0) {
        throw std::system_error(errno, std::generic_category(), "pausing a process");
    }
}

void Child::resume() const {
    if (::kill(pid_, SIGCONT) != 0) {
        throw std::system_error(errno, std::generic_category(), "resuming a process");
    }
}

SpinPingPong::SpinPingPong()
    : pages_(sizeof(PingPongWords)),
      child_([this] { answer_pings(*static_cast<PingPongWords*>(pages_.data())); }) {}

void SpinPingPong::round_trip() {
    auto& words = *static_cast<PingPongWords*>(pages_.data());
    words.ping.store(++count_, std::memory_order_release);
    spin_until(child_, [&] { return words.pong.load(std::memory_order_acquire) == count_; });
}

EventfdPingPong::EventfdPingPong()
    : ping_(make_eventfd()),
      pong_(make_eventfd()),
      child_([this] { answer_eventfds(ping_.get(), pong_.get()); }) {}

void EventfdPingPong::round_trip() {
    std::uint64_t value = 1;
    if (::write(ping_.get(), &value, sizeof value) != sizeof value ||
        ::read(pong_.get(), &value, sizeof value) != sizeof value) {
        throw std::system_error(errno, std::generic_category(), "eventfd ping-pong");
    }
}

RawRing::RawRing(std::size_t window)
    : window_(window <= kSlots ? window : 0),
      pages_(sizeof(RingMemory)),
      child_([this] { consume(*static_cast<RingMemory*>(pages_.data()), window_); }) {
    if (window_ == 0) {
        throw std::invalid_argument("RawRing: a window is 1 to 1024 records");
    }
}

double RawRing::carry(std::uint64_t records) {
    auto& ring = *static_cast<RingMemory*>(pages_.data());
    const auto begin = std::chrono::steady_clock::now();
    const std::uint64_t end = produced_ + records;
    RingRecord record{};
    while (produced_ != end) {
        std::uint64_t room = 0;
        spin_until(child_, [&] {
            room = window_ - (produced_ - ring.completed.load(std::memory_order_acquire));
            return room != 0;
        });
        const std::uint64_t stop = std::min(end, produced_ + room);
        while (produced_ != stop) {
            record.front() = produced_;
            record.back() = ~produced_;
            ring.slots[produced_ % kSlots] = record;
            ++produced_;
        }
        ring.produced.store(produced_, std::memory_order_release);
    }
    spin_until(child_, [&] { return ring.completed.load(std::memory_order_acquire) == end; });
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace vgpu::bench
