// SPDX-License-Identifier: MIT
//
// QueuePort: the interface between the queues of a device and its mediator. Abstracts what differs
// between a PCI device and a host socket: the mapping, doorbells, interrupts, and attachment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/fd.h"
#include "client/core/transport.h"
#include "client/include/expected.h"
#include "ring/layout.h"

namespace vgpu::client {

class QueuePort {
  public:
    QueuePort() = default;
    QueuePort(const QueuePort&) = delete;
    QueuePort& operator=(const QueuePort&) = delete;
    virtual ~QueuePort() = default;

    // The whole shared memory, mapped for the lifetime of the port, and its layout.
    [[nodiscard]] virtual std::byte* base() const = 0;
    [[nodiscard]] virtual const ring::Layout& layout() const = 0;
    // The file that backs the memory, for Claims. The port keeps ownership.
    [[nodiscard]] virtual int claims_file() const = 0;

    // The functions below are thread-safe.

    // Wakes the mediator.
    virtual void ring_doorbell(std::uint32_t queue) = 0;
    // Returns whether a mediator serves the memory. Costs a system call or a VM exit.
    virtual bool attached() = 0;
    // Ensures that a mediator is attached, and reconnects if possible. Errors: VGPU_E_NO_QUEUES
    // with the reason, VGPU_ERR_MEDIATOR_UNAVAILABLE.
    virtual Expected<void> attach() = 0;
    // Returns the queue's interrupt, or null if there is none. Its wait() also ends when the
    // mediator disconnects. For use by one thread; must not outlive the port.
    virtual std::unique_ptr<InterruptSource> make_interrupt(std::uint32_t queue) = 0;
};

// Returns a Failure with VGPU_E_NO_QUEUES and the given reason.
Failure no_queues(const std::string& why);

}  // namespace vgpu::client
