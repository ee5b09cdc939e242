// SPDX-License-Identifier: MIT
#include "mediator/requests/vm_order.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace vgpu {

VmOrder::Number VmOrder::accept() {
    ++open_;
    return next_++;
}

std::vector<VmOrder::Synchronized> VmOrder::end(Number number, const Outcome* failure) {
    assert(open_ > 0);
    --open_;
    const auto owner = std::find_if(waiting_.begin(), waiting_.end(),
                                    [&](const Waiting& one) { return one.before > number; });
    if (failure != nullptr) {
        std::optional<Outcome>& first = owner == waiting_.end() ? failure_ : owner->failure;
        if (!first) {
            first = Outcome::failure(failure->status, failure->data);
        }
    }
    for (auto one = owner; one != waiting_.end(); ++one) {
        --one->remaining;
    }
    // A SYNCHRONIZE also waits for all that earlier ones wait for, so they end in order.
    std::vector<Synchronized> done;
    while (!waiting_.empty() && waiting_.front().remaining == 0) {
        Waiting& one = waiting_.front();
        done.push_back({.token = one.token, .outcome = std::move(one.failure).value_or(Outcome{})});
        waiting_.pop_front();
    }
    return done;
}

std::optional<Outcome> VmOrder::synchronize(std::uint64_t token) {
    std::optional<Outcome> failure = std::exchange(failure_, std::nullopt);
    if (open_ == 0) {
        return std::move(failure).value_or(Outcome{});
    }
    waiting_.push_back(
        {.token = token, .before = next_, .remaining = open_, .failure = std::move(failure)});
    return std::nullopt;
}

}  // namespace vgpu
