// SPDX-License-Identifier: MIT
//
// Interfaces of the library to its environment: registers, clock, interrupt and transport. Tests
// substitute a simulated device and clock; other transports can replace the registers.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "client/include/expected.h"

namespace vgpu::client {

using Nanoseconds = std::chrono::nanoseconds;

// A deadline that never passes.
inline constexpr Nanoseconds kNever = Nanoseconds::max();

// BAR0. Each call is one bus access with all its side effects, within VGPU_BAR0_SIZE bytes.
class RegisterWindow {
  public:
    RegisterWindow() = default;
    RegisterWindow(const RegisterWindow&) = delete;
    RegisterWindow& operator=(const RegisterWindow&) = delete;
    virtual ~RegisterWindow() = default;

    // width: 1, 2, 4 or 8 bytes.
    virtual std::uint64_t read(std::uint32_t offset, std::uint32_t width) = 0;
    virtual void write(std::uint32_t offset, std::uint32_t width, std::uint64_t value) = 0;

    std::uint32_t read32(std::uint32_t offset) {
        return static_cast<std::uint32_t>(read(offset, 4));
    }
    void write32(std::uint32_t offset, std::uint32_t value) { write(offset, 4, value); }

    // Clears and sets bits of a register that other processes modify too.
    virtual void update32(std::uint32_t offset, std::uint32_t clear, std::uint32_t set) {
        const std::uint32_t before = read32(offset);
        const std::uint32_t after = (before & ~clear) | set;
        if (after != before) {
            write32(offset, after);
        }
    }
};

enum class WaitMode { kAuto, kPoll, kInterrupt };

class Clock {
  public:
    Clock() = default;
    Clock(const Clock&) = delete;
    Clock& operator=(const Clock&) = delete;
    virtual ~Clock() = default;

    virtual Nanoseconds now() = 0;
    // CPU hint for spin loops (pause).
    virtual void relax() = 0;
    // Yields the core to another thread.
    virtual void yield() = 0;
    virtual void sleep(Nanoseconds time) = 0;
};

// The monotonic clock of this machine. Stateless.
Clock& system_clock();

// The device's interrupt. Level-triggered: wait() reports a completion that came before arm().
class InterruptSource {
  public:
    InterruptSource() = default;
    InterruptSource(const InterruptSource&) = delete;
    InterruptSource& operator=(const InterruptSource&) = delete;
    virtual ~InterruptSource() = default;

    // Re-arms (unmasks) the interrupt.
    virtual Expected<void> arm() = 0;
    // Returns true if an interrupt arrived within `limit`.
    virtual Expected<bool> wait(Nanoseconds limit) = 0;
};

// The completion of a request as reported by the device: its error code (0: DONE) and the bytes of
// the response, at most VGPU_BUF_SIZE, not validated. `why`, if not empty, is a more specific error
// text than the code's.
struct Completion {
    std::uint32_t error_code = 0;
    std::vector<std::byte> response_untrusted;
    std::string why;
};

// A channel to the mediator with at most one request in flight. One thread at a time.
class Transport {
  public:
    Transport() = default;
    Transport(const Transport&) = delete;
    Transport& operator=(const Transport&) = delete;
    virtual ~Transport() = default;

    // Sends 1 to VGPU_BUF_SIZE bytes and returns the request's number. Discards a response that was
    // not fetched. VGPU_E_BUSY while a request is in flight.
    virtual Expected<std::uint32_t> submit(std::span<const std::byte> request) = 0;
    // Waits for the completion and fetches it. VGPU_E_WAIT_TIMEOUT at `deadline` (of clock()),
    // VGPU_E_NOT_SUBMITTED, VGPU_E_DEVICE_LOST if the request is lost.
    virtual Expected<Completion> wait(Nanoseconds deadline) = 0;
    // Waits until no request is in flight and discards the response.
    virtual Expected<void> drain(Nanoseconds deadline) = 0;

    // Waits for the interrupt regardless of STATUS; an earlier completion counts.
    // VGPU_E_NO_INTERRUPT, VGPU_E_WAIT_TIMEOUT.
    virtual Expected<void> wait_interrupt(Nanoseconds deadline) = 0;
    [[nodiscard]] virtual std::uint32_t last_request_id() const = 0;

    virtual Clock& clock() = 0;
    // Time of the last completion, in nanoseconds of the host's monotonic clock.
    virtual std::uint64_t timestamp() = 0;
    [[nodiscard]] virtual std::uint64_t interrupt_count() const = 0;
    [[nodiscard]] virtual bool has_interrupt() const = 0;
    // Null for a transport without registers.
    virtual RegisterWindow* registers() = 0;
};

}  // namespace vgpu::client
