// SPDX-License-Identifier: MIT
#include "executor/worker/worker_backend.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include "executor/worker/messages.h"

namespace vgpu::worker {
namespace {

constexpr std::chrono::milliseconds kFirstPause{100};
constexpr std::chrono::milliseconds kLongestPause{10000};
// Time-out for a worker to end after it reported that its device failed.
constexpr std::chrono::milliseconds kFailingLimit{2000};
// Interval at which a busy mediator polls the socket for the worker's end.
constexpr std::chrono::microseconds kPollEvery{200};
// Maximum number of messages received per poll of the socket; no worker sends that many.
constexpr int kMostMessages = 64;

// A BufferId consists of the process number and, in these bits, the process's own id.
constexpr unsigned kBufferBits = 40;
constexpr std::uint64_t kBufferMask = (std::uint64_t{1} << kBufferBits) - 1;

// Prefix of the error text of failed jobs.
constexpr const char* kReset = "the GPU failed and is being reset: ";
constexpr const char* kEnded = "its worker process ended";

}  // namespace

Result<std::unique_ptr<WorkerBackend>> WorkerBackend::create(Options options) {
    Fd wakes(::epoll_create1(EPOLL_CLOEXEC));
    if (!wakes) {
        return Error::from_errno("cannot make an epoll instance", errno);
    }
    std::unique_ptr<WorkerBackend> made(new WorkerBackend(std::move(options), std::move(wakes)));
    if (auto started = made->start(); !started) {
        return std::move(started).error();
    }
    if (auto greeted = made->wait_for_greeting(); !greeted) {
        return std::move(greeted).error();
    }
    return made;
}

Result<void> WorkerBackend::start() {
    auto started = WorkerProcess::start(options_.command);
    if (!started) {
        return std::move(started).error();
    }
    process_ = std::move(started).value();
    // It leaves the epoll set when it is closed.
    epoll_event readable{.events = EPOLLIN, .data = {}};
    if (::epoll_ctl(wakes_.get(), EPOLL_CTL_ADD, process_->socket(), &readable) != 0) {
        const int error = errno;
        process_.reset();
        return Error::from_errno("cannot watch the GPU's worker process", error);
    }
    jobs_.emplace(process_->memory().jobs);
    completions_.emplace(process_->memory().completions);
    wake_sent_ = false;
    ++generation_;
    state_ = State::kStarting;
    deadline_ = Clock::now() + options_.greeting_limit;
    return {};
}

Result<void> WorkerBackend::wait_for_greeting() {
    while (state_ == State::kStarting) {
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(deadline_ - Clock::now()).count();
        pollfd socket{.fd = process_->socket(), .events = POLLIN, .revents = 0};
        ::poll(&socket, 1, static_cast<int>(std::max<std::int64_t>(left, 0)));
        poll_socket();
        if (state_ == State::kStarting) {
            advance(Clock::now());
        }
    }
    if (state_ == State::kWorking) {
        return {};
    }
    if (why_ == kEnded && process_->wait(kFailingLimit)) {
        return Error{"the GPU's worker process " + process_->how_it_ended() + " without a word"};
    }
    return Error{why_};
}

void WorkerBackend::detach_thread() {
    process_.reset();
    state_ = State::kPausing;
}

Outcome WorkerBackend::run(const Job& job) {
    if (job.opcode != VGPU_OP_NOP) {
        return Outcome::failure(VGPU_ERR_UNSUPPORTED_OPERATION, "this is no immediate operation");
    }
    return {};
}

// --- Jobs ---------------------------------------------------------------------------------------

void WorkerBackend::submit(const Job& job) {
    if (state_ != State::kWorking) {
        answer_without_device(job);
        return;
    }
    if (job.data.size() > kDataCapacity) {
        ended_.push_back({job.token, Outcome::failure(VGPU_ERR_REQUEST_TOO_LARGE,
                                                      "the data is more than a request can hold")});
        return;
    }
    Job sent = job;
    for (BufferId& buffer : sent.buffers) {
        if (buffer == 0) {
            continue;
        }
        // Buffers of another process were lost with it; this process never allocates kBufferMask.
        buffer = buffer >> kBufferBits == generation_ ? buffer & kBufferMask : kBufferMask;
    }
    if (sent.timeline != 0 && !runs_.open(sent)) {
        sent.timeline = 0;
    }
    sent.token = enter(Kind::kJob, job);
    send(Kind::kJob, std::move(sent));
}

void WorkerBackend::attach_region(std::uint64_t token, RegionId region, int fd,
                                  std::uint64_t size) {
    if (auto checked = check_region(fd, size); !checked) {
        ended_.push_back({token, failed_device_outcome(checked.error().message)});
        return;
    }
    Fd own(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!own) {
        const Error error = Error::from_errno("cannot keep the shared memory's descriptor", errno);
        ended_.push_back({token, failed_device_outcome(error.message)});
        return;
    }
    regions_.insert_or_assign(region, Region{std::move(own), size, token});
    if (state_ == State::kWorking) {
        send_order(Kind::kAttach, token, region);
    } else {
        ended_.push_back({token, {}});  // passed to the next process
    }
}

void WorkerBackend::detach_region(std::uint64_t token, RegionId region) {
    regions_.erase(region);
    runs_.forget(region);
    if (state_ == State::kWorking) {
        send_order(Kind::kDetach, token, region);
    } else if (state_ == State::kFailing || state_ == State::kEnding) {
        after_reap_.push_back({token, {}});
    } else {
        ended_.push_back({token, {}});  // no process has it
    }
}

void WorkerBackend::send_order(Kind kind, std::uint64_t token, RegionId region) {
    Job order{.token = token, .params = {}};
    order.region = region;
    order.token = enter(kind, order);
    send(kind, std::move(order));
}

std::uint64_t WorkerBackend::enter(Kind kind, const Job& job) {
    if (free_.empty()) {
        free_.push_back(static_cast<std::uint32_t>(in_flight_.size()));
        in_flight_.emplace_back();
    }
    const std::uint32_t place = free_.back();
    free_.pop_back();
    in_flight_[place] = {.busy = true,
                         .kind = kind,
                         .number = next_number_++,
                         .token = job.token,
                         .region = job.region,
                         .wants_timeline = job.timeline != 0,
                         .chain = job.chain,
                         .timeline_run = job.timeline_run,
                         .began = Clock::now()};
    return std::uint64_t{in_flight_[place].number} << 32U | place;
}

void WorkerBackend::send(Kind kind, Job job) {
    if (!waiting_.empty() || !try_send(kind, job)) {
        waiting_.push_back({kind, std::move(job)});
    }
}

bool WorkerBackend::try_send(Kind kind, const Job& job) {
    JobRecord* const record = jobs_->reserve();
    if (record == nullptr) {
        return false;
    }
    if (kind == Kind::kJob) {
        static_cast<void>(write_job(job, *record));  // the size has been checked
    } else if (kind == Kind::kDetach) {
        record->token = job.token;
        record->order = static_cast<std::uint32_t>(Order::kDetach);
        record->region = job.region;
    } else {
        const auto region = regions_.find(job.region);
        if (region == regions_.end()) {
            // Detached before it could be sent. The order that detaches it follows.
            static_cast<void>(take({job.token, {}}));
            return true;
        }
        const int error = send_region(process_->socket(), region->first, region->second.fd.get());
        if (error == EAGAIN || error == EINTR || error == EPIPE || error == ECONNRESET) {
            return false;  // no space yet; or the process ended, which is detected soon
        }
        if (error != 0) {
            const Error failed = Error::from_errno("cannot pass the shared memory on", error);
            static_cast<void>(take({job.token, failed_device_outcome(failed.message)}));
            return true;
        }
        record->token = job.token;
        record->order = static_cast<std::uint32_t>(Order::kAttach);
        record->region = job.region;
        record->length = region->second.size;
    }
    if (jobs_->commit()) {
        send_wake(process_->socket());
    }
    return true;
}

void WorkerBackend::send_waiting() {
    while (!waiting_.empty() && try_send(waiting_.front().kind, waiting_.front().job)) {
        waiting_.pop_front();
    }
}

void WorkerBackend::stop(std::uint64_t token) {
    const auto found =
        std::find_if(in_flight_.begin(), in_flight_.end(), [token](const InFlight& one) {
            return one.busy && one.kind == Kind::kJob && one.token == token;
        });
    if (state_ != State::kWorking || found == in_flight_.end()) {
        return;
    }
    Outcome outcome =
        Outcome::failure(VGPU_ERR_CUDA_TIME_LIMIT, "this ran longer than it may and was stopped");
    outcome.exec_time_us = static_cast<std::uint32_t>(
        std::chrono::ceil<std::chrono::microseconds>(Clock::now() - found->began).count());
    found->busy = false;
    free_.push_back(static_cast<std::uint32_t>(found - in_flight_.begin()));
    const InFlight stopped = *found;
    give_up("a request that ran longer than it may was stopped");
    answer_failed(stopped, std::move(outcome));
}

void WorkerBackend::answer_without_device(const Job& job) {
    if (job.timeline != 0) {
        runs_.close(job);
    }
    ended_.push_back({job.token, failed_device_outcome(answer_)});
}

// --- Completions --------------------------------------------------------------------------------

void WorkerBackend::poll(std::vector<Completion>& ended) {
    const auto now = Clock::now();
    // In this order: a wake-up received here was sent after its completion was written.
    if (std::exchange(wake_sent_, false) || now >= next_poll_) {
        next_poll_ = now + kPollEvery;
        poll_socket();
    }
    if (state_ == State::kWorking || state_ == State::kFailing) {
        read_completions();
    }
    if (state_ != State::kWorking) {
        advance(now);
    } else if (!waiting_.empty()) {
        send_waiting();
    }
    if (!ended_.empty()) {
        std::move(ended_.begin(), ended_.end(), std::back_inserter(ended));
        ended_.clear();
    }
}

void WorkerBackend::read_completions() {
    // At most one ring's worth, however fast the worker is.
    for (std::uint32_t i = 0; i < kRingSlots; ++i) {
        const CompletionRecord* const record = completions_->peek();
        if (record == nullptr) {
            break;
        }
        auto completion = read_completion(*record);
        completions_->take();
        if (!completion || !take(*std::move(completion))) {
            give_up("its worker process gave an answer that makes no sense");
            return;
        }
    }
    count_copied();
    if (completions_->corrupt()) {
        give_up("its worker process left its memory in disorder");
    }
}

void WorkerBackend::count_copied() {
    bytes_copied_.store(
        copied_before_ + process_->memory().bytes_copied.load(std::memory_order_relaxed),
        std::memory_order_relaxed);
}

bool WorkerBackend::take(Completion completion) {
    if (completion.change == DeviceChange::kFailed) {
        begin_failing(completion.outcome);
        return true;
    }
    if (completion.change != DeviceChange::kNone) {
        return false;  // a worker does not recover: it is replaced
    }
    const std::uint64_t place = completion.token & 0xFFFFFFFFU;
    if (place >= in_flight_.size() || !in_flight_[place].busy ||
        in_flight_[place].number != completion.token >> 32U ||
        completion.outcome.buffer > kBufferMask) {
        return false;
    }
    InFlight& one = in_flight_[place];
    one.busy = false;
    free_.push_back(static_cast<std::uint32_t>(place));
    if (completion.outcome.buffer != 0) {
        completion.outcome.buffer |= generation_ << kBufferBits;
    }
    if (state_ == State::kFailing) {
        answer_failed(one, std::move(completion.outcome));
        return true;
    }
    if (one.kind == Kind::kReattach) {
        if (const auto found = regions_.find(one.region);
            completion.outcome.status != VGPU_ERR_NONE && found != regions_.end()) {
            // As if the first attach had failed.
            ended_.push_back({.token = found->second.token,
                              .outcome = std::move(completion.outcome),
                              .again = true});
            regions_.erase(found);
        }
        return true;
    }
    if (one.kind == Kind::kAttach && completion.outcome.status != VGPU_ERR_NONE) {
        regions_.erase(one.region);
    }
    if (!completion.outcome.timeline_written) {
        close_run(one);
    }
    completion.token = one.token;
    ended_.push_back(std::move(completion));
    return true;
}

void WorkerBackend::close_run(const InFlight& one) {
    if (one.wants_timeline) {
        runs_.close(one.region, one.chain, one.timeline_run);
    }
}

void WorkerBackend::answer_failed(const InFlight& one, Outcome failure) {
    if (!failure.timeline_written) {
        close_run(one);
    }
    switch (one.kind) {
        case Kind::kJob:
            (one.region != 0 ? after_reap_ : ended_).push_back({one.token, std::move(failure)});
            break;
        case Kind::kAttach:
            ended_.push_back({one.token, {}});  // passed to the next process
            break;
        case Kind::kReattach:
            break;
        case Kind::kDetach:
            after_reap_.push_back({one.token, {}});
            break;
    }
}

// --- The process --------------------------------------------------------------------------------

void WorkerBackend::set_waiting(bool waiting) {
    if (!completions_) {
        return;
    }
    // If the flag was already clear, the worker has cleared it and sends a wake-up.
    if (!completions_->set_sleeping(waiting) && !waiting) {
        wake_sent_ = true;
    }
}

void WorkerBackend::poll_socket() {
    for (int i = 0; i < kMostMessages && process_ && process_->socket() >= 0; ++i) {
        Greeting greeting{};
        const ssize_t got =
            ::recv(process_->socket(), &greeting, sizeof greeting, MSG_DONTWAIT | MSG_TRUNC);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (got <= 0) {
            if (state_ == State::kWorking || state_ == State::kFailing) {
                read_completions();  // completions written before the end
            }
            give_up(kEnded);
            return;
        }
        if (state_ != State::kStarting) {
            continue;  // a wake-up
        }
        auto device = got == sizeof greeting
                          ? read_greeting(greeting)
                          : Error{"the GPU's worker process sent an invalid message"};
        if (!device) {
            give_up(device.error().message);
            return;
        }
        if (generation_ == 1) {
            info_ = std::move(device).value();
            writes_timeline_ = greeting.writes_timeline != 0;
        } else {
            ended_.push_back({0, {}, DeviceChange::kRecovered});
        }
        state_ = State::kWorking;
        reported_ = false;
        pause_ = std::chrono::milliseconds(0);
        for (const auto& [id, region] : regions_) {
            send_order(Kind::kReattach, 0, id);
        }
    }
}

void WorkerBackend::advance(Clock::time_point now) {
    switch (state_) {
        case State::kStarting:
            if (now >= deadline_) {
                give_up("its worker process does not answer");
            }
            break;
        case State::kFailing:
            if (now >= deadline_) {
                give_up("its worker process does not end");
            }
            break;
        case State::kEnding:
            if (process_->reap()) {
                std::move(after_reap_.begin(), after_reap_.end(), std::back_inserter(ended_));
                after_reap_.clear();
                pause();
            }
            break;
        case State::kPausing:
            if (now >= deadline_) {
                if (auto started = start(); !started) {
                    answer_ = kReset + started.error().message;
                    pause();
                }
            }
            break;
        case State::kWorking:
            break;
    }
}

void WorkerBackend::begin_failing(const Outcome& failure) {
    if (state_ != State::kWorking) {
        return;
    }
    state_ = State::kFailing;
    deadline_ = Clock::now() + kFailingLimit;
    answer_ = kReset + failure.data;
    reported_ = true;
    ended_.push_back({0, failure, DeviceChange::kFailed});
}

void WorkerBackend::give_up(const std::string& why) {
    if (state_ == State::kEnding || state_ == State::kPausing) {
        return;
    }
    if (state_ != State::kFailing) {
        why_ = why;
        answer_ = kReset + why;
    }
    count_copied();
    copied_before_ = bytes_copied_.load(std::memory_order_relaxed);
    process_->kill();
    state_ = State::kEnding;
    const Outcome failure = failed_device_outcome(answer_);
    if (!std::exchange(reported_, true)) {
        ended_.push_back({0, failed_device_outcome(why), DeviceChange::kFailed});
    }
    waiting_.clear();
    for (std::uint32_t place = 0; place < in_flight_.size(); ++place) {
        if (std::exchange(in_flight_[place].busy, false)) {
            answer_failed(in_flight_[place], failure);
            free_.push_back(place);
        }
    }
}

void WorkerBackend::pause() {
    process_.reset();
    state_ = State::kPausing;
    deadline_ = Clock::now() + pause_;
    pause_ = std::clamp(pause_ * 2, kFirstPause, kLongestPause);
}

}  // namespace vgpu::worker
