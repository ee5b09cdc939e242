// SPDX-License-Identifier: MIT
//
// RegisterTransport: version 1 of the protocol, one request at a time through BAR0.
//
// Relies only on the guarantees of any version 1 device: reads STATUS before the first request,
// acknowledges every completion by reading RESPONSE_LEN or ERROR_CODE, and reads the response only
// after that. Each register access is a VM exit. To minimize them, a request accesses the buffers
// in units of 8 bytes and reads no register twice.
#pragma once

#include <memory>

#include "client/core/transport.h"

namespace vgpu::client {

class RegisterTransport : public Transport {
  public:
    // Checks version and capabilities. `interrupt` may be null unless mode is kInterrupt; `clock`
    // must outlive the transport. Errors: VGPU_E_VERSION, VGPU_E_DEVICE_LOST, VGPU_E_NO_INTERRUPT.
    static Expected<std::unique_ptr<RegisterTransport>> create(
        std::unique_ptr<RegisterWindow> window, std::unique_ptr<InterruptSource> interrupt,
        WaitMode mode, Clock& clock);
    ~RegisterTransport() override;

    Expected<std::uint32_t> submit(std::span<const std::byte> request) override;
    Expected<Completion> wait(Nanoseconds deadline) override;
    Expected<void> drain(Nanoseconds deadline) override;
    Expected<void> wait_interrupt(Nanoseconds deadline) override;
    [[nodiscard]] std::uint32_t last_request_id() const override { return last_id_; }
    Clock& clock() override { return clock_; }
    std::uint64_t timestamp() override;
    [[nodiscard]] std::uint64_t interrupt_count() const override { return interrupts_; }
    [[nodiscard]] bool has_interrupt() const override { return interrupt_ != nullptr; }
    RegisterWindow* registers() override { return window_.get(); }

  private:
    RegisterTransport(std::unique_ptr<RegisterWindow> window,
                      std::unique_ptr<InterruptSource> interrupt, WaitMode mode, Clock& clock);
    Expected<std::uint32_t> wait_while_busy(Nanoseconds deadline);
    Expected<void> sleep_in_kernel(Nanoseconds now, Nanoseconds deadline);
    Expected<void> pause(Nanoseconds since, Nanoseconds now, Nanoseconds deadline);
    void acknowledge(std::uint32_t status);
    Expected<Completion> take(std::uint32_t status);

    std::unique_ptr<RegisterWindow> window_;
    std::unique_ptr<InterruptSource> interrupt_;
    WaitMode mode_;
    Clock& clock_;
    std::uint32_t last_id_;
    std::uint64_t interrupts_ = 0;
    bool submitted_ = false;
};

}  // namespace vgpu::client
