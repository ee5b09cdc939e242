// SPDX-License-Identifier: MIT
//
// VmOrder: what SYNCHRONIZE needs to know about one VM: which requests are on their way, and which
// asynchronous ones failed. Control loop only.
//
//   accepted   1  2  3  S1  4  S2      S1 waits for 1, 2 and 3, S2 for 4 as well. A failure belongs
//                                      to the first S after it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "executor/operation.h"

namespace vgpu {

class VmOrder {
  public:
    using Number = std::uint64_t;
    struct Synchronized {
        std::uint64_t token = 0;
        Outcome outcome;
    };

    // A request was accepted. Gives its number.
    Number accept();
    // It has ended, or was dropped; with an outcome other than success if it was asynchronous and
    // failed. Gives the SYNCHRONIZEs that are now done, in order.
    std::vector<Synchronized> end(Number number, const Outcome* failure = nullptr);
    // A SYNCHRONIZE was accepted. Done at once (then this gives its outcome) or by a later end().
    std::optional<Outcome> synchronize(std::uint64_t token);

    [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }

  private:
    struct Waiting {
        std::uint64_t token = 0;
        Number before = 0;          // waits for the numbers under this
        std::size_t remaining = 0;  // of them
        std::optional<Outcome> failure;
    };

    Number next_ = 0;
    std::size_t open_ = 0;
    std::optional<Outcome> failure_;  // the first since the last SYNCHRONIZE
    std::deque<Waiting> waiting_;     // the oldest first
};

}  // namespace vgpu
