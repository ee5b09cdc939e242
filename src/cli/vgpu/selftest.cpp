// SPDX-License-Identifier: MIT
#include "cli/vgpu/selftest.h"
#include "client/api/raw.h"

#include <algorithm>
#include <array>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

namespace vgpu::cli {
namespace {

using nlohmann::json;

const char* result_text(CheckResult result) {
    switch (result) {
        case CheckResult::kPass:
            return "PASS";
        case CheckResult::kFail:
            return "FAIL";
        default:
            return "SKIPPED";
    }
}

}  // namespace

Complaint expect_equal(const std::string& what, std::uint64_t got, std::uint64_t expected) {
    if (got == expected) {
        return std::nullopt;
    }
    std::ostringstream text;
    text << what << " is 0x" << std::hex << got << ", expected 0x" << expected;
    return text.str();
}

void SelfTest::check(const std::string& group, const std::string& name,
                     const std::function<Complaint()>& body) {
    const Complaint complaint = body();
    add({group, name, complaint ? CheckResult::kFail : CheckResult::kPass,
         complaint.value_or(std::string())});
}

void SelfTest::skip(const std::string& group, const std::string& name, const std::string& why) {
    add({group, name, CheckResult::kSkipped, why});
}

void SelfTest::add(CheckLine line) {
    if (!settings_.json) {
        std::cout << std::left << std::setw(11) << line.group << std::setw(57) << line.name << ' '
                  << result_text(line.result) << std::endl;
        if (!line.detail.empty()) {
            std::cout << "           " << line.detail << std::endl;
        }
    }
    lines_.push_back(std::move(line));
}

std::uint64_t SelfTest::read(std::uint32_t offset, std::uint32_t width) {
    std::uint64_t value = 0;
    (void)vgpu_mmio_read(device_.get(), offset, width, &value, nullptr);
    return value;
}

void SelfTest::write(std::uint32_t offset, std::uint64_t value, std::uint32_t width) {
    (void)vgpu_mmio_write(device_.get(), offset, width, value, nullptr);
}

void SelfTest::settle() {
    // A device that does not become idle fails the checks that follow.
    (void)device_.drain(settings_.timeout);
}

int run_selftest(const Settings& settings, const std::string& only, bool gpu) {
    auto device = Device::open(settings.open);
    if (!device) {
        return report_failure(settings, device.failure());
    }
    if (const auto idle = device->drain(settings.timeout); !idle) {
        return report_failure(settings, idle.failure());
    }
    SelfTest test(*device, settings);
    const std::array<std::pair<const char*, void (*)(SelfTest&)>, 7> groups{
        {{"registers", check_registers},
         {"buffers", check_buffers},
         {"doorbell", check_doorbell},
         {"interrupt", check_interrupt},
         {"requests", check_requests},
         {"queues", check_queues},
         {"gpu", check_gpu}}};
    for (const auto& [name, run] : groups) {
        const bool on_request = std::string_view(name) == "gpu";
        if (only != name && (on_request ? !gpu : !only.empty())) {
            continue;
        }
        // Behind a socket and behind files there is only the mediator.
        const bool needs_registers = !on_request && std::string_view(name) != "queues";
        if (needs_registers && !has_registers(settings)) {
            test.skip(name, "all checks", "a mediator's socket and files have no registers");
        } else {
            run(test);
        }
    }
    const auto count = [&test](CheckResult result) {
        return std::count_if(test.lines().begin(), test.lines().end(),
                             [result](const auto& line) { return line.result == result; });
    };
    const auto failed = count(CheckResult::kFail);
    if (settings.json) {
        json checks = json::array();
        for (const auto& line : test.lines()) {
            checks.push_back({{"group", line.group},
                              {"name", line.name},
                              {"result", result_text(line.result)},
                              {"detail", line.detail}});
        }
        print_json({{"ok", failed == 0},
                    {"passed", count(CheckResult::kPass)},
                    {"failed", failed},
                    {"skipped", count(CheckResult::kSkipped)},
                    {"checks", checks}});
    } else {
        std::cout << count(CheckResult::kPass) << " passed, " << failed << " failed, "
                  << count(CheckResult::kSkipped) << " skipped\n";
    }
    return failed == 0 ? kSuccess : kFailure;
}

}  // namespace vgpu::cli
