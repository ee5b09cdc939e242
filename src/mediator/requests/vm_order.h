// SPDX-License-Identifier: MIT
//
// VmOrder: what SYNCHRONIZE needs to know about one VM: which requests are in flight, and which
// asynchronous ones failed. Control loop only.
//
//   accepted   1  2  3  S1  4  S2      S1 waits for 1, 2 and 3, S2 for 4 as well. A failure is
//                                      reported by the first S after it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "executor/job.h"

namespace vgpu {

class VmOrder {
  public:
    using Number = std::uint64_t;
    struct Synchronized {
        std::uint64_t token = 0;
        Outcome outcome;
    };

    // Registers an accepted request. Returns its number.
    Number accept();
    // Ends or drops a request. `failure`: its outcome if it was asynchronous and failed. Returns
    // the SYNCHRONIZEs that are now done, in order.
    std::vector<Synchronized> end(Number number, const Outcome* failure = nullptr);
    // Registers a SYNCHRONIZE. Returns its outcome if it is done at once; else a later end() does.
    std::optional<Outcome> synchronize(std::uint64_t token);

    [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }

  private:
    struct Waiting {
        std::uint64_t token = 0;
        Number before = 0;          // waits for the numbers below this
        std::size_t remaining = 0;  // of those, not ended
        std::optional<Outcome> failure;
    };

    Number next_ = 0;
    std::size_t open_ = 0;
    std::optional<Outcome> failure_;  // first one since the last SYNCHRONIZE
    std::deque<Waiting> waiting_;     // oldest first
};

}  // namespace vgpu
