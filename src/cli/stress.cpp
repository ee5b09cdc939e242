// SPDX-License-Identifier: MIT
//
// vgpu stress: additions of random numbers through the registers and through a queue at the same
// time, each result compared with the guest's own arithmetic. An error is counted by its name and
// the work goes on, so that it can run while a mediator is restarted. A wrong result is counted
// apart from the errors.
#include <iomanip>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "cli/common.h"
#include "cli/latency.h"

namespace vgpu::cli {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kReply = 256;  // bytes of each reply's place
// With a least number of additions, the run ends after this many times its length all the same.
constexpr int kLongest = 10;
// Pause after an error: a mediator that is restarted takes some time.
constexpr auto kPause = std::chrono::milliseconds(20);
// Additions through the queue between two matrix products.
constexpr std::uint64_t kMatrixEvery = 64;

// What was done by one path with one operation.
struct Tally {
    std::string path;
    std::string operation;
    LatencyHistogram latency;                  // of what was answered
    std::chrono::nanoseconds longest_open{0};  // the longest that taking a queue took
    std::uint64_t wrong = 0;
    std::string first_wrong;  // a sentence
    std::map<std::string, std::uint64_t> errors;

    void count_wrong(const std::string& what) {
        if (wrong++ == 0) {
            first_wrong = what;
        }
    }
    void count_error(const Failure& failure) { ++errors[vgpu_code_name(failure.code)]; }
};

// When one path sends its additions, and when its run ends. With a rate, each addition is due at a
// time of its own, however late those before it are, and its time counts from there: a stall delays
// all that are due in it, and is not counted as one slow addition.
class Schedule {
  public:
    explicit Schedule(const StressOptions& options)
        : least_(options.count),
          interval_(options.rate == 0
                        ? std::chrono::nanoseconds(0)
                        : std::chrono::nanoseconds(std::chrono::seconds(1)) / options.rate),
          due_(Clock::now()),
          end_(due_ + options.length),
          longest_(due_ + kLongest * options.length) {}

    // Whether to go on after so many answers.
    [[nodiscard]] bool more(std::uint64_t answered) const {
        const auto now = Clock::now();
        const auto next = paced() ? due_ : now;
        return next < end_ || (answered < least_ && now < longest_);
    }

    // Waits until the next `count` additions are due. The time from which theirs counts.
    Clock::time_point next(std::uint32_t count) {
        if (!paced()) {
            return Clock::now();
        }
        const auto due = due_;
        due_ += interval_ * count;
        std::this_thread::sleep_until(due);
        return due;
    }

  private:
    [[nodiscard]] bool paced() const { return interval_.count() != 0; }

    std::uint64_t least_;
    std::chrono::nanoseconds interval_;
    Clock::time_point due_;
    Clock::time_point end_;
    Clock::time_point longest_;
};

std::string sum_text(std::uint32_t a, std::uint32_t b, std::uint32_t sum) {
    return std::to_string(a) + " + " + std::to_string(b) + " came back as " + std::to_string(sum);
}

// Requests through the registers, one after the other.
void stress_registers(Device& device, const Settings& settings, Schedule schedule,
                      std::uint32_t seed, Tally& tally) {
    std::mt19937 random(seed);
    while (schedule.more(tally.latency.count())) {
        const auto a = static_cast<std::uint32_t>(random());
        const auto b = static_cast<std::uint32_t>(random());
        const auto start = schedule.next(1);
        const auto sum = device.add(a, b, settings.timeout);
        const auto took = Clock::now() - start;
        if (!sum) {
            tally.count_error(sum.failure());
            std::this_thread::sleep_for(kPause);
            continue;
        }
        tally.latency.add(took);
        if (*sum != a + b) {
            tally.count_wrong(sum_text(a, b, *sum));
        }
    }
}

// Commands through one queue, which is opened again after an error.
class QueueStress {
  public:
    QueueStress(Device& device, const Settings& settings, const StressOptions& options,
                std::uint32_t seed, Tally& adds, Tally& products)
        : device_(device),
          limit_(settings.timeout),
          in_flight_(options.in_flight),
          extent_(options.matrix),
          random_(seed),
          adds_(adds),
          products_(products) {}

    void run(Schedule schedule) {
        std::uint64_t until_product = kMatrixEvery;
        while (schedule.more(adds_.latency.count())) {
            const bool product = extent_ != 0 && until_product == 0;
            Tally& tally = product ? products_ : adds_;
            auto done = open_if_closed();
            if (done) {
                done = product ? multiply() : add_some(schedule);
            }
            if (!done) {
                tally.count_error(done.failure());
                close();
                std::this_thread::sleep_for(kPause);
                continue;
            }
            until_product =
                product ? kMatrixEvery
                        : until_product - std::min<std::uint64_t>(until_product, in_flight_);
        }
        close();
    }

  private:
    // What a queue is used with. The replies of additions, then of the four commands of a product;
    // then the two factors and the product.
    struct Open {
        Queue queue;
        HeapBlock replies;
        std::optional<HeapBlock> matrices;
    };
    struct Addition {
        std::uint32_t a;
        std::uint32_t b;
        Queue::Point point;
    };
    static constexpr std::uint32_t kProductCommands = 3;

    [[nodiscard]] std::uint64_t cells() const { return std::uint64_t{extent_} * extent_; }

    Outcome<void> open_if_closed() {
        if (open_) {
            return {};
        }
        Outcome<Queue> queue = Failure{};
        const auto took = time_of([&] { queue = Queue::open(device_, VGPU_QUEUE_ANY, limit_); });
        adds_.longest_open = std::max(adds_.longest_open, took);
        if (!queue) {
            return queue.failure();
        }
        auto replies =
            HeapBlock::take(device_, std::uint64_t{kReply} * (in_flight_ + kProductCommands));
        if (!replies) {
            return replies.failure();
        }
        open_ = Open{*std::move(queue), *std::move(replies), std::nullopt};
        if (extent_ != 0) {
            auto matrices = HeapBlock::take(device_, 3 * cells() * 4);
            if (!matrices) {
                close();
                return matrices.failure();
            }
            open_->matrices = *std::move(matrices);
        }
        return {};
    }

    // The queue first: until it is closed, its commands may write to the blocks.
    void close() {
        if (open_) {
            { const Queue closed = std::move(open_->queue); }
            open_.reset();
        }
    }

    [[nodiscard]] ReplyPlace place(std::uint32_t slot) {
        return open_->replies.reply_place(std::uint64_t{slot} * kReply, kReply, ++cookie_);
    }

    // As many additions as may be in flight, with one flush.
    Outcome<void> add_some(Schedule& schedule) {
        Queue& queue = open_->queue;
        std::vector<Addition>& sent = sent_;
        std::vector<ReplyPlace>& places = places_;
        const auto start = schedule.next(in_flight_);
        sent.clear();
        places.clear();
        for (std::uint32_t slot = 0; slot != in_flight_; ++slot) {
            const auto a = static_cast<std::uint32_t>(random_());
            const auto b = static_cast<std::uint32_t>(random_());
            places.push_back(place(slot));
            const auto point = queue.push_add(a, b, places.back());
            if (!point) {
                return point.failure();
            }
            sent.push_back({a, b, *point});
        }
        if (auto flushed = queue.flush(); !flushed) {
            return flushed;
        }
        for (std::size_t i = 0; i != sent.size(); ++i) {
            if (auto waited = queue.wait(sent[i].point, limit_); !waited) {
                return waited;
            }
            const auto took = Clock::now() - start;
            const auto reply = queue.read_reply(places[i]);
            if (!reply) {
                return reply.failure();
            }
            adds_.latency.add(took);
            const std::uint32_t sum = reply->result_count == 1 ? reply->results[0] : 0;
            if (reply->result_count != 1 || sum != sent[i].a + sent[i].b) {
                adds_.count_wrong(sum_text(sent[i].a, sent[i].b, sum));
            }
        }
        return {};
    }

    // One product, C = A B, into a buffer of the GPU and from there into the heap. A = u v^T and
    // B = w x^T are made of random vectors, so that C = (v w) u x^T, which takes the guest far
    // fewer operations than the GPU.
    Outcome<void> multiply() {
        make_factors();
        const auto start = Clock::now();
        const auto handle = open_->queue.alloc(cells() * 4, limit_);
        if (!handle) {
            return handle.failure();
        }
        auto done = multiply_into(*handle);
        // What fails here has failed before, or the mediator is gone and the buffer with it.
        (void)open_->queue.free(*handle, limit_);
        if (!done) {
            return done;
        }
        products_.latency.add(Clock::now() - start);
        check_product();
        return {};
    }

    Outcome<void> multiply_into(std::uint32_t handle) {
        Queue& queue = open_->queue;
        const HeapBlock& matrices = *open_->matrices;
        const std::uint64_t bytes = cells() * 4;
        const ReplyPlace multiplied = place(in_flight_);
        const ReplyPlace copied = place(in_flight_ + 1);
        if (const auto pushed =
                queue.push_matmul(VGPU_TYPE_I32, handle, matrices.operand(),
                                  matrices.operand(bytes), extent_, extent_, extent_, multiplied);
            !pushed) {
            return pushed.failure();
        }
        const auto last =
            queue.push_copy_from(handle, 0, matrices.offset() + 2 * bytes, bytes, copied);
        if (!last) {
            return last.failure();
        }
        if (auto waited = queue.wait(*last, limit_); !waited) {
            return waited;
        }
        for (const ReplyPlace& one : {multiplied, copied}) {
            if (const auto reply = queue.read_reply(one); !reply) {
                return reply.failure();
            }
        }
        return {};
    }

    void make_factors() {
        u_.resize(extent_);
        x_.resize(extent_);
        inner_ = 0;
        std::vector<std::uint32_t> v(extent_);
        std::vector<std::uint32_t> w(extent_);
        for (std::uint32_t i = 0; i != extent_; ++i) {
            u_[i] = static_cast<std::uint32_t>(random_());
            x_[i] = static_cast<std::uint32_t>(random_());
            v[i] = static_cast<std::uint32_t>(random_());
            w[i] = static_cast<std::uint32_t>(random_());
            inner_ += v[i] * w[i];
        }
        const auto words = open_->matrices->as<std::uint32_t>();
        for (std::uint64_t row = 0; row != extent_; ++row) {
            for (std::uint64_t column = 0; column != extent_; ++column) {
                words[row * extent_ + column] = u_[row] * v[column];
                words[cells() + row * extent_ + column] = w[row] * x_[column];
                words[2 * cells() + row * extent_ + column] = 0;
            }
        }
    }

    void check_product() {
        const auto product = open_->matrices->as<std::uint32_t>().subspan(2 * cells());
        for (std::uint64_t row = 0; row != extent_; ++row) {
            const std::uint32_t factor = inner_ * u_[row];
            for (std::uint64_t column = 0; column != extent_; ++column) {
                const std::uint32_t found = product[row * extent_ + column];
                if (found != factor * x_[column]) {
                    products_.count_wrong("row " + std::to_string(row) + ", column " +
                                          std::to_string(column) + " of a product is " +
                                          std::to_string(found) + ", not " +
                                          std::to_string(factor * x_[column]));
                    return;
                }
            }
        }
    }

    Device& device_;
    std::chrono::nanoseconds limit_;
    std::uint32_t in_flight_;
    std::uint32_t extent_;
    std::mt19937 random_;
    std::uint64_t cookie_ = 0;
    Tally& adds_;
    Tally& products_;
    std::optional<Open> open_;
    std::vector<Addition> sent_;
    std::vector<ReplyPlace> places_;
    // Of the product under test.
    std::vector<std::uint32_t> u_;
    std::vector<std::uint32_t> x_;
    std::uint32_t inner_ = 0;
};

double microseconds(std::chrono::nanoseconds time) {
    return static_cast<double>(time.count()) / 1e3;
}

json tally_json(const Tally& tally, double seconds) {
    const LatencyHistogram& latency = tally.latency;
    json made{
        {"path", tally.path},     {"operation", tally.operation},
        {"n", latency.count()},   {"wrong", tally.wrong},
        {"errors", tally.errors}, {"per_second", static_cast<double>(latency.count()) / seconds}};
    if (latency.count() != 0) {
        made.update({{"min_us", microseconds(latency.least())},
                     {"mean_us", microseconds(latency.mean())},
                     {"p50_us", microseconds(latency.percentile(0.50))},
                     {"p99_us", microseconds(latency.percentile(0.99))},
                     {"max_us", microseconds(latency.greatest())}});
    }
    if (tally.path == "queue" && tally.operation == "add") {
        made["open_us"] = microseconds(tally.longest_open);
    }
    if (tally.wrong != 0) {
        made["first_wrong"] = tally.first_wrong;
    }
    return made;
}

void print_tally(const json& line) {
    std::cout << std::left << std::setw(10) << line["path"].get<std::string>() << std::setw(10)
              << line["operation"].get<std::string>() << std::right << std::setw(10)
              << line["n"].get<std::uint64_t>() << std::setw(7)
              << line["wrong"].get<std::uint64_t>();
    std::uint64_t errors = 0;
    for (const auto& [name, count] : line["errors"].items()) {
        errors += count.get<std::uint64_t>();
    }
    std::cout << std::setw(8) << errors << std::fixed << std::setprecision(1);
    for (const char* key : {"p50_us", "p99_us", "max_us"}) {
        if (line.contains(key)) {
            std::cout << std::setw(12) << line[key].get<double>();
        } else {
            std::cout << std::setw(12) << "-";
        }
    }
    std::cout << std::setprecision(0) << std::setw(10) << line["per_second"].get<double>() << '\n';
    for (const auto& [name, count] : line["errors"].items()) {
        std::cout << "          " << count << " times " << name << '\n';
    }
    if (line.contains("open_us")) {
        std::cout << "          taking the queue took " << std::setprecision(1)
                  << line["open_us"].get<double>() << " us\n";
    }
    if (line.contains("first_wrong")) {
        std::cout << "          the first wrong one: " << line["first_wrong"].get<std::string>()
                  << '\n';
    }
}

}  // namespace

int run_stress(const Settings& settings, const StressOptions& options) {
    OpenOptions open = settings.open;
    open.for_queues = true;
    auto device = Device::open(open);
    if (!device) {
        return report_failure(settings, device.failure());
    }
    const bool has_queues = device->shm_info().size != 0;
    if (options.path == "queue" && !has_queues) {
        return report_failure(
            settings,
            {VGPU_E_NO_QUEUES, "the device has no shared memory, so there are no queues", 0});
    }
    // Other numbers for each VM and run, so that another VM's answer, or an old one, is noticed.
    const std::uint32_t seed = device->properties().vm_id * 7919 + std::random_device()();
    const Schedule schedule(options);
    Tally by_registers{.path = is_socket(settings) ? "socket" : "registers",
                       .operation = "add",
                       .latency = {},
                       .first_wrong = {},
                       .errors = {}};
    Tally by_queue{
        .path = "queue", .operation = "add", .latency = {}, .first_wrong = {}, .errors = {}};
    Tally products{
        .path = "queue", .operation = "matmul", .latency = {}, .first_wrong = {}, .errors = {}};
    const bool queue_wanted = options.path != "registers" && has_queues;
    const auto start = Clock::now();
    {
        std::jthread queue_thread;
        if (queue_wanted) {
            queue_thread = std::jthread([&] {
                QueueStress(*device, settings, options, seed, by_queue, products).run(schedule);
            });
        }
        if (options.path != "queue") {
            stress_registers(*device, settings, schedule, seed + 1, by_registers);
        }
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    json lines = json::array();
    bool ok = true;
    const auto add_line = [&](const Tally& tally) {
        lines.push_back(tally_json(tally, seconds));
        ok = ok && tally.wrong == 0 && tally.errors.empty() &&
             (tally.operation != "add" || tally.latency.count() >= options.count);
    };
    if (options.path != "queue") {
        add_line(by_registers);
    }
    if (queue_wanted) {
        add_line(by_queue);
    }
    if (queue_wanted && options.matrix != 0) {
        add_line(products);
    }
    if (settings.json) {
        print_json({{"ok", ok}, {"seconds", seconds}, {"lines", lines}});
    } else {
        std::cout << "path      operation          n  wrong  errors      p50 us         p99"
                     "         max     per s\n";
        for (const json& line : lines) {
            print_tally(line);
        }
        if (!queue_wanted && options.path.empty()) {
            std::cout << "queue     skipped: the device has no shared memory\n";
        }
    }
    return ok ? kSuccess : kFailure;
}

}  // namespace vgpu::cli
