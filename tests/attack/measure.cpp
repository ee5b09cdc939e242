// SPDX-License-Identifier: MIT
#include "measure.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <new>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <system_error>

#include "child.h"
#include "load_device.h"
#include "own_mediator.h"
#include "report.h"
#include "support/http_peer.h"

namespace vgpu::attack {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kSetupLimit{60'000};
constexpr milliseconds kMetricsLimit{1'000};
constexpr milliseconds kNewcomerLimit{1'000};
constexpr milliseconds kExitLimit{15'000};
constexpr std::uint32_t kNewcomerVm = 0x7FFF'FFFF;

// A counter shared with a forked process.
class SharedCounter {
  public:
    SharedCounter()
        : memory_(::mmap(nullptr, sizeof(Counter), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
        if (memory_ == MAP_FAILED) {
            throw std::system_error(errno, std::generic_category(), "mmap");
        }
        counter_ = new (memory_) Counter(0);
    }
    SharedCounter(const SharedCounter&) = delete;
    SharedCounter& operator=(const SharedCounter&) = delete;
    ~SharedCounter() { ::munmap(memory_, sizeof(Counter)); }

    [[nodiscard]] std::atomic<std::uint64_t>* place() { return counter_; }
    [[nodiscard]] std::uint64_t value() const { return counter_->load(); }

  private:
    using Counter = std::atomic<std::uint64_t>;
    void* memory_;
    Counter* counter_;
};

void send_ready(const Channel& channel) {
    constexpr char kReady = 'r';
    channel.send(std::as_bytes(std::span(&kReady, 1)));
}

// Returns the port in the mediator's ready line, or 0.
std::uint16_t metrics_port(const std::string& output) {
    constexpr std::string_view kBefore = ", metrics 127.0.0.1:";
    const auto at = output.find(kBefore);
    return at == std::string::npos ? std::uint16_t{0}
                                   : static_cast<std::uint16_t>(std::strtoul(
                                         output.c_str() + at + kBefore.size(), nullptr, 10));
}

void run_attack(void (*attack)(Attacker&), const Channel& channel,
                std::atomic<std::uint64_t>* steps) {
    Attacker attacker{.place = decode_place(channel.receive().value()),
                      .ready = [&] { send_ready(channel); },
                      .steps = steps};
    attack(attacker);
}

// Returns when the attack's setup is complete.
void begin_attack(const Child& attacker, const Place& place) {
    attacker.channel().send(encode(place));
    static_cast<void>(attacker.expect("the setup of the attack", kSetupLimit));
}

std::optional<LoopLatency> ask_loop_latency(const std::string& admin_socket) {
    try {
        auto peer = test::HttpPeer::connect(admin_socket);
        peer.limit_receive(kMetricsLimit);
        return largest_loop_latency(peer.call("GET", "/metrics").body);
    } catch (const std::system_error&) {
        return std::nullopt;
    }
}

// Body of a newly connected VM: one addition.
void be_newcomer(const Channel& channel) {
    const Place place = decode_place(channel.receive().value());
    bench::LoadDevice device(place.socket, kNewcomerVm, VGPU_PRIORITY_MEDIUM);
    const std::uint32_t sum = device.ask(VGPU_OP_CUDA_KERNEL, std::array{1U, 2U}).first_result;
    if (sum != 3) {
        throw std::runtime_error(fmt::format("1 + 2 = {}", sum));
    }
    send_ready(channel);
}

// Returns an empty string if it gets its sum in time, otherwise the error text.
std::string try_newcomer(const Child& newcomer, const Place& place) {
    newcomer.channel().send(encode(place));
    try {
        static_cast<void>(newcomer.expect("a VM that connects for the first time", kNewcomerLimit));
        return "";
    } catch (const std::runtime_error& error) {
        return error.what();
    }
}

void end_mediator(bench::OwnMediator& mediator, Result& result) {
    const auto begin = Clock::now();
    mediator.process().signal(SIGTERM);
    auto status = mediator.process().wait(kExitLimit);
    result.exit_seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    result.killed = !status;
    if (!status) {
        mediator.process().signal(SIGKILL);
        status = mediator.process().wait();
    }
    result.exit_status = status.value_or(-1);
}

// Returns the last lines, without newlines.
std::vector<std::string> last_lines(std::string text) {
    constexpr std::size_t kLines = 3;
    std::vector<std::string> lines;
    while (lines.size() < kLines && !text.empty()) {
        const auto end = text.find_last_not_of('\n');
        text.resize(end == std::string::npos ? 0 : end + 1);
        const auto before = text.rfind('\n');
        const std::size_t begin = before == std::string::npos ? 0 : before + 1;
        if (begin < text.size()) {
            lines.insert(lines.begin(), text.substr(begin));
        }
        text.resize(begin);
    }
    return lines;
}

void check_path(const char* name, const PathPeriod& off, const PathPeriod& on, const Bars& bars,
                std::vector<std::string>& missed) {
    if (!off.failure.empty() || off.unanswered != 0) {
        missed.push_back(fmt::format("{}: failed without the attacker: {}", name,
                                     off.failure.empty() ? "no answer" : off.failure));
    }
    if (off.wrong + on.wrong != 0) {
        missed.push_back(fmt::format("{}: {} wrong sums", name, off.wrong + on.wrong));
    }
    if (!on.failure.empty()) {
        missed.push_back(fmt::format("{}: {}", name, on.failure));
    }
    if (const double ratio = p99_ratio(off, on); ratio > bars.p99_ratio) {
        missed.push_back(
            fmt::format("{}: p99 is {:.1f} times that without the attacker", name, ratio));
    }
    if (on.longest > bars.longest) {
        missed.push_back(fmt::format("{}: {} for {}", name,
                                     on.unanswered != 0 ? "no answer" : "a stall",
                                     duration_text(on.longest)));
    }
}

}  // namespace

double p99_ratio(const PathPeriod& off, const PathPeriod& on) {
    return off.p99 > 0 ? on.p99 / off.p99 : 0;
}

std::optional<LoopLatency> largest_loop_latency(const std::string& metrics) {
    constexpr std::string_view kBegin = "vgpu_loop_latency_seconds{source=\"";
    std::optional<LoopLatency> largest;
    std::istringstream lines(metrics);
    for (std::string line; std::getline(lines, line);) {
        const auto quote = line.find('"', kBegin.size());
        const auto space = line.rfind(' ');
        if (!line.starts_with(kBegin) || quote == std::string::npos || space == std::string::npos) {
            continue;
        }
        const double seconds = std::strtod(line.c_str() + space, nullptr);
        if (!largest || seconds > largest->seconds) {
            largest = {.seconds = seconds,
                       .source = line.substr(kBegin.size(), quote - kBegin.size())};
        }
    }
    return largest;
}

std::vector<std::string> missed_bars(const Result& result, const Bars& bars) {
    std::vector<std::string> missed;
    check_path("requests", result.off.requests, result.on.requests, bars, missed);
    check_path("queues", result.off.queues, result.on.queues, bars, missed);
    if (!result.attacker_failure.empty()) {
        missed.push_back("the attacker ended: " + result.attacker_failure);
    }
    if (result.newcomer_failure && !result.newcomer_failure->empty()) {
        missed.push_back(*result.newcomer_failure);
    }
    if (result.killed) {
        missed.push_back(
            fmt::format("still running {:.0f} s after SIGTERM, killed", result.exit_seconds));
    } else if (result.exit_status != 0) {
        missed.push_back(fmt::format("the mediator ended with status {}", result.exit_status));
    } else if (result.exit_seconds > bars.exit_seconds) {
        missed.push_back(fmt::format("{:.2f} s from SIGTERM to the exit", result.exit_seconds));
    }
    return missed;
}

Result measure(const Attack& attack, const Plan& plan) {
    // Fork the children first, while this process is single-threaded.
    SharedCounter steps;
    Victim victim;
    std::optional<Child> attacker;
    if (attack.run != nullptr) {
        attacker.emplace(
            [&](const Channel& channel) { run_attack(attack.run, channel, steps.place()); });
    }
    SharedCounter busy_steps;
    std::optional<Child> busy;
    if (plan.busy_off) {
        busy.emplace([&](const Channel& channel) {
            run_attack(keep_a_processor_busy, channel, busy_steps.place());
        });
    }
    std::optional<Child> newcomer;
    if (attack.newcomer) {
        newcomer.emplace(be_newcomer);
    }
    bench::OwnMediator mediator(plan.mediator, "cpu", attack.config);
    const Place place{.socket = mediator.socket(),
                      .admin_socket = mediator.admin_socket(),
                      .metrics_port = metrics_port(mediator.process().output())};
    victim.connect(place);

    Result result;
    result.attack = &attack;
    result.seconds = std::chrono::duration<double>(plan.length).count();
    if (busy) {
        begin_attack(*busy, place);
    }
    result.off = victim.measure(plan.length);
    busy.reset();
    if (attacker) {
        begin_attack(*attacker, place);
    }
    const std::uint64_t before = steps.value();
    result.on = victim.measure(plan.length);
    result.steps = steps.value() - before;
    if (attacker) {
        result.attacker_failure = attacker->failure().value_or("");
    }
    if (!result.attacker_failure.empty() || !result.on.requests.failure.empty() ||
        !result.on.queues.failure.empty()) {
        result.log = last_lines(mediator.process().output());
    }
    result.loop_latency = ask_loop_latency(place.admin_socket);
    if (newcomer) {
        result.newcomer_failure = try_newcomer(*newcomer, place);
    }
    end_mediator(mediator, result);
    throw_if_stopped();
    if (result.exit_status != 0 && !result.killed) {
        result.log = last_lines(mediator.process().output());
    }
    result.missed = missed_bars(result);
    return result;
}

}  // namespace vgpu::attack
