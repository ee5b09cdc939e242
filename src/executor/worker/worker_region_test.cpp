// SPDX-License-Identifier: MIT
//
// Shared memory of a device in another process: what happens to it and to the jobs that use it when
// that process dies, and how a worker handles descriptors that no mediator would send.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "executor/testing/mischief.h"
#include "executor/testing/test_region.h"
#include "executor/worker/messages.h"
#include "executor/worker/worker.h"
#include "executor/worker/worker_backend.h"

namespace vgpu::worker {
namespace {

using Clock = std::chrono::steady_clock;
using test::TestRegion;

constexpr RegionId kRegion = 3;
constexpr std::uint64_t kHeap = 4096;

Job add_in_heap(std::uint64_t token, RegionId region) {
    Job job{.token = token, .opcode = VGPU_OP_VECTOR_ADD, .params = {}};
    job.region = region;
    job.type = VGPU_TYPE_I32;
    job.heap_operands = 0b111;
    job.heap = {kHeap + 8, kHeap, kHeap + 4};
    job.length = 1;
    return job;
}

Job mischief_in_region(std::uint64_t token, Mischief what) {
    Job job = mischief_job(token, what);
    job.region = kRegion;
    return job;
}

struct WorkerRegions : testing::Test {
    TestRegion memory;
    std::unique_ptr<WorkerBackend> backend;

    void SetUp() override {
        auto made = WorkerBackend::create({.command = test_worker({"cpu"})});
        ASSERT_TRUE(made) << made.error().message;
        backend = std::move(made).value();
    }
    void TearDown() override {
        backend.reset();
        EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a worker is left";
    }

    // Returns the next completion of a job or of a region order.
    std::optional<Completion> next() {
        const auto deadline = Clock::now() + std::chrono::seconds(20);
        while (Clock::now() < deadline) {
            for (; !ended_.empty(); ended_.erase(ended_.begin())) {
                if (ended_.front().change == DeviceChange::kNone) {
                    Completion completion = std::move(ended_.front());
                    ended_.erase(ended_.begin());
                    return completion;
                }
                ++changes;
            }
            backend->poll(ended_);
        }
        ADD_FAILURE() << "nothing ended";
        return std::nullopt;
    }
    // Expects that this order ends with success.
    void expect_done(std::uint64_t token) {
        const auto completion = next();
        ASSERT_TRUE(completion);
        EXPECT_EQ(completion->token, token);
        EXPECT_EQ(completion->outcome.status, VGPU_ERR_NONE) << completion->outcome.data;
    }
    void attach(RegionId region = kRegion) {
        backend->attach_region(50, region, memory.fd(), memory.size());
        expect_done(50);
    }
    void expect_adds(std::uint32_t value, RegionId region = kRegion) {
        *memory.at<std::uint32_t>(kHeap) = value;
        *memory.at<std::uint32_t>(kHeap + 4) = 1;
        backend->submit(add_in_heap(60, region));
        expect_done(60);
        EXPECT_EQ(*memory.at<std::uint32_t>(kHeap + 8), value + 1);
    }
    void recover() {
        const auto deadline = Clock::now() + std::chrono::seconds(20);
        while (backend->recovering() && Clock::now() < deadline) {
            backend->poll(ended_);
        }
        EXPECT_FALSE(backend->recovering());
    }

    int changes = 0;

  private:
    std::vector<Completion> ended_;
};

// Until the worker has been reaped, a GPU might write to the region; then nothing accesses it.
TEST_F(WorkerRegions, AJobThatUsesOneIsAnsweredWhenTheWorkerHasBeenReaped) {
    attach();
    for (const Mischief how : {Mischief::kDie, Mischief::kLose}) {
        const pid_t worker = backend->pid();
        backend->submit(mischief_in_region(1, Mischief::kHang));
        backend->submit(mischief_job(2, Mischief::kHang));
        backend->submit(mischief_in_region(3, how));
        const auto plain = next();
        ASSERT_TRUE(plain);
        EXPECT_EQ(plain->token, 2U) << "it need not wait";
        for (int i = 0; i < 2; ++i) {
            const auto completion = next();
            ASSERT_TRUE(completion);
            EXPECT_NE(completion->token, 2U);
            EXPECT_EQ(completion->outcome.status, VGPU_ERR_CUDA);
            EXPECT_EQ(::kill(worker, 0), -1) << "the process is still there";
        }
        recover();
    }
}

TEST_F(WorkerRegions, AJobThatIsStoppedWaitsForTheWorkersEndToo) {
    attach();
    const pid_t worker = backend->pid();
    backend->submit(mischief_in_region(1, Mischief::kHang));
    backend->stop(1);
    const auto completion = next();
    ASSERT_TRUE(completion);
    EXPECT_EQ(completion->outcome.status, VGPU_ERR_CUDA_TIME_LIMIT);
    EXPECT_EQ(::kill(worker, 0), -1);
}

TEST_F(WorkerRegions, TheNextWorkerHasThem) {
    attach(1);
    attach(2);
    for (std::uint32_t round = 0; round < 5; ++round) {
        ::kill(backend->pid(), SIGKILL);
        const auto deadline = Clock::now() + std::chrono::seconds(20);
        std::vector<Completion> none;
        while (!backend->recovering() && Clock::now() < deadline) {
            backend->poll(none);
        }
        recover();
        expect_adds(round, 1);
        expect_adds(round + 10, 2);
    }
    backend->detach_region(51, 1);
    expect_done(51);
    backend->submit(add_in_heap(7, 1));
    EXPECT_EQ(next()->outcome.status, VGPU_ERR_CUDA);
    expect_adds(5, 2);
}

TEST_F(WorkerRegions, AreAttachedAndDetachedWhileTheDeviceRecovers) {
    attach(1);
    backend->submit(mischief_job(1, Mischief::kDie));
    EXPECT_EQ(next()->token, 1U);
    ASSERT_TRUE(backend->recovering());
    backend->attach_region(52, 2, memory.fd(), memory.size());
    expect_done(52);
    backend->detach_region(53, 1);
    expect_done(53);
    recover();
    expect_adds(41, 2);
    backend->submit(add_in_heap(7, 1));
    EXPECT_EQ(next()->outcome.status, VGPU_ERR_CUDA);
}

TEST_F(WorkerRegions, OnesThatAreUnderWayWhenTheWorkerDiesAreAnswered) {
    attach(1);
    ASSERT_EQ(::kill(backend->pid(), SIGSTOP), 0);
    const pid_t worker = backend->pid();
    backend->attach_region(54, 2, memory.fd(), memory.size());
    backend->detach_region(55, 1);
    ::kill(worker, SIGKILL);
    expect_done(54);
    expect_done(55);
    EXPECT_EQ(::kill(worker, 0), -1);
    recover();
    expect_adds(41, 2);
}

TEST_F(WorkerRegions, ManyGoThroughTheRingInOrderWithJobs) {
    constexpr RegionId kMany = RegionId{3} * kRingSlots;
    *memory.at<std::uint32_t>(kHeap) = 40;
    *memory.at<std::uint32_t>(kHeap + 4) = 2;
    for (RegionId region = 1; region <= kMany; ++region) {
        backend->attach_region(region, region, memory.fd(), memory.size());
        backend->submit(add_in_heap(1000 + region, region));
    }
    for (RegionId i = 0; i < 2 * kMany; ++i) {
        const auto completion = next();
        ASSERT_TRUE(completion);
        EXPECT_EQ(completion->outcome.status, VGPU_ERR_NONE) << completion->outcome.data;
    }
    for (RegionId region = 1; region <= kMany; ++region) {
        backend->detach_region(region, region);
    }
    for (RegionId region = 1; region <= kMany; ++region) {
        expect_done(region);
    }
    EXPECT_EQ(*memory.at<std::uint32_t>(kHeap + 8), 42U);
    EXPECT_EQ(changes, 0);
}

TEST_F(WorkerRegions, TheWorkerKeepsNoDescriptor) {
    const auto count = [this] {
        const auto open =
            std::filesystem::directory_iterator("/proc/" + std::to_string(backend->pid()) + "/fd");
        return std::distance(begin(open), end(open));
    };
    const auto before = count();
    for (RegionId region = 1; region <= 10; ++region) {
        attach(region);
    }
    EXPECT_EQ(count(), before);
}

// Prevents a process from opening any more descriptors: the standard ones are in use.
void allow_no_more_descriptors(pid_t process) {
    const rlimit limit{.rlim_cur = STDERR_FILENO + 1, .rlim_max = STDERR_FILENO + 1};
    ASSERT_EQ(::prlimit(process, RLIMIT_NOFILE, &limit, nullptr), 0);
}

TEST_F(WorkerRegions, AWorkerWithoutDescriptorsSaysSoAndGoesOn) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "a sanitizer's checks need descriptors of their own";
#endif
    attach(1);
    const pid_t worker = backend->pid();
    allow_no_more_descriptors(worker);
    backend->attach_region(56, 2, memory.fd(), memory.size());
    const auto failed = next();
    ASSERT_TRUE(failed);
    EXPECT_EQ(failed->token, 56U);
    EXPECT_EQ(failed->outcome.status, VGPU_ERR_CUDA);
    EXPECT_NE(failed->outcome.data.find("LimitNOFILE"), std::string::npos) << failed->outcome.data;
    expect_adds(41, 1);
    EXPECT_EQ(backend->pid(), worker);
    EXPECT_EQ(changes, 0);
}

TEST_F(WorkerRegions, OneThatTheNextWorkerCannotTakeIsToldAgain) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "a sanitizer's checks need descriptors of their own";
#endif
    attach(1);
    const pid_t first = backend->pid();
    ::kill(first, SIGKILL);
    const auto deadline = Clock::now() + std::chrono::seconds(20);
    std::vector<Completion> none;
    while ((backend->pid() == first || backend->pid() <= 0) && Clock::now() < deadline) {
        backend->poll(none);
    }
    // The next worker receives the regions once this process has read its greeting. Its name shows
    // that it has called Channel::open().
    const std::string name = "/proc/" + std::to_string(backend->pid()) + "/comm";
    for (std::string comm; comm != "vgpu-gpu-worker" && Clock::now() < deadline;) {
        std::ifstream file(name);
        std::getline(file, comm);
    }
    allow_no_more_descriptors(backend->pid());
    recover();
    const auto failed = next();
    ASSERT_TRUE(failed);
    EXPECT_EQ(failed->token, 50U) << "that of the order that attached it";
    EXPECT_EQ(failed->outcome.status, VGPU_ERR_CUDA);
    backend->submit(add_in_heap(7, 1));
    EXPECT_EQ(next()->outcome.status, VGPU_ERR_CUDA);
}

TEST_F(WorkerRegions, BytesThatAProcessorCopiesAreCountedOverAllWorkers) {
    attach();
    Job alloc{.token = 1, .opcode = VGPU_OP_MEMORY_ALLOC, .params = {}};
    alloc.length = 5000;
    for (std::uint64_t round = 1; round <= 3; ++round) {
        backend->submit(alloc);
        const auto allocated = next();
        ASSERT_TRUE(allocated);
        Job copy{.token = 2, .opcode = VGPU_OP_MEMORY_COPY, .params = {}};
        copy.region = kRegion;
        copy.buffers[0] = allocated->outcome.buffer;
        copy.length = 5000;
        copy.copy = VGPU_COPY_TO_DEVICE;
        copy.heap_data = kHeap;
        backend->submit(copy);
        expect_done(2);
        EXPECT_EQ(backend->bytes_copied_by_processor(), 5000 * round);
        backend->submit(mischief_job(3, Mischief::kDie));
        EXPECT_EQ(next()->token, 3U);
        recover();
        EXPECT_EQ(backend->bytes_copied_by_processor(), 5000 * round);
    }
}

// The next worker does not know which stores the previous one failed to make.
TEST_F(WorkerRegions, ATimelineThatAFailureHasStoppedStaysStoppedInTheNextWorker) {
    constexpr std::uint64_t kTimeline = 64;
    attach();
    const auto submit = [&](std::uint64_t value, std::uint32_t run) {
        Job job = add_in_heap(value, kRegion);
        job.chain = 9;
        job.timeline = kTimeline;
        job.timeline_value = value;
        job.timeline_run = run;
        backend->submit(job);
        const auto completion = next();
        EXPECT_EQ(completion->token, value);
        return completion->outcome.timeline_written;
    };
    EXPECT_TRUE(submit(1, 0));
    backend->submit(mischief_job(50, Mischief::kDie));
    EXPECT_EQ(next()->token, 50U);
    ASSERT_TRUE(backend->recovering());
    EXPECT_FALSE(submit(2, 0));
    recover();
    EXPECT_FALSE(submit(3, 0));
    EXPECT_EQ(memory.word(kTimeline), 1U);
    EXPECT_TRUE(submit(4, 1));
    EXPECT_EQ(memory.word(kTimeline), 4U);
}

// --- Input that no mediator sends ---------------------------------------------------------------

// A worker whose mediator ends are held by the test.
struct BareWorker : testing::Test {
    std::unique_ptr<WorkerProcess> process;
    std::optional<RingWriter<JobRecord, kRingSlots>> jobs;
    std::optional<RingReader<CompletionRecord, kRingSlots>> completions;

    void SetUp() override {
        auto started = WorkerProcess::start(test_worker({"cpu"}));
        ASSERT_TRUE(started);
        process = std::move(started).value();
        jobs.emplace(process->memory().jobs);
        completions.emplace(process->memory().completions);
        Greeting greeting{};
        pollfd readable{.fd = process->socket(), .events = POLLIN, .revents = 0};
        ASSERT_EQ(::poll(&readable, 1, 20000), 1);
        ASSERT_EQ(::recv(process->socket(), &greeting, sizeof greeting, 0),
                  static_cast<ssize_t>(sizeof greeting));
        EXPECT_TRUE(read_greeting(greeting));
    }

    void send(const void* bytes, std::size_t length, const std::vector<int>& descriptors) const {
        iovec part{.iov_base = const_cast<void*>(bytes), .iov_len = length};
        alignas(cmsghdr) std::array<char, CMSG_SPACE(16 * sizeof(int))> control{};
        msghdr header{};
        header.msg_iov = &part;
        header.msg_iovlen = 1;
        if (!descriptors.empty()) {
            header.msg_control = control.data();
            header.msg_controllen = CMSG_SPACE(descriptors.size() * sizeof(int));
            cmsghdr* const rights = CMSG_FIRSTHDR(&header);
            rights->cmsg_level = SOL_SOCKET;
            rights->cmsg_type = SCM_RIGHTS;
            rights->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
            std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size() * sizeof(int));
        }
        ASSERT_EQ(::sendmsg(process->socket(), &header, MSG_NOSIGNAL),
                  static_cast<ssize_t>(length));
    }
    void send_region(RegionId region, const std::vector<int>& descriptors) const {
        const RegionMessage message{
            .magic = RegionMessage::kMagic, .reserved = 0, .region = region};
        send(&message, sizeof message, descriptors);
    }
    void order_attach(RegionId region, std::uint64_t size) {
        JobRecord* const record = jobs->reserve();
        ASSERT_NE(record, nullptr);
        record->token = 9;
        record->order = static_cast<std::uint32_t>(Order::kAttach);
        record->region = region;
        record->length = size;
        if (jobs->commit()) {
            send("", 1, {});
        }
    }
    void expect_confused() const {
        ASSERT_TRUE(process->wait(std::chrono::seconds(20)));
        EXPECT_EQ(process->how_it_ended(), "exited with status " + std::to_string(kExitConfused));
    }
    std::optional<Completion> next() {
        const auto deadline = Clock::now() + std::chrono::seconds(20);
        while (Clock::now() < deadline) {
            if (const CompletionRecord* const record = completions->peek()) {
                auto completion = read_completion(*record);
                completions->take();
                return completion;
            }
        }
        ADD_FAILURE() << "no answer";
        return std::nullopt;
    }
};

TEST_F(BareWorker, IsNotConfusedByARegionThatIsRight) {
    const TestRegion memory;
    send_region(4, {memory.fd()});
    order_attach(4, memory.size());
    const auto completion = next();
    ASSERT_TRUE(completion);
    EXPECT_EQ(completion->outcome.status, VGPU_ERR_NONE) << completion->outcome.data;
}

TEST_F(BareWorker, AnswersWithAnErrorWhereTheMemoryIsNotWhatItHasToBe) {
    const Fd unsealed = test::memory_file(8192, F_SEAL_GROW);
    send_region(4, {unsealed.get()});
    order_attach(4, 8192);
    EXPECT_EQ(next()->outcome.status, VGPU_ERR_CUDA);
    const Fd small = test::memory_file(8192);
    send_region(5, {small.get()});
    order_attach(5, 16384);
    EXPECT_EQ(next()->outcome.status, VGPU_ERR_CUDA);
    send_region(6, {STDERR_FILENO});
    order_attach(6, 8192);
    EXPECT_EQ(next()->outcome.status, VGPU_ERR_CUDA);
}

TEST_F(BareWorker, EndsWhereTheDescriptorIsMissing) {
    order_attach(4, 8192);
    expect_confused();
}

TEST_F(BareWorker, EndsWhereItIsAnotherRegions) {
    const TestRegion memory;
    send_region(5, {memory.fd()});
    order_attach(4, memory.size());
    expect_confused();
}

TEST_F(BareWorker, EndsWhereAMessageBringsNoDescriptor) {
    send_region(4, {});
    expect_confused();
}

TEST_F(BareWorker, EndsWhereAMessageBringsTooMany) {
    const TestRegion memory;
    send_region(4, std::vector<int>(2, memory.fd()));
    expect_confused();
}

TEST_F(BareWorker, EndsWhereAMessageBringsMoreThanFit) {
    const TestRegion memory;
    send_region(4, std::vector<int>(16, memory.fd()));
    expect_confused();
}

TEST_F(BareWorker, EndsWhereAWakeBringsADescriptor) {
    const TestRegion memory;
    send("", 1, {memory.fd()});
    expect_confused();
}

TEST_F(BareWorker, EndsWhereAMessageIsAnotherOrTooLong) {
    const std::array<char, sizeof(RegionMessage) + 1> bytes{};
    const TestRegion memory;
    send(bytes.data(), bytes.size(), {memory.fd()});
    expect_confused();
}

TEST_F(BareWorker, EndsWhereAnOrderIsUnknown) {
    JobRecord* const record = jobs->reserve();
    ASSERT_NE(record, nullptr);
    record->order = 77;
    if (jobs->commit()) {
        send("", 1, {});
    }
    expect_confused();
}

}  // namespace
}  // namespace vgpu::worker
