// SPDX-License-Identifier: MIT
#include "gpu/heap_bench.h"

#include <array>
#include <cstdio>

#include "gpu/heap_bench_parts.h"

namespace vgpu::cuda {
namespace {

using namespace bench;

constexpr RegionId kRegion = 1;
constexpr int kManyInFlight = 64;

class Measured {
  public:
    Measured(Backend& backend, std::string who, const HeapBenchOptions& options)
        : backend_(backend), who_(std::move(who)), options_(options) {}

    Result<std::vector<Figure>> run() {
        auto region = Region::create(kBulk + options_.largest);
        if (!region) {
            return std::move(region).error();
        }
        region_ = std::move(region).value();
        const auto began = Clock::now();
        ++submitted_;
        backend_.attach_region(0, kRegion, region_.fd.get(), region_.mapping.size());
        wait_for_all_but(0);
        figures_.push_back({"register " + size_name(region_.mapping.size()) + ", " + who_,
                            micros(Clock::now() - began), "us"});
        Job alloc{.opcode = VGPU_OP_MEMORY_ALLOC, .params = {}};
        alloc.length = options_.largest;
        submit(alloc);
        wait_for_all_but(0);
        add();
        adds_in_flight();
        for (const bool to_device : {true, false}) {
            copies(to_device, kMebibyte, options_.small_copies);
            copies(to_device, options_.largest, options_.large_copies);
        }
        Job release{.opcode = VGPU_OP_MEMORY_FREE, .params = {}};
        release.buffers[0] = buffer_;
        submit(release);
        wait_for_all_but(0);
        ++submitted_;
        backend_.detach_region(0, kRegion);
        wait_for_all_but(0);
        figures_.push_back({"copied by a processor, " + who_,
                            static_cast<double>(backend_.bytes_copied_by_processor()), "bytes"});
        if (!failure_.empty()) {
            return Error{who_ + ": " + failure_};
        }
        return std::move(figures_);
    }

  private:
    void submit(const Job& job) {
        ++submitted_;
        backend_.submit(job);
    }
    // Polls until at most `count` orders are in flight.
    void wait_for_all_but(std::uint64_t count) {
        const auto deadline = Clock::now() + kLimit;
        while (submitted_ - answered_ > count && failure_.empty()) {
            ended_.clear();
            backend_.poll(ended_);
            for (const Completion& one : ended_) {
                answered_ += one.change == DeviceChange::kNone ? 1 : 0;
                if (one.outcome.status != VGPU_ERR_NONE) {
                    failure_ = one.outcome.data;
                }
                if (one.outcome.buffer != 0) {
                    buffer_ = one.outcome.buffer;
                }
            }
            if (ended_.empty() && Clock::now() > deadline) {
                failure_ = "a job did not end";
            }
        }
    }
    [[nodiscard]] Job in_chain(std::uint32_t opcode) {
        Job job{.opcode = opcode, .params = {}};
        job.region = kRegion;
        job.chain = 1;
        job.timeline = kTimeline;
        job.timeline_value = ++value_;
        return job;
    }
    [[nodiscard]] Job add_job() {
        Job job = in_chain(VGPU_OP_VECTOR_ADD);
        job.type = VGPU_TYPE_I32;
        job.heap_operands = 0b111;
        job.heap = {kOperands, kOperands + 4, kOperands + 8};
        job.length = 1;
        return job;
    }

    void add() {
        std::vector<double> seen;
        std::vector<double> completed;
        for (int i = 0; i < options_.adds && failure_.empty(); ++i) {
            const Job job = add_job();
            const auto began = Clock::now();
            submit(job);
            if (!region_.wait_for(kTimeline, value_)) {
                failure_ = "the timeline did not advance";
            }
            seen.push_back(micros(Clock::now() - began));
            wait_for_all_but(0);
            completed.push_back(micros(Clock::now() - began));
        }
        figures_.push_back(of_samples("add n=1, " + who_ + ", on the timeline", std::move(seen)));
        figures_.push_back(of_samples("add n=1, " + who_ + ", completion", std::move(completed)));
    }
    void adds_in_flight() {
        const auto began = Clock::now();
        for (int i = 0; i < options_.adds && failure_.empty(); ++i) {
            wait_for_all_but(kManyInFlight - 1);
            submit(add_job());
        }
        wait_for_all_but(0);
        figures_.push_back(
            {"add n=1, " + who_ + ", " + std::to_string(kManyInFlight) + " in flight, each",
             micros(Clock::now() - began) / options_.adds, "us"});
    }
    void copies(bool to_device, std::uint64_t length, int count) {
        const auto began = Clock::now();
        for (int i = 0; i < count && failure_.empty(); ++i) {
            wait_for_all_but(kInFlight - 1);
            Job job = in_chain(VGPU_OP_MEMORY_COPY);
            job.copy = to_device ? VGPU_COPY_TO_DEVICE : VGPU_COPY_FROM_DEVICE;
            job.buffers[0] = buffer_;
            job.offsets[0] = place(i, length, options_.largest);
            job.heap_data = kBulk + job.offsets[0];
            job.length = length;
            submit(job);
        }
        wait_for_all_but(0);
        figures_.push_back(bandwidth(copy_name(to_device, length) + ", " + who_ + ", " +
                                         std::to_string(kInFlight) + " in flight",
                                     length * static_cast<std::uint64_t>(count),
                                     Clock::now() - began));
    }

    Backend& backend_;
    std::string who_;
    HeapBenchOptions options_;
    Region region_;
    BufferId buffer_ = 0;
    std::uint64_t submitted_ = 0;
    std::uint64_t answered_ = 0;
    std::uint64_t value_ = 0;
    std::string failure_;
    std::vector<Completion> ended_;
    std::vector<Figure> figures_;
};

std::string printed(const char* format, double value) {
    std::array<char, 64> text{};
    static_cast<void>(std::snprintf(text.data(), text.size(), format, value));
    return text.data();
}

}  // namespace

Result<std::vector<Figure>> measure_backend(Backend& backend, const std::string& who,
                                            const HeapBenchOptions& options) {
    backend.attach_thread();
    auto figures = Measured(backend, who, options).run();
    backend.detach_thread();
    return figures;
}

std::string as_table(const std::vector<Figure>& figures) {
    constexpr std::size_t kNameWidth = 62;
    std::string text;
    for (const Figure& figure : figures) {
        std::string line = figure.name;
        line.resize(std::max(line.size() + 1, kNameWidth), ' ');
        line += printed("%12.2f ", figure.value) + figure.unit;
        if (figure.worst > 0) {
            line += printed("   99 %%: %.2f ", figure.worst) + figure.unit;
        }
        text += line + "\n";
    }
    return text;
}

std::string as_json(const std::string& device, const std::vector<Figure>& figures) {
    std::string text = R"({"device": ")" + device + R"(", "figures": [)";
    const char* separator = "\n";
    for (const Figure& figure : figures) {
        text += separator + (R"(  {"name": ")" + figure.name) + R"(", "value": )" +
                printed("%.3f", figure.value) + R"(, "unit": ")" + figure.unit + "\"";
        if (figure.worst > 0) {
            text += R"(, "percentile_99": )" + printed("%.3f", figure.worst);
        }
        text += "}";
        separator = ",\n";
    }
    return text + "\n]}\n";
}

}  // namespace vgpu::cuda
