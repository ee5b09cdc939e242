// SPDX-License-Identifier: MIT
//
// A device in another process: its answers, and what happens to its jobs, its buffers and the
// process itself when that dies, is silent, or sends invalid data. The process is the test worker,
// which drives the CPU backend.
#include "executor/worker/worker_backend.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <set>

#include "executor/cpu/cpu_backend.h"
#include "executor/executor.h"
#include "executor/testing/mischief.h"
#include "support/control_loop.h"
#include "support/process.h"
#include "support/temp_dir.h"

namespace vgpu::worker {
namespace {

using Clock = std::chrono::steady_clock;
using Changes = std::vector<DeviceChange>;
const Changes kFailedAndBack{DeviceChange::kFailed, DeviceChange::kRecovered};

Job add_job(std::uint64_t token, std::uint32_t a, std::uint32_t b) {
    return {.token = token, .opcode = VGPU_OP_CUDA_KERNEL, .params = {a, b}};
}

std::unique_ptr<WorkerBackend> make(std::vector<std::string> arguments) {
    auto made = WorkerBackend::create({.command = test_worker(std::move(arguments))});
    EXPECT_TRUE(made) << made.error().message;
    return made ? std::move(made).value() : nullptr;
}
std::string why_not(std::vector<std::string> arguments, std::chrono::milliseconds limit) {
    const auto made = WorkerBackend::create(
        {.command = test_worker(std::move(arguments)), .greeting_limit = limit});
    return made ? "" : made.error().message;
}

// Polls until `jobs` jobs have ended and the device has changed state `changes` times.
struct Polled {
    std::vector<Completion> jobs;
    Changes changes;
};
void poll_until(Backend& backend, Polled& polled, std::size_t jobs, std::size_t changes) {
    const auto deadline = Clock::now() + std::chrono::seconds(20);
    std::vector<Completion> ended;
    while (polled.jobs.size() < jobs || polled.changes.size() < changes) {
        ASSERT_LT(Clock::now(), deadline) << polled.jobs.size() << " jobs have ended";
        backend.poll(ended);
        for (Completion& one : ended) {
            if (one.change == DeviceChange::kNone) {
                polled.jobs.push_back(std::move(one));
            } else {
                EXPECT_EQ(one.change == DeviceChange::kFailed, !one.outcome.data.empty());
                polled.changes.push_back(one.change);
            }
        }
        ended.clear();
    }
    EXPECT_EQ(polled.jobs.size(), jobs);
    EXPECT_EQ(polled.changes.size(), changes);
}
Outcome run_on(Backend& backend, const Job& job) {
    backend.submit(job);
    Polled polled;
    poll_until(backend, polled, 1, 0);
    if (polled.jobs.empty()) {
        return Outcome::failure(VGPU_ERR_TIMEOUT, "no answer");
    }
    EXPECT_EQ(polled.jobs[0].token, job.token);
    return polled.jobs[0].outcome;
}

void expect_reset(const Completion& completion, std::uint64_t token) {
    EXPECT_EQ(completion.token, token);
    EXPECT_EQ(completion.outcome.status, VGPU_ERR_CUDA);
    EXPECT_TRUE(completion.outcome.device_failed);
    EXPECT_NE(completion.outcome.data.find("the GPU failed and is being reset"), std::string::npos)
        << completion.outcome.data;
}

struct WorkerTest : testing::Test {
    // No test may leave a worker behind, not even as a zombie.
    void TearDown() override {
        EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
        EXPECT_EQ(errno, ECHILD);
    }
};

TEST_F(WorkerTest, AnswersAsTheBackendInItWould) {
    const auto backend = make({"cpu"});
    CpuBackend own;
    EXPECT_EQ(backend->info().backend, VGPU_BACKEND_CPU);
    EXPECT_EQ(backend->info().name, own.info().name);
    EXPECT_EQ(backend->info().multiprocessors, own.info().multiprocessors);
    EXPECT_EQ(backend->info().memory_total, own.info().memory_total);
    EXPECT_EQ(backend->info().memory_free, own.info().memory_free);
    const Outcome info =
        run_on(*backend, {.token = 1, .opcode = VGPU_OP_GET_DEVICE_INFO, .params = {}});
    EXPECT_EQ(info.result_count, VGPU_INFO_RESULT_COUNT);
    EXPECT_EQ(info.data, own.info().name);
    EXPECT_EQ(run_on(*backend, {.token = 2, .opcode = VGPU_OP_NOP, .params = {}}).status,
              VGPU_ERR_NONE);
    const Outcome unknown = run_on(*backend, {.token = 3, .opcode = 0x0FFF, .params = {}});
    EXPECT_EQ(unknown.status, VGPU_ERR_UNSUPPORTED_OPERATION);
    EXPECT_EQ(unknown.data, own.run({.token = 3, .opcode = 0x0FFF, .params = {}}).data);
}

TEST_F(WorkerTest, TenThousandJobsEachGetTheirOwnAnswer) {
    const auto backend = make({"cpu"});
    constexpr std::uint32_t kJobs = 10000;
    std::mt19937 random(3);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same each time
    Polled polled;
    std::uint32_t submitted = 0;
    while (submitted < kJobs) {
        // Bursts from one job to more than the ring holds.
        const auto burst =
            std::min(1 + static_cast<std::uint32_t>(random() % 200), kJobs - submitted);
        for (std::uint32_t i = 0; i < burst; ++i, ++submitted) {
            backend->submit(add_job(submitted, submitted * 7, submitted));
        }
        ASSERT_NO_FATAL_FAILURE(
            poll_until(*backend, polled, random() % 2 == 0 ? submitted : polled.jobs.size(), 0));
    }
    ASSERT_NO_FATAL_FAILURE(poll_until(*backend, polled, kJobs, 0));
    std::set<std::uint64_t> seen;
    for (const Completion& completion : polled.jobs) {
        EXPECT_TRUE(seen.insert(completion.token).second);
        ASSERT_EQ(completion.outcome.status, VGPU_ERR_NONE);
        ASSERT_EQ(completion.outcome.results[0], static_cast<std::uint32_t>(completion.token * 8));
    }
}

TEST_F(WorkerTest, CarriesDataBothWays) {
    const auto backend = make({"cpu"});
    Job alloc{.token = 1, .opcode = VGPU_OP_MEMORY_ALLOC, .params = {}};
    alloc.length = 4096;
    const BufferId buffer = run_on(*backend, alloc).buffer;
    ASSERT_NE(buffer, 0U);
    std::mt19937 random(5);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same each time
    for (std::uint32_t round = 0; round < 300; ++round) {
        std::string data(1 + random() % VGPU_COPY_MAX_LENGTH, '\0');
        for (char& byte : data) {
            byte = static_cast<char>(random());
        }
        Job copy{.token = round, .opcode = VGPU_OP_MEMORY_COPY, .params = {}};
        copy.buffers[0] = buffer;
        copy.offsets[0] = random() % 3000;
        copy.length = data.size();
        copy.copy = VGPU_COPY_TO_DEVICE;
        copy.data = data;
        ASSERT_EQ(run_on(*backend, copy).status, VGPU_ERR_NONE);
        copy.copy = VGPU_COPY_FROM_DEVICE;
        copy.data.clear();
        const Outcome read = run_on(*backend, copy);
        ASSERT_EQ(read.status, VGPU_ERR_NONE);
        ASSERT_EQ(read.data, data);
    }
    Job large{.token = 9, .opcode = VGPU_OP_MEMORY_COPY, .params = {}};
    large.buffers[0] = buffer;
    large.data = std::string(kDataCapacity + 1, 'x');
    EXPECT_EQ(run_on(*backend, large).status, VGPU_ERR_REQUEST_TOO_LARGE);
}

TEST_F(WorkerTest, AWorkerThatDiesInTheMiddleOfItsJobsIsReplaced) {
    const auto backend = make({"cpu"});
    const pid_t first = backend->pid();
    // Two jobs that never end, and more behind them than the ring holds.
    Polled polled;
    backend->submit(mischief_job(0, Mischief::kHang));
    backend->submit(mischief_job(1, Mischief::kHang));
    constexpr std::uint64_t kJobs = 2 + 3 * kRingSlots;
    backend->submit(mischief_job(2, Mischief::kDie));
    for (std::uint64_t i = 3; i < kJobs; ++i) {
        backend->submit(add_job(i, 1, 1));
    }
    ASSERT_NO_FATAL_FAILURE(poll_until(*backend, polled, kJobs, 2));
    EXPECT_EQ(polled.changes, kFailedAndBack);
    for (std::uint64_t i = 0; i < kJobs; ++i) {
        expect_reset(polled.jobs[i], i);
    }
    EXPECT_NE(backend->pid(), first);
    EXPECT_FALSE(backend->recovering());
    EXPECT_EQ(run_on(*backend, add_job(8, 40, 2)).results[0], 42U);
}

TEST_F(WorkerTest, ItHappensAgainAndAgainAndLeavesNothingBehind) {
    const auto backend = make({"cpu"});
    for (std::uint32_t round = 0; round < 10; ++round) {
        Polled polled;
        backend->submit(mischief_job(round, round % 2 == 0 ? Mischief::kDie : Mischief::kLose));
        ASSERT_NO_FATAL_FAILURE(poll_until(*backend, polled, 1, 2));
        EXPECT_EQ(polled.changes, kFailedAndBack);
        expect_reset(polled.jobs[0], round);
        ASSERT_EQ(run_on(*backend, add_job(1, round, 2)).results[0], round + 2);
    }
}

TEST_F(WorkerTest, AWorkerWhoseDeviceIsLostSaysWhyAndIsReplaced) {
    const auto backend = make({"cpu"});
    Polled polled;
    backend->submit(mischief_job(1, Mischief::kHang));
    backend->submit(mischief_job(2, Mischief::kLose));
    ASSERT_NO_FATAL_FAILURE(poll_until(*backend, polled, 2, 2));
    EXPECT_EQ(polled.changes, kFailedAndBack);
    for (const Completion& completion : polled.jobs) {
        EXPECT_EQ(completion.outcome.status, VGPU_ERR_CUDA);
        EXPECT_NE(completion.outcome.data.find("it was asked to"), std::string::npos)
            << completion.outcome.data;
    }
}

TEST_F(WorkerTest, AJobThatIsStoppedTakesTheOthersWithIt) {
    const auto backend = make({"cpu"});
    backend->stop(1);  // no such job
    backend->submit(mischief_job(1, Mischief::kHang));
    backend->submit(mischief_job(2, Mischief::kHang));
    backend->stop(2);
    backend->stop(1);  // has already ended
    Polled polled;
    ASSERT_NO_FATAL_FAILURE(poll_until(*backend, polled, 2, 2));
    EXPECT_EQ(polled.changes, kFailedAndBack);
    expect_reset(polled.jobs[0], 1);
    EXPECT_EQ(polled.jobs[1].token, 2U);
    EXPECT_EQ(polled.jobs[1].outcome.status, VGPU_ERR_CUDA_TIME_LIMIT);
    EXPECT_FALSE(polled.jobs[1].outcome.device_failed);
    EXPECT_GE(polled.jobs[1].outcome.exec_time_us, 1U);
    EXPECT_EQ(run_on(*backend, add_job(3, 40, 2)).results[0], 42U);
}

TEST_F(WorkerTest, JobsThatComeMeanwhileAreAnsweredAtOnce) {
    const auto backend = make({"cpu"});
    ::kill(backend->pid(), SIGKILL);
    Polled polled;
    ASSERT_NO_FATAL_FAILURE(poll_until(*backend, polled, 0, 1));
    EXPECT_EQ(polled.changes, Changes{DeviceChange::kFailed});
    ASSERT_TRUE(backend->recovering());
    backend->submit(add_job(5, 1, 1));
    std::vector<Completion> ended;
    backend->poll(ended);
    ASSERT_FALSE(ended.empty());
    expect_reset(ended[0], 5);
}

TEST_F(WorkerTest, BuffersAreGoneWithTheWorkerAndTheirIdsMeanNothingToTheNext) {
    const auto backend = make({"cpu"});
    Job alloc{.token = 1, .opcode = VGPU_OP_MEMORY_ALLOC, .params = {}};
    alloc.length = 100;
    const BufferId lost = run_on(*backend, alloc).buffer;
    ::kill(backend->pid(), SIGKILL);
    Polled polled;
    ASSERT_NO_FATAL_FAILURE(poll_until(*backend, polled, 0, 2));
    const BufferId next = run_on(*backend, alloc).buffer;
    EXPECT_NE(next, lost);
    Job read{.token = 2, .opcode = VGPU_OP_MEMORY_COPY, .params = {}};
    read.buffers[0] = lost;
    read.length = 4;
    read.copy = VGPU_COPY_FROM_DEVICE;
    EXPECT_EQ(run_on(*backend, read).status, VGPU_ERR_CUDA_INVALID_HANDLE);
    Job release{.token = 3, .opcode = VGPU_OP_MEMORY_FREE, .params = {}};
    release.buffers[0] = lost;
    EXPECT_EQ(run_on(*backend, release).status, VGPU_ERR_NONE);
    read.buffers[0] = next;
    EXPECT_EQ(run_on(*backend, read).data, std::string(4, '\0'));
}

TEST_F(WorkerTest, AWorkerThatAnswersNonsenseIsReplaced) {
    for (const char* const what : {"length", "count", "change", "token", "index"}) {
        SCOPED_TRACE(what);
        const auto backend = make({"garbage", what});
        ASSERT_TRUE(backend);
        const pid_t first = backend->pid();
        backend->submit(add_job(7, 1, 1));
        Polled polled;
        ASSERT_NO_FATAL_FAILURE(poll_until(*backend, polled, 1, 2));
        expect_reset(polled.jobs[0], 7);
        EXPECT_EQ(polled.changes, kFailedAndBack);
        EXPECT_NE(backend->pid(), first);
    }
}

TEST_F(WorkerTest, WhatGoesWrongAtTheStartIsSaid) {
    constexpr std::chrono::milliseconds kLong{20000};
    EXPECT_EQ(why_not({"none"}, kLong), "there is no device here");
    EXPECT_EQ(why_not({"exit"}, kLong),
              "the GPU's worker process exited with status 7 without a word");
    EXPECT_NE(why_not({"mumble"}, kLong), "");
    EXPECT_EQ(why_not({"silent"}, std::chrono::milliseconds(200)),
              "its worker process does not answer");
    const auto none = WorkerBackend::create({.command = {.program = "/nowhere", .arguments = {}}});
    ASSERT_FALSE(none);
    EXPECT_NE(none.error().message.find("cannot start"), std::string::npos);
}

// Starts fail until the file is removed. The back-off is not measured here.
TEST_F(WorkerTest, AWorkerThatCannotStartAgainIsTriedUntilItCan) {
    const test::TempDir dir;
    const std::string path = dir.file("obstacle");
    const auto backend = make({"unless", path});
    std::ofstream(path) << "in the way";
    backend->submit(mischief_job(1, Mischief::kDie));
    Polled polled;
    ASSERT_NO_FATAL_FAILURE(poll_until(*backend, polled, 1, 1));
    // Waits until at least one new process has failed.
    std::set<pid_t> tried;
    const auto deadline = Clock::now() + std::chrono::seconds(20);
    while (tried.size() < 3 && Clock::now() < deadline) {
        std::vector<Completion> none;
        backend->poll(none);
        ASSERT_TRUE(none.empty());
        ASSERT_TRUE(backend->recovering());
        tried.insert(backend->pid());
    }
    EXPECT_GE(tried.size(), 3U);
    std::filesystem::remove(path);
    ASSERT_NO_FATAL_FAILURE(poll_until(*backend, polled, 1, 2));
    EXPECT_EQ(polled.changes, kFailedAndBack);
    EXPECT_EQ(run_on(*backend, add_job(2, 1, 2)).results[0], 3U);
}

TEST_F(WorkerTest, InheritsNothingButWhatItNeeds) {
    const int stray = ::dup(STDERR_FILENO);  // not close-on-exec
    const auto backend = make({"cpu"});
    std::set<std::string> open;
    for (const auto& entry :
         std::filesystem::directory_iterator("/proc/" + std::to_string(backend->pid()) + "/fd")) {
        open.insert(entry.path().filename());
    }
    ::close(stray);
    // The descriptor of the shared memory is closed once it is mapped.
    EXPECT_EQ(open, (std::set<std::string>{"0", "1", "2", std::to_string(kSocketDescriptor)}));
}

TEST_F(WorkerTest, SignalsForTheGroupAreTheMediatorsToAnswer) {
    const auto backend = make({"cpu"});
    const pid_t pid = backend->pid();
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1}) {
        ASSERT_EQ(::kill(pid, number), 0);
        EXPECT_EQ(run_on(*backend, add_job(1, 40, 2)).results[0], 42U);
    }
    EXPECT_EQ(backend->pid(), pid);
}

TEST_F(WorkerTest, EndsWithItsBackendAlsoInTheMiddleOfAJob) {
    auto backend = make({"cpu"});
    backend->submit(mischief_job(1, Mischief::kHang));
    EXPECT_EQ(run_on(*backend, add_job(2, 1, 1)).results[0], 2U);
    backend.reset();
    // Also for a process that would never end by itself.
    backend = make({"cpu"});
    ASSERT_EQ(::kill(backend->pid(), SIGSTOP), 0);
    backend->detach_thread();
    EXPECT_EQ(backend->pid(), -1);
}

TEST_F(WorkerTest, DiesWithAMediatorThatIsKilled) {
    test::Process host({test_worker({}).program, "host", "cpu"});
    ASSERT_TRUE(host.wait_for_output("\n"));
    const std::string said = host.output();
    ASSERT_TRUE(said.starts_with("worker ")) << said;
    const Fd watched(static_cast<int>(::syscall(SYS_pidfd_open, std::stoi(said.substr(7)), 0)));
    if (!watched) {
        GTEST_SKIP() << "this kernel has no pidfd_open";
    }
    host.signal(SIGKILL);
    pollfd end{.fd = watched.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&end, 1, 20000), 1);
    host.wait();
}

// --- Behind the Executor ------------------------------------------------------------------------

struct WorkerBehindExecutor : WorkerTest {
    std::optional<test::ControlLoop> loop;
    pid_t first = -1;

    void start(std::vector<std::string> arguments) {
        auto backend = make(std::move(arguments));
        ASSERT_TRUE(backend);
        first = backend->pid();
        loop.emplace(std::move(backend));
    }
    void submit(const Job& job) { loop->executor().submit(job); }
    void TearDown() override {
        loop.reset();
        WorkerTest::TearDown();
    }
};

// The control loop sleeps after every job, and the worker sleeps too or polls all the time.
TEST_F(WorkerBehindExecutor, JobsAreDoneWhoeverSleeps) {
    for (const char* const spin_us : {"0", "1000"}) {
        ASSERT_NO_FATAL_FAILURE(start({"cpu", spin_us}));
        for (std::uint32_t i = 0; i < 1000; ++i) {
            submit(add_job(i, i, 1));
            const auto ended = loop->take(1);
            ASSERT_EQ(ended.size(), 1U);
            ASSERT_EQ(ended[0].token, i);
            ASSERT_EQ(ended[0].outcome.results[0], i + 1);
        }
        loop.reset();
    }
}

TEST_F(WorkerBehindExecutor, AWorkerThatDiesWhileNobodyAsksIsReplaced) {
    ASSERT_NO_FATAL_FAILURE(start({"cpu"}));
    submit(add_job(1, 1, 1));
    EXPECT_EQ(loop->take(1).size(), 1U);
    ::kill(first, SIGKILL);
    Changes changes;
    for (const Completion& one : loop->take(2)) {
        changes.push_back(one.change);
    }
    EXPECT_EQ(changes, kFailedAndBack);
    submit(add_job(2, 40, 2));
    const auto ended = loop->take(1);
    ASSERT_EQ(ended.size(), 1U);
    EXPECT_EQ(ended[0].outcome.results[0], 42U);
}

TEST_F(WorkerBehindExecutor, EndsWithAJobThatNeverDoes) {
    ASSERT_NO_FATAL_FAILURE(start({"cpu"}));
    submit(mischief_job(1, Mischief::kHang));
    submit(add_job(2, 1, 1));
    EXPECT_EQ(loop->take(1).at(0).token, 2U);
}

}  // namespace
}  // namespace vgpu::worker
