// SPDX-License-Identifier: MIT
#include "executor/worker/worker.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <deque>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>

#include "base/relax.h"
#include "executor/cuda/cuda_backend.h"
#include "executor/worker/messages.h"
#include "executor/worker/worker_process.h"

namespace vgpu::worker {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::microseconds kShortestNap{20};
constexpr std::chrono::microseconds kLongestNap{1000};
// A nap is this fraction of the time since the last activity, which bounds the relative delay.
constexpr int kNapsPerWait = 100;
constexpr std::chrono::milliseconds kRecoveryNap{50};
// How often a busy worker checks that the mediator is still alive.
constexpr std::chrono::milliseconds kPollEvery{10};
constexpr int kExitUsage = 2;

class Worker {
  public:
    Worker(Channel channel, Backend& backend, std::chrono::microseconds spin)
        : channel_(std::move(channel)),
          backend_(backend),
          spin_(spin),
          jobs_(channel_.memory().jobs),
          completions_(channel_.memory().completions) {}

    int run() {
        auto last_activity = Clock::now();
        auto next_poll = last_activity;
        for (;;) {
            const bool took = take_jobs();
            const bool ended = hand_over();
            if (backend_.lost() && ended_.empty()) {
                return kExitDeviceLost;
            }
            const auto now = Clock::now();
            if (now >= next_poll) {
                next_poll = now + kPollEvery;
                if (!channel_.mediator_lives()) {
                    return kExitEnded;
                }
            }
            if (jobs_.corrupt() || confused_ || channel_.confused()) {
                return kExitConfused;
            }
            if (took || ended) {
                last_activity = now;
            } else if (now - last_activity < spin_) {
                relax_processor();
            } else {
                sleep(now - last_activity);
                next_poll = now;
            }
        }
    }

    [[nodiscard]] bool idle() const { return in_flight_ == 0; }

  private:
    bool take_jobs() {
        bool any = false;
        // At most one ring's worth per call, so that completions get their turn.
        for (std::uint32_t i = 0; i < kRingSlots; ++i) {
            const JobRecord* const record = jobs_.peek();
            if (record == nullptr) {
                break;
            }
            if (!take(*record)) {
                confused_ = true;
                break;
            }
            ++in_flight_;
            any = true;
        }
        return any;
    }

    // Releases the record's slot. Returns false if the record is invalid.
    bool take(const JobRecord& record) {
        switch (static_cast<Order>(record.order)) {
            case Order::kJob: {
                const auto job = read_job(record);
                jobs_.take();
                if (job) {
                    backend_.submit(*job);
                }
                return job.has_value();
            }
            case Order::kAttach: {
                const std::uint64_t token = record.token;
                const RegionId region = record.region;
                const std::uint64_t size = record.length;
                jobs_.take();
                const std::optional<Fd> fd = channel_.take_region(region);
                if (fd && *fd) {
                    backend_.attach_region(token, region, fd->get(), size);
                } else if (fd) {
                    ended_.push_back({token, failed_device_outcome(
                                                 "the GPU's process has as many files open as it "
                                                 "may: raise LimitNOFILE= or ulimit -n")});
                }
                return fd.has_value();
            }
            case Order::kDetach: {
                const std::uint64_t token = record.token;
                const RegionId region = record.region;
                jobs_.take();
                backend_.detach_region(token, region);
                return true;
            }
        }
        return false;
    }

    // Returns true if any completion was handed over.
    bool hand_over() {
        if (in_flight_ > 0 || backend_.recovering()) {
            polled_.clear();
            backend_.poll(polled_);
            std::move(polled_.begin(), polled_.end(), std::back_inserter(ended_));
        }
        bool any = false;
        bool wake = false;
        if (!ended_.empty()) {
            channel_.memory().bytes_copied.store(backend_.bytes_copied_by_processor(),
                                                 std::memory_order_relaxed);
        }
        for (; !ended_.empty(); ended_.pop_front()) {
            CompletionRecord* const record = completions_.reserve();
            if (record == nullptr) {
                break;
            }
            write_completion(ended_.front(), *record);
            in_flight_ -= ended_.front().change == DeviceChange::kNone ? 1 : 0;
            wake = completions_.commit() || wake;
            any = true;
        }
        if (wake) {
            channel_.wake_mediator();
        }
        return any;
    }

    // Sleeps until the mediator sends something, or for a nap if the backend must be polled again.
    // `quiet`: time since the last activity.
    void sleep(Clock::duration quiet) {
        static_cast<void>(jobs_.set_sleeping(true));
        if (jobs_.peek() == nullptr && !jobs_.corrupt()) {
            std::optional<std::chrono::nanoseconds> nap;
            if (in_flight_ > 0 || !ended_.empty()) {
                nap = std::clamp<std::chrono::nanoseconds>(quiet / kNapsPerWait, kShortestNap,
                                                           kLongestNap);
            } else if (backend_.recovering()) {
                nap = kRecoveryNap;
            }
            pollfd socket{.fd = channel_.socket(), .events = POLLIN, .revents = 0};
            timespec time{.tv_sec = 0, .tv_nsec = nap ? nap->count() : 0};
            ::ppoll(&socket, 1, nap ? &time : nullptr, nullptr);
        }
        static_cast<void>(jobs_.set_sleeping(false));
    }

    Channel channel_;
    Backend& backend_;
    std::chrono::microseconds spin_;
    RingReader<JobRecord, kRingSlots> jobs_;
    RingWriter<CompletionRecord, kRingSlots> completions_;
    std::vector<Completion> polled_;
    std::deque<Completion> ended_;  // not yet in the ring
    std::size_t in_flight_ = 0;     // taken from the job ring and not yet completed
    bool confused_ = false;
};

template <typename Number>
bool parse(std::string_view text, Number& number) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc() && end == text.data() + text.size();
}

Result<std::unique_ptr<Backend>> make_cuda_backend(int index) {
    const auto api = cuda::Api::load();
    if (!api) {
        return api.error();
    }
    auto made = cuda::CudaBackend::create(*api, index);
    if (!made) {
        return std::move(made).error();
    }
    return std::unique_ptr<Backend>(std::move(made).value());
}

}  // namespace

Result<Channel> Channel::open() {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::prctl(PR_SET_NAME, "vgpu-gpu-worker");
    // Avoids the default timer slack of 50 us, by which the kernel may round up naps.
    ::prctl(PR_SET_TIMERSLACK, 1UL);
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGPIPE}) {
        static_cast<void>(std::signal(number, SIG_IGN));
    }
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);

    struct stat found {};
    if (::fstat(kMemoryDescriptor, &found) != 0 ||
        found.st_size != static_cast<off_t>(sizeof(WorkerMemory))) {
        return Error{"this is started by vgpu-mediator, for itself alone"};
    }
    Fd memory(kMemoryDescriptor);
    Fd socket(kSocketDescriptor);
    ::fcntl(socket.get(), F_SETFD, FD_CLOEXEC);
    auto mapping = Mapping::create(memory.get(), sizeof(WorkerMemory), PROT_READ | PROT_WRITE);
    if (!mapping) {
        return std::move(mapping).error();
    }
    return Channel(std::move(socket), std::move(mapping).value());
}

void Channel::greet(const Result<DeviceInfo>& device, bool writes_timeline) const {
    const Greeting greeting = greeting_of(device, writes_timeline);
    // The first message on the socket: if there is no room for it, there is no reader.
    static_cast<void>(::send(socket_.get(), &greeting, sizeof greeting, MSG_NOSIGNAL));
}

void Channel::wake_mediator() const {
    send_wake(socket_.get());
}

bool Channel::mediator_lives() {
    for (;;) {
        WorkerMessage received = receive(socket_.get());
        switch (received.kind) {
            case WorkerMessage::Kind::kNothing:
                return true;
            case WorkerMessage::Kind::kEnd:
                return false;
            case WorkerMessage::Kind::kWake:
                break;
            case WorkerMessage::Kind::kRegion:
                offered_.push_back({received.region, std::move(received.fd)});
                break;
            case WorkerMessage::Kind::kNonsense:
                confused_ = true;
                break;
        }
    }
}

std::optional<Fd> Channel::take_region(RegionId region) {
    const auto found = [this, region] {
        return std::find_if(offered_.begin(), offered_.end(),
                            [region](const Offered& one) { return one.region == region; });
    };
    auto place = found();
    if (place == offered_.end()) {
        // The descriptor was sent before the record that refers to it.
        static_cast<void>(mediator_lives());
        place = found();
    }
    if (place == offered_.end()) {
        return std::nullopt;
    }
    Fd fd = std::move(place->fd);
    offered_.erase(place);
    return fd;
}

int run_worker(Channel channel, const MakeBackend& make, std::chrono::microseconds spin) {
    auto made = make();
    if (!made) {
        channel.greet(made.error());
        return kExitNoDevice;
    }
    Backend& backend = **made;
    channel.greet(backend.info(), backend.writes_timeline());
    backend.attach_thread();
    Worker worker(std::move(channel), backend, spin);
    const int status = worker.run();
    if (!worker.idle() || backend.lost()) {
        ::_exit(status);
    }
    backend.detach_thread();
    return status;
}

std::vector<std::string> cuda_worker_arguments(int index, std::chrono::microseconds spin) {
    return {kWorkerArgument, std::to_string(index), std::to_string(spin.count())};
}

int cuda_worker_main(int argc, const char* const* argv) {
    int index = 0;
    std::int64_t spin = 0;
    if (argc != 4 || !parse(argv[2], index) || !parse(argv[3], spin)) {
        static_cast<void>(std::fprintf(stderr, "vgpu-mediator: %s is for the mediator's own use\n",
                                       kWorkerArgument));
        return kExitUsage;
    }
    auto channel = Channel::open();
    if (!channel) {
        static_cast<void>(std::fprintf(stderr, "vgpu-mediator: %s: %s\n", kWorkerArgument,
                                       channel.error().message.c_str()));
        return kExitUsage;
    }
    return run_worker(
        std::move(channel).value(), [index] { return make_cuda_backend(index); },
        std::chrono::microseconds(spin));
}

}  // namespace vgpu::worker
