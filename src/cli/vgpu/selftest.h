// SPDX-License-Identifier: MIT
//
// Framework of `vgpu selftest`: a list of checks, each with one line in the table. A check is a
// function that returns nothing on success, or an error text with what it observed.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/vgpu/common.h"

namespace vgpu::cli {

using Complaint = std::optional<std::string>;

enum class CheckResult { kPass, kFail, kSkipped };

struct CheckLine {
    std::string group;
    std::string name;
    CheckResult result;
    std::string detail;
};

class SelfTest {
  public:
    // Borrows both.
    SelfTest(Device& device, const Settings& settings) : device_(device), settings_(settings) {}

    void check(const std::string& group, const std::string& name,
               const std::function<Complaint()>& body);
    void skip(const std::string& group, const std::string& name, const std::string& why);

    [[nodiscard]] Device& device() { return device_; }
    [[nodiscard]] const Settings& settings() const { return settings_; }
    [[nodiscard]] const std::vector<CheckLine>& lines() const { return lines_; }

    // One access to BAR0. The checks use constant offsets, so these cannot fail.
    std::uint64_t read(std::uint32_t offset, std::uint32_t width = 4);
    void write(std::uint32_t offset, std::uint64_t value, std::uint32_t width = 4);
    // Brings STATUS to IDLE.
    void settle();

  private:
    void add(CheckLine line);

    Device& device_;
    const Settings& settings_;
    std::vector<CheckLine> lines_;
};

// Returns "SCRATCH is 0x0, expected 0x5", or nothing if they are equal.
Complaint expect_equal(const std::string& what, std::uint64_t got, std::uint64_t expected);

// The groups.
void check_registers(SelfTest& test);
void check_buffers(SelfTest& test);
void check_doorbell(SelfTest& test);
void check_interrupt(SelfTest& test);
void check_requests(SelfTest& test);
void check_queues(SelfTest& test);
// Checks every operation on GPU memory against results computed on the CPU.
void check_gpu(SelfTest& test);

}  // namespace vgpu::cli
