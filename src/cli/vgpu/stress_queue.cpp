// SPDX-License-Identifier: MIT
//
// vgpu stress, through a queue: batches of additions, interleaved with matrix products that keep
// the GPU busy and that the guest checks with far fewer operations.
#include <algorithm>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "cli/vgpu/stress.h"

namespace vgpu::cli {
namespace {

constexpr std::uint32_t kReply = 256;  // bytes per reply
// Additions through the queue between two matrix products.
constexpr std::uint64_t kMatrixEvery = 64;

// Commands through one queue, which is reopened after an error.
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
                schedule.skip();
                continue;
            }
            until_product =
                product ? kMatrixEvery
                        : until_product - std::min<std::uint64_t>(until_product, in_flight_);
        }
        close();
    }

  private:
    // A queue and its memory. `replies`: of the additions, then of the commands of a product;
    // `matrices`: the two factors, then the product.
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

    Expected<void> open_if_closed() {
        if (open_) {
            return {};
        }
        Expected<Queue> queue = Failure{};
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

    // Closes the queue first: until then its commands may write to the blocks.
    void close() {
        if (open_) {
            { const Queue closed = std::move(open_->queue); }
            open_.reset();
        }
    }

    [[nodiscard]] ReplyPlace place(std::uint32_t slot) {
        return open_->replies.reply_place(std::uint64_t{slot} * kReply, kReply, ++cookie_);
    }

    // Sends as many additions as may be in flight, with one flush.
    Expected<void> add_some(Schedule& schedule) {
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
            const auto took = StressClock::now() - start;
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

    // Computes one product, C = A B, into a buffer of the GPU and copies it to the heap. A = u v^T
    // and B = w x^T are made of random vectors, so that C = (v w) u x^T, which takes the guest far
    // fewer operations than the GPU.
    Expected<void> multiply() {
        make_factors();
        const auto start = StressClock::now();
        const auto handle = open_->queue.alloc(cells() * 4, limit_);
        if (!handle) {
            return handle.failure();
        }
        auto done = multiply_into(*handle);
        // A failure here follows an earlier one, or the mediator and its buffer no longer exist.
        (void)open_->queue.free(*handle, limit_);
        if (!done) {
            return done;
        }
        products_.latency.add(StressClock::now() - start);
        check_product();
        return {};
    }

    Expected<void> multiply_into(std::uint32_t handle) {
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

}  // namespace

void stress_queue(Device& device, const Settings& settings, const StressOptions& options,
                  Schedule schedule, std::uint32_t seed, Tally& adds, Tally& products) {
    QueueStress(device, settings, options, seed, adds, products).run(schedule);
}

}  // namespace vgpu::cli
