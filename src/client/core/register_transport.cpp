// SPDX-License-Identifier: MIT
#include "client/core/register_transport.h"

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/relax.h"
#include "client/core/pause.h"
#include "client/include/vgpu.h"

namespace vgpu::client {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

// A mediator that spins responds within this time.
constexpr Nanoseconds kSpinFor = microseconds(100);

// Value of reads from an absent device.
constexpr std::uint32_t kAllOnes = 0xFFFFFFFFu;

class SystemClock : public Clock {
  public:
    Nanoseconds now() override {
        return std::chrono::duration_cast<Nanoseconds>(
            std::chrono::steady_clock::now().time_since_epoch());
    }
    void relax() override { relax_processor(); }
    void yield() override { ::sched_yield(); }
    void sleep(Nanoseconds time) override {
        const auto count = time.count();
        const timespec span{static_cast<time_t>(count / 1'000'000'000),
                            static_cast<long>(count % 1'000'000'000)};
        // If a signal interrupts the sleep, the caller polls and sleeps again.
        ::nanosleep(&span, nullptr);
    }
};

Failure device_lost() {
    return {VGPU_E_DEVICE_LOST,
            "the device no longer responds: it was unplugged or disabled; check lspci -nn, then "
            "reopen it",
            0};
}

}  // namespace

Clock& system_clock() {
    static SystemClock clock;
    return clock;
}

Expected<std::unique_ptr<RegisterTransport>> RegisterTransport::create(
    std::unique_ptr<RegisterWindow> window, std::unique_ptr<InterruptSource> interrupt,
    WaitMode mode, Clock& clock) {
    const std::uint32_t version = window->read32(VGPU_REG_PROTOCOL_VER);
    if (version == kAllOnes) {
        return device_lost();
    }
    if ((version >> 16) != (VGPU_PROTOCOL_VERSION >> 16)) {
        return Failure{VGPU_E_VERSION,
                       "the device implements version " + std::to_string(version >> 16) + "." +
                           std::to_string(version & 0xFFFF) +
                           " of the protocol, this library version 1: install the library that "
                           "matches the host",
                       0};
    }
    const std::uint32_t capabilities = window->read32(VGPU_REG_CAPABILITIES);
    if ((capabilities & VGPU_CAP_BASIC_REQUEST) == 0) {
        return Failure{
            VGPU_E_VERSION,
            "the device does not support basic requests: install the library that matches the host",
            0};
    }
    if ((capabilities & VGPU_CAP_INTERRUPT) == 0) {
        if (mode == WaitMode::kInterrupt) {
            return Failure{VGPU_E_NO_INTERRUPT, "the device has no interrupt: use polling instead",
                           0};
        }
        interrupt.reset();
    }
    if (mode == WaitMode::kInterrupt && interrupt == nullptr) {
        return Failure{VGPU_E_NO_INTERRUPT, vgpu_code_text(VGPU_E_NO_INTERRUPT), 0};
    }
    return std::unique_ptr<RegisterTransport>(
        new RegisterTransport(std::move(window), std::move(interrupt), mode, clock));
}

RegisterTransport::RegisterTransport(std::unique_ptr<RegisterWindow> window,
                                     std::unique_ptr<InterruptSource> interrupt, WaitMode mode,
                                     Clock& clock)
    : window_(std::move(window)),
      interrupt_(std::move(interrupt)),
      mode_(mode),
      clock_(clock),
      // The register holds the previous process's last number, so numbers keep increasing.
      last_id_(window_->read32(VGPU_REG_REQUEST_ID)) {
    // The other bits belong to processes that wait for queues.
    window_->update32(VGPU_REG_IRQ_CTRL, VGPU_IRQ_COMPLETION, interrupt_ ? VGPU_IRQ_COMPLETION : 0);
}

RegisterTransport::~RegisterTransport() {
    if (interrupt_) {
        window_->update32(VGPU_REG_IRQ_CTRL, VGPU_IRQ_COMPLETION, 0);
        window_->write32(VGPU_REG_IRQ_STATUS, VGPU_IRQ_COMPLETION);
    }
}

Expected<std::uint32_t> RegisterTransport::submit(std::span<const std::byte> request) {
    if (request.empty() || request.size() > VGPU_BUF_SIZE) {
        return Failure{
            VGPU_E_ARGUMENT,
            "a request must be 1 to 1024 bytes long, not " + std::to_string(request.size()), 0};
    }
    const std::uint32_t status = window_->read32(VGPU_REG_STATUS);
    switch (status) {
        case VGPU_STATUS_IDLE:
            break;
        case VGPU_STATUS_BUSY:
            return Failure{VGPU_E_BUSY, vgpu_code_text(VGPU_E_BUSY), 0};
        case VGPU_STATUS_DONE:
        case VGPU_STATUS_ERROR:
            acknowledge(status);
            break;
        default:
            return device_lost();
    }
    const auto* const bytes = request.data();
    for (std::size_t at = 0; at < request.size(); at += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, bytes + at, std::min<std::size_t>(8, request.size() - at));
        window_->write(VGPU_REQUEST_BUF + static_cast<std::uint32_t>(at), 8, word);
    }
    window_->write32(VGPU_REG_REQUEST_LEN, static_cast<std::uint32_t>(request.size()));
    window_->write32(VGPU_REG_REQUEST_ID, ++last_id_);
    if (interrupt_) {
        window_->write32(VGPU_REG_IRQ_STATUS, VGPU_IRQ_COMPLETION);
    }
    window_->write32(VGPU_REG_DOORBELL, 1);
    submitted_ = true;
    return last_id_;
}

Expected<Completion> RegisterTransport::wait(Nanoseconds deadline) {
    if (!submitted_) {
        return Failure{VGPU_E_NOT_SUBMITTED, vgpu_code_text(VGPU_E_NOT_SUBMITTED), 0};
    }
    const auto status = wait_while_busy(deadline);
    if (!status) {
        submitted_ = status.failure().code != VGPU_E_DEVICE_LOST;
        return status.failure();
    }
    submitted_ = false;
    if (*status == VGPU_STATUS_IDLE) {
        return Failure{VGPU_E_DEVICE_LOST,
                       "the device was reset and lost the request: send it again", 0};
    }
    return take(*status);
}

Expected<void> RegisterTransport::drain(Nanoseconds deadline) {
    if (interrupt_) {
        // A completion that was not fetched must not wake later waits repeatedly.
        window_->write32(VGPU_REG_IRQ_STATUS, VGPU_IRQ_COMPLETION);
    }
    const auto status = wait_while_busy(deadline);
    if (!status) {
        return status.failure();
    }
    acknowledge(*status);
    submitted_ = false;
    return {};
}

Expected<void> RegisterTransport::wait_interrupt(Nanoseconds deadline) {
    if (!interrupt_) {
        return Failure{VGPU_E_NO_INTERRUPT, vgpu_code_text(VGPU_E_NO_INTERRUPT), 0};
    }
    const std::uint64_t before = interrupts_;
    for (Nanoseconds now = clock_.now(); now < deadline; now = clock_.now()) {
        auto slept = sleep_in_kernel(now, deadline);
        if (!slept || interrupts_ != before) {
            return slept;
        }
    }
    return Failure{VGPU_E_WAIT_TIMEOUT, "no interrupt within the time limit", 0};
}

std::uint64_t RegisterTransport::timestamp() {
    const std::uint64_t high = window_->read32(VGPU_REG_TIMESTAMP_HI);
    return high << 32 | window_->read32(VGPU_REG_TIMESTAMP_LO);
}

// Waits until STATUS is not BUSY and returns it.
Expected<std::uint32_t> RegisterTransport::wait_while_busy(Nanoseconds deadline) {
    const Nanoseconds since = clock_.now();
    Nanoseconds now = since;
    for (;;) {
        const std::uint32_t status = window_->read32(VGPU_REG_STATUS);
        if (status != VGPU_STATUS_BUSY) {
            if (status > VGPU_STATUS_ERROR) {
                return device_lost();
            }
            return status;
        }
        if (now >= deadline) {
            return Failure{VGPU_E_WAIT_TIMEOUT, vgpu_code_text(VGPU_E_WAIT_TIMEOUT), 0};
        }
        auto paused = pause(since, now, deadline);
        if (!paused) {
            return paused.failure();
        }
        now = clock_.now();
    }
}

// Sleeps until the next interrupt, a signal, or the deadline.
Expected<void> RegisterTransport::sleep_in_kernel(Nanoseconds now, Nanoseconds deadline) {
    auto armed = interrupt_->arm();
    if (!armed) {
        return armed;
    }
    auto woken = interrupt_->wait(deadline == kNever ? kNever : deadline - now);
    if (!woken) {
        return woken.failure();
    }
    interrupts_ += *woken ? 1 : 0;
    return {};
}

// Pauses for one step, not beyond the deadline.
Expected<void> RegisterTransport::pause(Nanoseconds since, Nanoseconds now, Nanoseconds deadline) {
    const Nanoseconds waited = now - since;
    const bool may_sleep_in_kernel = interrupt_ && mode_ != WaitMode::kPoll;
    if (may_sleep_in_kernel && (mode_ == WaitMode::kInterrupt || waited >= kSpinFor)) {
        return sleep_in_kernel(now, deadline);
    }
    back_off(clock_, waited, kSpinFor, deadline == kNever ? kNever : deadline - now);
    return {};
}

void RegisterTransport::acknowledge(std::uint32_t status) {
    if (status == VGPU_STATUS_DONE) {
        (void)window_->read32(VGPU_REG_RESPONSE_LEN);
    } else if (status == VGPU_STATUS_ERROR) {
        (void)window_->read32(VGPU_REG_ERROR_CODE);
    }
}

Expected<Completion> RegisterTransport::take(std::uint32_t status) {
    Completion completion;
    if (status == VGPU_STATUS_ERROR) {
        completion.error_code = window_->read32(VGPU_REG_ERROR_CODE);
        if (completion.error_code == VGPU_ERR_NONE) {
            // STATUS is ERROR but ERROR_CODE is 0: must not count as success.
            completion.error_code = VGPU_E_BAD_RESPONSE;
        }
    }
    std::uint32_t length = window_->read32(VGPU_REG_RESPONSE_LEN);
    if (interrupt_) {
        window_->write32(VGPU_REG_IRQ_STATUS, VGPU_IRQ_COMPLETION);
    }
    if (length > VGPU_BUF_SIZE) {
        if (completion.error_code == VGPU_ERR_NONE) {
            return Failure{VGPU_E_BAD_RESPONSE,
                           "the device reports a response of " + std::to_string(length) +
                               " bytes, but its buffer holds 1024: update the host's QEMU",
                           0};
        }
        length = 0;
    }
    completion.response_untrusted.resize(length);
    for (std::uint32_t at = 0; at < length; at += 8) {
        const std::uint64_t word = window_->read(VGPU_RESPONSE_BUF + at, 8);
        std::memcpy(completion.response_untrusted.data() + at, &word,
                    std::min(std::uint32_t{8}, length - at));
    }
    return completion;
}

}  // namespace vgpu::client
