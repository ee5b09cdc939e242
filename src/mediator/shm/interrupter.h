// SPDX-License-Identifier: MIT
//
// Interrupter: signals eventfds that other processes also hold, and never blocks. Such a process
// can make its eventfd blocking and saturate its counter at any time; write(2) then blocks until
// that process reads it, and no per-call flag prevents that. Instead, an asynchronous read
// (io_submit(2)) names the eventfd in aio_resfd: on completion, the kernel adds 1 to the counter,
// or leaves a saturated one unchanged. The read transfers no bytes from /dev/null and completes
// within the call.
//
// Use from one thread.
#pragma once

#include <linux/aio_abi.h>

#include <cstdint>

#include "base/fd.h"

namespace vgpu {

class Interrupter {
  public:
    Interrupter();
    Interrupter(const Interrupter&) = delete;
    Interrupter& operator=(const Interrupter&) = delete;
    ~Interrupter();

    // Returns false if asynchronous I/O is unavailable: the limit fs.aio-max-nr is exhausted, or
    // the kernel lacks or forbids it. interrupt() may not be called then.
    [[nodiscard]] bool works() const { return context_ != 0 && null_; }

    // Adds 1 to an eventfd unless its counter is saturated; ignores other descriptors. Some 0.4 us.
    void interrupt(int eventfd);
    // Number of interrupt() calls.
    [[nodiscard]] std::uint64_t interrupts() const { return interrupts_; }

  private:
    // Drains the kernel's completion ring.
    void reap();

    Fd null_;
    aio_context_t context_ = 0;
    std::uint64_t interrupts_ = 0;
    unsigned unreaped_ = 0;  // completions in the ring
};

}  // namespace vgpu
