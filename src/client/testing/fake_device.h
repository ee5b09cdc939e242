// SPDX-License-Identifier: MIT
//
// For the library's tests: a device in memory, with the register file of the real one and a
// mediator that the test plays, a clock that only moves when somebody waits, and an interrupt
// line. A test can also make the device lie, register by register.
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
    // What the mediator answers to a request; nothing: it never does.
    std::function<std::optional<Bytes>(const Bytes& request)> mediator;
    // The answer comes with this many-th look at STATUS (0: before the first).
    int looks_before_answer = 0;
    // Registers that give another value than they should.
    std::map<std::uint32_t, std::uint32_t> lies;
    // Every access, as (offset, width); negative offsets are writes, minus one.
    std::vector<std::pair<long, std::uint32_t>> accesses;
    std::vector<std::uint32_t> ids;
    std::optional<Bytes> pending;
    int looks_left = 0;

    FakeDevice() {
        vgpu_regs_init(&regs, 'B', VGPU_PRIORITY_HIGH, 7);
        vgpu_regs_connected(&regs);
    }

    void ring() {
        ids.push_back(regs.inflight_id);
        pending = mediator ? mediator(Bytes(regs.inflight, regs.inflight + regs.inflight_len))
                           : std::nullopt;
        looks_left = looks_before_answer;
        deliver_if_due();
    }

    void deliver_if_due() {
        if (pending && looks_left == 0) {
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
            --device_.looks_left;
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

// INTx of a FakeDevice behind a line that the kernel masks at each interrupt.
class FakeInterrupt : public InterruptSource {
  public:
    // Both must outlive the source. `before_sleep` runs while the process would sleep.
    FakeInterrupt(FakeDevice& device, FakeClock& clock, std::function<void()> before_sleep)
        : device_(device), clock_(clock), before_sleep_(std::move(before_sleep)) {}

    Outcome<void> arm() override {
        armed_ = true;
        return {};
    }
    Outcome<bool> wait(Nanoseconds limit) override {
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
