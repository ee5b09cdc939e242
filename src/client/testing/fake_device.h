// SPDX-License-Identifier: MIT
//
// Test doubles: a device in memory with the real register file and a scripted mediator, a clock
// that advances only when used, and an interrupt line. Tests can inject wrong register values.
#pragma once

#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/core/transport.h"
#include "vgpu-regs.h"

namespace vgpu::client::test {

using Bytes = std::vector<std::uint8_t>;

inline Bytes make_response(std::uint32_t status, const std::vector<std::uint32_t>& results = {},
                           const std::string& data = {}) {
    vgpu_response header{};
    header.version = VGPU_PROTOCOL_VERSION;
    header.status = status;
    header.result_count = static_cast<std::uint32_t>(results.size());
    header.exec_time_us = 7;
    const std::size_t results_end = sizeof header + 4 * results.size();
    if (!data.empty()) {
        header.data_offset = static_cast<std::uint32_t>(results_end);
        header.data_length = static_cast<std::uint32_t>(data.size());
    }
    Bytes bytes;
    const auto append = [&bytes](const void* from, std::size_t length) {
        const auto* const first = static_cast<const std::uint8_t*>(from);
        bytes.insert(bytes.end(), first, first + length);
    };
    append(&header, sizeof header);
    append(results.data(), 4 * results.size());
    append(data.data(), data.size());
    return bytes;
}

struct FakeDevice {
    vgpu_regs regs{};
    // Returns the response to a request; nullopt: the mediator never responds.
    std::function<std::optional<Bytes>(const Bytes& request)> mediator;
    // Reads of STATUS until the response arrives (0: before the first).
    int polls_before_answer = 0;
    // Fault injection: register offset -> value to read.
    std::map<std::uint32_t, std::uint32_t> lies;
    // All accesses as (offset, width). A write is recorded with the offset -1 - offset.
    std::vector<std::pair<long, std::uint32_t>> accesses;
    std::vector<std::uint32_t> ids;
    std::optional<Bytes> pending;
    int polls_left = 0;

    FakeDevice() {
        vgpu_regs_init(&regs, 'B', VGPU_PRIORITY_HIGH, 7);
        vgpu_regs_connected(&regs);
    }

    void ring() {
        ids.push_back(regs.inflight_id);
        pending = mediator ? mediator(Bytes(regs.inflight, regs.inflight + regs.inflight_len))
                           : std::nullopt;
        polls_left = polls_before_answer;
        deliver_if_due();
    }

    void deliver_if_due() {
        if (pending && polls_left == 0) {
            vgpu_regs_answer(&regs, regs.inflight_id, pending->data(),
                             static_cast<std::uint32_t>(pending->size()), 123456789012ULL);
            pending.reset();
        }
    }
};

class FakeWindow : public RegisterWindow {
  public:
    // `device` must outlive the window.
    explicit FakeWindow(FakeDevice& device) : device_(device) {}

    std::uint64_t read(std::uint32_t offset, std::uint32_t width) override {
        device_.accesses.emplace_back(offset, width);
        std::uint32_t effect = 0;
        const std::uint64_t value = vgpu_regs_read(&device_.regs, offset, width, &effect);
        if (offset == VGPU_REG_STATUS && device_.pending) {
            --device_.polls_left;
            device_.deliver_if_due();
        }
        const auto lie = device_.lies.find(offset);
        return lie == device_.lies.end() ? value : lie->second;
    }

    void write(std::uint32_t offset, std::uint32_t width, std::uint64_t value) override {
        device_.accesses.emplace_back(-1 - static_cast<long>(offset), width);
        if (vgpu_regs_write(&device_.regs, offset, value, width, 1) & VGPU_REGS_SUBMIT) {
            device_.ring();
        }
    }

  private:
    FakeDevice& device_;
};

class FakeClock : public Clock {
  public:
    Nanoseconds now() override { return now_ += Nanoseconds(100); }
    void relax() override { ++relaxed; }
    void yield() override {
        ++yielded;
        now_ += std::chrono::microseconds(1);
    }
    void sleep(Nanoseconds time) override {
        slept.push_back(time);
        now_ += time;
    }

    int relaxed = 0;
    int yielded = 0;
    std::vector<Nanoseconds> slept;

  private:
    Nanoseconds now_{1};
};

// The INTx of a FakeDevice. Like the kernel, masks the line on each interrupt.
class FakeInterrupt : public InterruptSource {
  public:
    // Both references must outlive this object. wait() calls `before_sleep` before it sleeps.
    FakeInterrupt(FakeDevice& device, FakeClock& clock, std::function<void()> before_sleep)
        : device_(device), clock_(clock), before_sleep_(std::move(before_sleep)) {}

    Expected<void> arm() override {
        armed_ = true;
        return {};
    }
    Expected<bool> wait(Nanoseconds limit) override {
        before_sleep_();
        if (armed_ && vgpu_regs_irq_level(&device_.regs)) {
            armed_ = false;
            return true;
        }
        clock_.sleep(limit);
        return false;
    }

  private:
    FakeDevice& device_;
    FakeClock& clock_;
    std::function<void()> before_sleep_;
    bool armed_ = false;
};

}  // namespace vgpu::client::test
