// SPDX-License-Identifier: MIT
//
// The seams of the library. What it needs of the world stands behind four small interfaces, so
// that the tests run it against a device in memory and a clock that nobody waits for, and so that
// another way to the mediator (a socket, shared memory) can take the registers' place.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "client/include/outcome.h"

namespace vgpu::client {

using Nanoseconds = std::chrono::nanoseconds;

// A moment no clock reaches.
inline constexpr Nanoseconds kNever = Nanoseconds::max();

// BAR0. Each call is one access of the bus with all its side effects. Callers keep
// offset + width <= VGPU_BAR0_SIZE.
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

    // Clears and sets bits of a register that other processes may have bits in, too.
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
    // Gives the processor a breath within a spin loop.
    virtual void relax() = 0;
    // Lets another thread run.
    virtual void yield() = 0;
    virtual void sleep(Nanoseconds time) = 0;
};

// The monotonic clock of this machine. Has no state.
Clock& system_clock();

// The device's interrupt, delivered to this process. Level-triggered: a completion that came
// before arm() is reported by the next wait().
class InterruptSource {
  public:
    InterruptSource() = default;
    InterruptSource(const InterruptSource&) = delete;
    InterruptSource& operator=(const InterruptSource&) = delete;
    virtual ~InterruptSource() = default;

    // Lets the next interrupt through.
    virtual Outcome<void> arm() = 0;
    // True if an interrupt came within `limit`.
    virtual Outcome<bool> wait(Nanoseconds limit) = 0;
};

// The end of a request, as the device reports it: its error code (0: DONE) and the response's
// bytes, at most VGPU_BUF_SIZE of them, unchecked. `why` takes the place of the code's own
// sentence, where the transport knows more; or it is empty.
struct Completion {
    std::uint32_t error_code = 0;
    std::vector<std::byte> response_untrusted;
    std::string why;
};

// A way to the mediator on which one request is under way at a time. One thread at a time.
class Transport {
  public:
    Transport() = default;
    Transport(const Transport&) = delete;
    Transport& operator=(const Transport&) = delete;
    virtual ~Transport() = default;

    // Hands over 1 to VGPU_BUF_SIZE bytes. VGPU_E_BUSY while a request is under way; an answer
    // that was not taken is dropped.
    virtual Outcome<std::uint32_t> submit(std::span<const std::byte> request) = 0;
    // Takes the answer. VGPU_E_WAIT_TIMEOUT at `deadline` (of the transport's clock),
    // VGPU_E_DEVICE_LOST if there will be none.
    virtual Outcome<Completion> wait(Nanoseconds deadline) = 0;
    // Waits until submit() would not be VGPU_E_BUSY.
    virtual Outcome<void> drain(Nanoseconds deadline) = 0;

    // Waits for the interrupt itself, whatever STATUS says; a completion that came before counts.
    // VGPU_E_NO_INTERRUPT, VGPU_E_WAIT_TIMEOUT.
    virtual Outcome<void> wait_interrupt(Nanoseconds deadline) = 0;
    // The number submit() gave last.
    [[nodiscard]] virtual std::uint32_t last_request_id() const = 0;

    virtual Clock& clock() = 0;
    // Nanoseconds of the host's monotonic clock at the last completion.
    virtual std::uint64_t timestamp() = 0;
    [[nodiscard]] virtual std::uint64_t interrupt_count() const = 0;
    [[nodiscard]] virtual bool has_interrupt() const = 0;
    // Null for a transport without registers.
    virtual RegisterWindow* registers() = 0;
};

}  // namespace vgpu::client
