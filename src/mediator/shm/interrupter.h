// SPDX-License-Identifier: MIT
//
// Interrupter: signals eventfds that other processes hold, too, and never blocks. Such a process
// can make its eventfd blocking and fill its count at any moment; write(2) then waits until that
// process reads it, and no flag of a single write prevents that. So the kernel is made to signal
// it in another way: an asynchronous read (io_submit(2)) that names the eventfd in aio_resfd adds 1
// to it when it completes, and a count that is full stays as it is. The read is one of no bytes
// from /dev/null, which completes within the call.
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

    // Whether the kernel has given what this needs. If not, interrupt() may not be called: the
    // system allows no more asynchronous requests (fs.aio-max-nr), has none, or forbids them here.
    [[nodiscard]] bool works() const { return context_ != 0 && null_; }

    // Adds 1 to an eventfd unless its count is full; what is no eventfd is left alone. Some 0.4 us.
    void interrupt(int eventfd);
    // How often that was done.
    [[nodiscard]] std::uint64_t interrupts() const { return interrupts_; }

  private:
    // Takes the completions out of the kernel's ring.
    void reap();

    Fd null_;
    aio_context_t context_ = 0;
    std::uint64_t interrupts_ = 0;
    unsigned unreaped_ = 0;  // requests completed and still in the ring
};

}  // namespace vgpu
