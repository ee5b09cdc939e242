// SPDX-License-Identifier: MIT
//
// QueuePort: how the queues of a device reach whoever serves them. What differs between a device on
// the PCI bus and a socket of the host stands behind it: the mapping, doorbells, interrupts, and
// whether anybody serves the memory. Everything else is the same code for both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/fd.h"
#include "client/core/transport.h"
#include "client/include/outcome.h"
#include "ring/layout.h"

namespace vgpu::client {

class QueuePort {
  public:
    QueuePort() = default;
    QueuePort(const QueuePort&) = delete;
    QueuePort& operator=(const QueuePort&) = delete;
    virtual ~QueuePort() = default;

    // All of the shared memory, mapped as long as the port lives, and its layout.
    [[nodiscard]] virtual std::byte* base() const = 0;
    [[nodiscard]] virtual const ring::Layout& layout() const = 0;
    // Borrows: the open file that stands for the memory, on which queues and heap are claimed.
    [[nodiscard]] virtual int claims_file() const = 0;

    // The functions from here on may be called by any thread at any time.

    // Wakes whoever serves the queue.
    virtual void ring_doorbell(std::uint32_t queue) = 0;
    // Whether a mediator serves the memory. Costs a system call, or an exit of the virtual machine.
    virtual bool attached() = 0;
    // Does what can be done to be attached. VGPU_E_NO_QUEUES with the reason,
    // VGPU_ERR_MEDIATOR_UNAVAILABLE.
    virtual Outcome<void> attach() = 0;
    // What waiting for the queue can sleep on; its wait() also ends when the mediator is lost. Null
    // if there is nothing of the kind. Used by one thread; does not outlive the port.
    virtual std::unique_ptr<InterruptSource> make_interrupt(std::uint32_t queue) = 0;
};

// A Failure with VGPU_E_NO_QUEUES and a reason.
Failure no_queues(const std::string& why);

}  // namespace vgpu::client
