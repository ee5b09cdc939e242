// SPDX-License-Identifier: MIT
//
// vgpu bench, through a queue: round trips one at a time, and throughput with a window of commands
// in flight, refilled by half of it with one flush. Bulk data is in the heap, and the results of
// operations on it are checked.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "cli/vgpu/bench.h"

namespace vgpu::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kReply = 256;               // bytes per reply
constexpr std::uint32_t kDefaultInFlight = 64;      // of the nop line that is measured by default
constexpr std::uint64_t kDefaultSize = 1ULL << 20;  // bytes
// Bytes of the ring per command in flight, more than any command here takes.
constexpr std::uint32_t kRecordRoom = 128;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// Returns the best rate, in bytes per second, of several memcpy() runs of this size within this
// program's memory; 0 if out of memory.
double memcpy_rate(std::uint64_t size) {
    std::vector<std::byte> from;
    std::vector<std::byte> to;
    try {
        from.assign(size, std::byte{1});
        to.resize(size);
    } catch (const std::bad_alloc&) {
        return 0;
    }
    double best = 0;
    for (int i = 0; i < 5; ++i) {
        const auto start = Clock::now();
        std::memcpy(to.data(), from.data(), size);
        best = std::max(best, static_cast<double>(size) / seconds_since(start));
        // Use the result, so that the copy is not optimized away.
        from[0] = to[size - 1];
    }
    return best;
}

// Commands of one operation: prepared before the measurement, pushed during it, checked after it.
class Work {
  public:
    Work() = default;
    Work(const Work&) = delete;
    Work& operator=(const Work&) = delete;
    virtual ~Work() = default;

    // Pushes the i-th command; `slot` < in flight, and no other command in flight uses it.
    virtual int push(std::uint64_t i, std::uint32_t slot, vgpu_failure* why) = 0;
    // Checks a completed command. Returns VGPU_OK or what was wrong.
    virtual int check(std::uint64_t i, std::uint32_t slot, vgpu_failure* why) = 0;
    // Checks the final state, once all commands have completed.
    virtual Expected<void> check_all() { return {}; }
    [[nodiscard]] virtual std::uint64_t bytes() const { return 0; }
};

class Nop : public Work {
  public:
    explicit Nop(Queue& queue) : queue_(queue.get()) {}
    int push(std::uint64_t /*i*/, std::uint32_t /*slot*/, vgpu_failure* why) override {
        return vgpu_queue_push_nop(queue_, nullptr, nullptr, why);
    }
    int check(std::uint64_t /*i*/, std::uint32_t /*slot*/, vgpu_failure* /*why*/) override {
        return VGPU_OK;
    }

  private:
    vgpu_queue* queue_;
};

class Add : public Work {
  public:
    // `replies` has kReply bytes per slot.
    Add(Queue& queue, HeapBlock& replies, std::uint32_t vm_id)
        : queue_(queue.get()), replies_(replies), seed_(vm_id * 7919 + 1) {}
    int push(std::uint64_t i, std::uint32_t slot, vgpu_failure* why) override {
        const vgpu_reply_place place =
            replies_.reply_place(std::uint64_t{slot} * kReply, kReply, i);
        return vgpu_queue_push_add(queue_, a(i), b(i), &place, nullptr, why);
    }
    int check(std::uint64_t i, std::uint32_t slot, vgpu_failure* why) override {
        const vgpu_reply_place place =
            replies_.reply_place(std::uint64_t{slot} * kReply, kReply, i);
        vgpu_reply_view view{};
        const int code = vgpu_queue_reply_read(queue_, &place, &view, why);
        if (code != VGPU_OK) {
            return code;
        }
        if (view.result_count != 1 || view.results[0] != a(i) + b(i)) {
            const Failure wrong =
                wrong_answer(a(i), b(i), view.result_count == 0 ? 0 : view.results[0]);
            why->code = wrong.code;
            (void)std::snprintf(why->message, sizeof why->message, "%s", wrong.message.c_str());
            return wrong.code;
        }
        return VGPU_OK;
    }

  private:
    // Different operands for each VM and command, so that a response to another one is detected.
    [[nodiscard]] std::uint32_t a(std::uint64_t i) const {
        return static_cast<std::uint32_t>(i * 2654435761U + seed_);
    }
    [[nodiscard]] std::uint32_t b(std::uint64_t i) const { return a(i) * 3; }

    vgpu_queue* queue_;
    HeapBlock& replies_;
    std::uint32_t seed_;
};

// Pseudo-random numbers, always the same for one seed.
class Numbers {
  public:
    explicit Numbers(std::uint32_t seed) : seed_(seed) {}
    float next() {
        seed_ = seed_ * 1664525U + 1013904223U;
        return static_cast<float>(static_cast<std::int32_t>(seed_)) / 65536.0F;
    }

  private:
    std::uint32_t seed_;
};

void fill(std::span<float> to, std::uint32_t seed) {
    Numbers numbers(seed);
    std::generate(to.begin(), to.end(), [&] { return numbers.next(); });
}

// Operations on bulk data; checks their replies.
class Bulk : public Work {
  public:
    Bulk(Queue& queue, HeapBlock& replies, std::uint64_t size)
        : queue_(queue), replies_(replies), size_(size) {}
    int check(std::uint64_t i, std::uint32_t slot, vgpu_failure* why) override {
        const vgpu_reply_place place = place_of(i, slot);
        return vgpu_queue_reply_read(queue_.get(), &place, nullptr, why);
    }

  protected:
    [[nodiscard]] vgpu_reply_place place_of(std::uint64_t i, std::uint32_t slot) const {
        return replies_.reply_place(std::uint64_t{slot} * kReply, kReply, i);
    }
    [[nodiscard]] Queue& queue() const { return queue_; }
    [[nodiscard]] std::uint64_t size() const { return size_; }

  private:
    Queue& queue_;
    HeapBlock& replies_;
    std::uint64_t size_;
};

// Adds two vectors of `size` bytes each in the heap, on the GPU.
class VectorAdd : public Bulk {
  public:
    VectorAdd(Queue& queue, HeapBlock& replies, HeapBlock data, std::uint64_t size)
        : Bulk(queue, replies, size), data_(std::move(data)), count_(size / sizeof(float)) {
        fill(vector(0), 1);
        fill(vector(1), 2);
        std::memset(vector(2).data(), 0, size);
    }
    int push(std::uint64_t i, std::uint32_t slot, vgpu_failure* why) override {
        const vgpu_reply_place place = place_of(i, slot);
        return vgpu_queue_push_vector_add(queue().get(), VGPU_TYPE_F32, data_.operand(2 * size()),
                                          data_.operand(0), data_.operand(size()), count_, &place,
                                          nullptr, why);
    }
    Expected<void> check_all() override {
        const auto a = vector(0);
        const auto b = vector(1);
        const auto sums = vector(2);
        for (std::size_t i = 0; i < count_; ++i) {
            if (sums[i] != a[i] + b[i]) {
                return Failure{VGPU_E_BAD_RESPONSE,
                               "wrong result: element " + std::to_string(i) + " of the sum is " +
                                   std::to_string(sums[i]) + ", expected " +
                                   std::to_string(a[i] + b[i]) +
                                   "; report this to the host's operator",
                               0};
            }
        }
        return {};
    }
    // Two vectors read, one written.
    [[nodiscard]] std::uint64_t bytes() const override { return 3 * size(); }

  private:
    [[nodiscard]] std::span<float> vector(std::uint64_t which) const {
        return data_.as<float>().subspan(which * count_, count_);
    }

    HeapBlock data_;
    std::uint64_t count_;
};

// Copies of `size` bytes between the heap and a buffer; each slot has its own range on both sides.
class Copy : public Bulk {
  public:
    static Expected<std::unique_ptr<Work>> create(Queue& queue, HeapBlock& replies, HeapBlock data,
                                                  std::uint64_t size, std::uint32_t slots, bool to,
                                                  std::chrono::nanoseconds limit) {
        const auto handle = queue.alloc(size * slots, limit);
        if (!handle) {
            return handle.failure();
        }
        auto made = std::unique_ptr<Copy>(
            new Copy(queue, replies, std::move(data), size, *handle, to, limit));
        fill(made->data_.as<float>(), 3);
        if (const auto copied = made->copy_all(true); !copied) {
            return copied.failure();
        }
        return std::unique_ptr<Work>(std::move(made));
    }
    Copy(const Copy&) = delete;
    Copy& operator=(const Copy&) = delete;
    ~Copy() override { (void)queue().free(handle_, limit_); }

    int push(std::uint64_t i, std::uint32_t slot, vgpu_failure* why) override {
        const vgpu_reply_place place = place_of(i, slot);
        const std::uint64_t at = slot * size();
        return to_ ? vgpu_queue_push_copy_to(queue().get(), handle_, at, data_.offset() + at,
                                             size(), &place, nullptr, why)
                   : vgpu_queue_push_copy_from(queue().get(), handle_, at, data_.offset() + at,
                                               size(), &place, nullptr, why);
    }
    // Reads the buffer back if it was the target; then the heap must have its initial data.
    Expected<void> check_all() override {
        if (to_) {
            std::memset(data_.bytes().data(), 0, data_.size());
            if (const auto copied = copy_all(false); !copied) {
                return copied.failure();
            }
        }
        Numbers numbers(3);
        const auto found = data_.as<float>();
        if (!std::all_of(found.begin(), found.end(), [&](float one) {
                return std::bit_cast<std::uint32_t>(one) ==
                       std::bit_cast<std::uint32_t>(numbers.next());
            })) {
            return Failure{VGPU_E_BAD_RESPONSE,
                           "wrong result: the copied bytes differ from the source; report this to "
                           "the host's operator",
                           0};
        }
        return {};
    }
    [[nodiscard]] std::uint64_t bytes() const override { return size(); }

  private:
    Copy(Queue& queue, HeapBlock& replies, HeapBlock data, std::uint64_t size, std::uint32_t handle,
         bool to, std::chrono::nanoseconds limit)
        : Bulk(queue, replies, size),
          data_(std::move(data)),
          handle_(handle),
          to_(to),
          limit_(limit) {}
    Expected<ReplyView> copy_all(bool to) {
        const vgpu_reply_place place = place_of(~std::uint64_t{0}, 0);
        const std::uint64_t whole = data_.size() / size() * size();
        const auto point = to ? queue().push_copy_to(handle_, 0, data_.offset(), whole, place)
                              : queue().push_copy_from(handle_, 0, data_.offset(), whole, place);
        return point ? queue().finish(*point, place, limit_) : Expected<ReplyView>(point.failure());
    }

    HeapBlock data_;
    std::uint32_t handle_;
    bool to_;
    std::chrono::nanoseconds limit_;
};

struct Case {
    std::string operation;
    std::uint32_t in_flight;
    std::uint64_t count;
};

class QueueBench {
  public:
    QueueBench(const Settings& settings, const BenchOptions& options, vgpu_wait_mode mode)
        : settings_(settings), options_(options), mode_(mode) {}

    Expected<BenchLine> measure(const Case& one) {
        OpenOptions open = settings_.open;
        open.for_queues = true;
        open.wait_mode = mode_;
        if (mode_ == VGPU_WAIT_POLL && !options_.spin_given) {
            open.spin_us = VGPU_SPIN_ALWAYS;
        }
        auto device = Device::open(open);
        if (!device) {
            return device.failure();
        }
        auto queue = Queue::open(*device, VGPU_QUEUE_ANY, settings_.timeout);
        if (!queue) {
            return queue.failure();
        }
        const std::uint32_t most = device->shm_info().ring_size / kRecordRoom;
        if (one.in_flight > most) {
            return Failure{VGPU_E_ARGUMENT,
                           "a queue of this device holds at most " + std::to_string(most) +
                               " commands: reduce --in-flight",
                           0};
        }
        auto replies = HeapBlock::take(*device, std::uint64_t{kReply} * one.in_flight);
        if (!replies) {
            return replies.failure();
        }
        const auto work = make_work(*device, *queue, *replies, one);
        if (!work) {
            return work.failure();
        }
        BenchLine line;
        line.operation = one.operation;
        line.wait = mode_ == VGPU_WAIT_INTERRUPT ? "interrupt" : "poll";
        line.path = "queue";
        line.count = one.count;
        line.in_flight = one.in_flight;
        line.size = (*work)->bytes();
        const auto done = one.in_flight == 1 ? round_trips(*queue, **work, line)
                                             : throughput(*queue, **work, line);
        if (!done) {
            return done.failure();
        }
        if (const auto checked = (*work)->check_all(); !checked) {
            return checked.failure();
        }
        if (line.size != 0) {
            line.memcpy_bytes_per_second = memcpy_rate(size());
        }
        return line;
    }

  private:
    [[nodiscard]] std::uint64_t size() const {
        return options_.size == 0 ? kDefaultSize : options_.size;
    }

    Expected<std::unique_ptr<Work>> make_work(Device& device, Queue& queue, HeapBlock& replies,
                                              const Case& one) {
        if (one.operation == "nop") {
            return std::unique_ptr<Work>(std::make_unique<Nop>(queue));
        }
        if (one.operation == "add") {
            return std::unique_ptr<Work>(
                std::make_unique<Add>(queue, replies, device.properties().vm_id));
        }
        const bool vectors = one.operation == "vector-add";
        auto data = HeapBlock::take(device, size() * (vectors ? 3 : one.in_flight), 4096);
        if (!data) {
            return data.failure();
        }
        if (vectors) {
            return std::unique_ptr<Work>(
                std::make_unique<VectorAdd>(queue, replies, std::move(*data), size()));
        }
        return Copy::create(queue, replies, std::move(*data), size(), one.in_flight,
                            one.operation == "copy-to", settings_.timeout);
    }

    [[nodiscard]] std::uint32_t limit_ms() const { return detail::to_ms(settings_.timeout); }

    Expected<void> round_trips(Queue& queue, Work& work, BenchLine& line) {
        const Progress progress(settings_, line.operation + " (" + line.wait + ", queue)",
                                options_.count);
        vgpu_failure why{};
        for (std::uint64_t i = 0; i < kWarmUp + std::uint64_t{options_.count}; ++i) {
            const auto start = Clock::now();
            int code = work.push(i, 0, &why);
            if (code == VGPU_OK) {
                code = vgpu_queue_wait(queue.get(), vgpu_queue_submitted(queue.get()), limit_ms(),
                                       &why);
            }
            const auto took = Clock::now() - start;
            code = code == VGPU_OK ? work.check(i, 0, &why) : code;
            if (code != VGPU_OK) {
                return detail::to_failure(why);
            }
            if (i >= kWarmUp) {
                line.latency.add(took);
                line.seconds += std::chrono::duration<double>(took).count();
                progress.at(i - kWarmUp);
            }
        }
        return {};
    }

    Expected<void> throughput(Queue& queue, Work& work, BenchLine& line) {
        if (auto warm = go_through(queue, work, line, 0, kWarmUp); !warm) {
            return warm;
        }
        const auto start = Clock::now();
        auto done = go_through(queue, work, line, kWarmUp, line.count);
        line.seconds = seconds_since(start);
        return done;
    }

    // Runs commands `first` to `first` + `total` with a window: pushes and flushes half of it as
    // soon as only the other half is in flight.
    Expected<void> go_through(Queue& queue, Work& work, const BenchLine& line, std::uint64_t first,
                              std::uint64_t total) {
        const Progress progress(settings_, line.operation + " (" + line.wait + ", queue)", total);
        const std::uint32_t window = line.in_flight;
        const std::uint32_t batch = std::max(1U, window / 2);
        const std::uint64_t base = vgpu_queue_submitted(queue.get());
        std::uint64_t pushed = 0;
        std::uint64_t checked = 0;
        vgpu_failure why{};
        while (checked != total) {
            while (pushed != total && pushed - checked + batch <= window) {
                const std::uint64_t end = std::min(total, pushed + batch);
                for (; pushed != end; ++pushed) {
                    const auto slot = static_cast<std::uint32_t>(pushed % window);
                    if (work.push(first + pushed, slot, &why) != VGPU_OK) {
                        return detail::to_failure(why);
                    }
                }
                (void)vgpu_queue_flush(queue.get(), nullptr);
            }
            // The oldest batch, or the remainder.
            const std::uint64_t until = std::min(pushed, checked + batch);
            if (vgpu_queue_wait(queue.get(), base + until, limit_ms(), &why) != VGPU_OK) {
                return detail::to_failure(why);
            }
            for (; checked != until; ++checked) {
                const auto slot = static_cast<std::uint32_t>(checked % window);
                if (work.check(first + checked, slot, &why) != VGPU_OK) {
                    return detail::to_failure(why);
                }
            }
            progress.at(checked);
        }
        return {};
    }

    const Settings& settings_;
    const BenchOptions& options_;
    vgpu_wait_mode mode_;
};

std::vector<Case> cases_of(const BenchOptions& options) {
    const bool both = options.operation.empty();
    const std::vector<std::string> operations =
        both ? std::vector<std::string>{"nop", "add"} : std::vector{options.operation};
    std::vector<Case> made;
    made.reserve(operations.size() + 1);
    for (const auto& operation : operations) {
        made.push_back({operation, std::max(options.in_flight, 1U), options.count});
    }
    if (options.in_flight == 0 && (both || options.operation == "nop")) {
        // Takes about as long as a line of round trips.
        made.push_back({"nop", kDefaultInFlight, std::uint64_t{options.count} * kDefaultInFlight});
    }
    return made;
}

}  // namespace

std::optional<std::string> why_no_queue_bench(const Settings& settings) {
    OpenOptions open = settings.open;
    open.for_queues = true;
    const auto device = Device::open(open);
    if (!device) {
        return device.failure().message;
    }
    const auto queue = Queue::open(*device, VGPU_QUEUE_ANY, settings.timeout);
    return queue ? std::nullopt : std::optional(queue.failure().message);
}

Expected<void> bench_queues(const Settings& settings, const BenchOptions& options,
                            const std::function<void(const BenchLine&)>& tell) {
    std::vector<vgpu_wait_mode> modes{settings.open.wait_mode};
    if (settings.open.wait_mode == VGPU_WAIT_AUTO) {
        OpenOptions open = settings.open;
        open.for_queues = true;
        auto device = Device::open(open);
        if (!device) {
            return device.failure();
        }
        modes = {VGPU_WAIT_POLL};
        if (device->shm_info().has_interrupt != 0) {
            modes.push_back(VGPU_WAIT_INTERRUPT);
        }
    }
    for (const auto mode : modes) {
        QueueBench bench(settings, options, mode);
        for (const Case& one : cases_of(options)) {
            const auto line = bench.measure(one);
            if (!line) {
                return line.failure();
            }
            tell(*line);
        }
    }
    return {};
}

}  // namespace vgpu::cli
