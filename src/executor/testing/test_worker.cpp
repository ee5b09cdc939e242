// SPDX-License-Identifier: MIT
//
// vgpu-test-worker: a worker process for tests, never installed. Its first argument is one of:
//
//   cpu [SPIN]       the CPU backend, with fault injection (below); polls for SPIN µs
//   cuda INDEX       the CUDA backend on that device, with fault injection
//   unless PATH      as cpu, but exits at once with status 9 if there is a file PATH
//   none             greets with an error text: there is no device
//   exit             exits at once with status 7
//   silent           never greets
//   mumble           greets with an invalid message
//   garbage WHAT     greets as the CPU backend and sends an invalid completion for a job: WHAT is
//                    length, count, change, token, or index
//   host ARGUMENT…   not a worker: starts itself with these arguments, prints "worker PID", waits
//
// A CUDA_KERNEL with kMischief as its first parameter requests a fault; the second selects it.
// Faults are implemented here, and not in any backend, so that only tests can request them.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "executor/cpu/cpu_backend.h"
#include "executor/cuda/cuda_backend.h"
#include "executor/testing/mischief.h"
#include "executor/worker/worker.h"
#include "executor/worker/worker_backend.h"

namespace vgpu::worker {
namespace {

constexpr std::chrono::microseconds kSpin{50};

// Kernels that fault.
constexpr const char* kFaults = R"(
.version 6.4
.target sm_75
.address_size 64
.visible .entry store_to_nowhere()
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<2>;
    mov.u64 %rd1, 16;
    mov.u32 %r1, 1;
    st.global.u32 [%rd1], %r1;
    ret;
}
.visible .entry trap_at_once()
{
    trap;
}
)";

// Launches such a kernel in the current context, beside the backend's own work.
void provoke(const char* kernel) {
    const auto api = cuda::Api::load();
    cuda::Module module = nullptr;
    cuda::Function function = nullptr;
    if (!api || api->module_load_data_ex(&module, kFaults, 0, nullptr, nullptr) != cuda::kSuccess ||
        api->module_get_function(&function, module, kernel) != cuda::kSuccess ||
        api->launch_kernel(function, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr) !=
            cuda::kSuccess) {
        static_cast<void>(std::fprintf(stderr, "test worker: cannot start %s\n", kernel));
    }
}

class MischievousBackend final : public Backend {
  public:
    explicit MischievousBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

    [[nodiscard]] const DeviceInfo& info() const override { return inner_->info(); }
    [[nodiscard]] bool immediate(const Job& job) const override { return inner_->immediate(job); }
    Outcome run(const Job& job) override { return inner_->run(job); }
    void attach_thread() override { inner_->attach_thread(); }
    void submit(const Job& job) override {
        if (job.opcode == VGPU_OP_CUDA_KERNEL && job.params[0] == kMischief) {
            switch (static_cast<Mischief>(job.params[1])) {
                case Mischief::kDie:
                    ::kill(::getpid(), SIGKILL);
                    break;
                case Mischief::kHang:
                    return;  // never completes
                case Mischief::kLose:
                    lost_ = true;
                    failed_.push_back(
                        {0, failed_device_outcome("it was asked to"), DeviceChange::kFailed});
                    failed_.push_back(
                        {job.token, failed_device_outcome(
                                        "the GPU failed and is being reset: it was asked to")});
                    return;
                case Mischief::kStoreToNowhere:
                    provoke("store_to_nowhere");
                    break;
                case Mischief::kTrap:
                    provoke("trap_at_once");
                    break;
            }
        }
        inner_->submit(job);
    }
    void poll(std::vector<Completion>& ended) override {
        std::move(failed_.begin(), failed_.end(), std::back_inserter(ended));
        failed_.clear();
        inner_->poll(ended);
    }
    void attach_region(std::uint64_t token, RegionId region, int fd, std::uint64_t size) override {
        inner_->attach_region(token, region, fd, size);
    }
    void detach_region(std::uint64_t token, RegionId region) override {
        inner_->detach_region(token, region);
    }
    [[nodiscard]] bool writes_timeline() const override { return inner_->writes_timeline(); }
    [[nodiscard]] std::uint64_t bytes_copied_by_processor() const override {
        return inner_->bytes_copied_by_processor();
    }
    [[nodiscard]] bool lost() const override { return lost_ || inner_->lost(); }
    void detach_thread() override { inner_->detach_thread(); }

  private:
    std::unique_ptr<Backend> inner_;
    std::vector<Completion> failed_;
    bool lost_ = false;
};

Result<std::unique_ptr<Backend>> make_cpu() {
    return std::unique_ptr<Backend>(
        std::make_unique<MischievousBackend>(std::make_unique<CpuBackend>()));
}

Result<std::unique_ptr<Backend>> make_cuda(int index) {
    const auto api = cuda::Api::load();
    if (!api) {
        return api.error();
    }
    auto made = cuda::CudaBackend::create(*api, index);
    if (!made) {
        return std::move(made).error();
    }
    return std::unique_ptr<Backend>(std::make_unique<MischievousBackend>(std::move(made).value()));
}

void wait_for_the_end(int socket) {
    // Readable on each wake-up; only end of file also causes POLLHUP.
    pollfd watched{.fd = socket, .events = 0, .revents = 0};
    while (::poll(&watched, 1, -1) < 0 || (watched.revents & POLLHUP) == 0) {
    }
}

int answer_with_garbage(Channel channel, const std::string& what) {
    channel.greet(CpuBackend().info());
    RingReader jobs(channel.memory().jobs);
    const JobRecord* job = nullptr;
    while ((job = jobs.peek()) == nullptr && channel.mediator_lives()) {
    }
    if (job == nullptr) {
        return 0;
    }
    RingWriter completions(channel.memory().completions);
    CompletionRecord& record = *completions.reserve();
    write_completion({job->token, {}}, record);
    if (what == "length") {
        record.data_length = 0xFFFFFFF0;
    } else if (what == "count") {
        record.result_count = 1000;
    } else if (what == "change") {
        record.change = 77;
    } else if (what == "token") {
        record.token += std::uint64_t{1} << 40U;
    }
    if (what == "index") {
        channel.memory().completions.written = 0x40000000;
    } else {
        static_cast<void>(completions.commit());
    }
    channel.wake_mediator();
    wait_for_the_end(channel.socket());
    return 0;
}

int host(std::vector<std::string> arguments) {
    auto made = WorkerBackend::create(
        {.command = {.program = "/proc/self/exe", .arguments = std::move(arguments)}});
    if (!made) {
        static_cast<void>(std::fprintf(stderr, "%s\n", made.error().message.c_str()));
        return 1;
    }
    static_cast<void>(std::printf("worker %d\n", (*made)->pid()));
    static_cast<void>(std::fflush(stdout));
    for (;;) {
        ::pause();
    }
}

int run(const std::vector<std::string>& arguments) {
    const std::string mode = arguments.empty() ? "" : arguments[0];
    const std::string detail = arguments.size() > 1 ? arguments[1] : "";
    if (mode == "host") {
        return host({arguments.begin() + 1, arguments.end()});
    }
    if (mode == "exit") {
        return 7;
    }
    if (mode == "unless" && std::filesystem::exists(detail)) {
        return 9;
    }
    auto channel = Channel::open();
    if (!channel) {
        static_cast<void>(std::fprintf(stderr, "%s\n", channel.error().message.c_str()));
        return 2;
    }
    if (mode == "cpu" || mode == "unless") {
        const bool told = mode == "cpu" && !detail.empty();
        return run_worker(std::move(channel).value(), make_cpu,
                          told ? std::chrono::microseconds(std::stoi(detail)) : kSpin);
    }
    if (mode == "cuda") {
        return run_worker(
            std::move(channel).value(), [&] { return make_cuda(std::stoi(detail)); }, kSpin);
    }
    if (mode == "none") {
        return run_worker(
            std::move(channel).value(),
            []() -> Result<std::unique_ptr<Backend>> { return Error{"there is no device here"}; },
            kSpin);
    }
    if (mode == "garbage") {
        return answer_with_garbage(std::move(channel).value(), detail);
    }
    if (mode == "mumble") {
        static_cast<void>(::send(channel->socket(), "good day", 8, MSG_NOSIGNAL));
    }
    wait_for_the_end(channel->socket());
    return 0;
}

}  // namespace
}  // namespace vgpu::worker

int main(int argc, char** argv) {
    return vgpu::worker::run({argv + 1, argv + argc});
}
