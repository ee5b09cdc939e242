// SPDX-License-Identifier: MIT
#include "cli/vgpu/common.h"

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/number.h"

namespace vgpu::cli {
namespace {

// Where the share of the file protocol is usually mounted in a VM.
constexpr const char* kUsualFiles = "/mnt/vgpu";

}  // namespace

nlohmann::json failure_json(const Failure& failure) {
    return {{"code", vgpu_code_name(failure.code)},
            {"number", failure.code},
            {"message", failure.message}};
}

void print_json(const nlohmann::json& document) {
    // Names come from the host: invalid UTF-8 is replaced and is never an error.
    std::cout << document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
}

int report_failure(const Settings& settings, const Failure& failure, nlohmann::json partial) {
    if (settings.json) {
        partial["ok"] = false;
        partial["error"] = failure_json(failure);
        print_json(partial);
    } else {
        std::cout.flush();
        std::cerr << "vgpu: " << failure.message;
        if (failure.code >= 1 && failure.code <= 0xFF) {
            std::cerr << " (device error " << failure.code << ", " << vgpu_code_name(failure.code)
                      << ")";
        }
        std::cerr << '\n';
    }
    return kFailure;
}

int report_failure(const Settings& settings, const Failure& failure) {
    return report_failure(settings, failure, nlohmann::json::object());
}

std::optional<std::int64_t> parse_int32(std::string_view text) {
    const auto value = parse_signed_number(text);
    return value && *value >= std::numeric_limits<std::int32_t>::min() &&
                   *value <= std::numeric_limits<std::uint32_t>::max()
               ? value
               : std::nullopt;
}

std::string size_text(std::uint64_t bytes) {
    if (bytes != 0 && bytes % (1U << 20) == 0) {
        return std::to_string(bytes >> 20) + " MiB";
    }
    if (bytes != 0 && bytes % (1U << 10) == 0) {
        return std::to_string(bytes >> 10) + " KiB";
    }
    return std::to_string(bytes) + " bytes";
}

bool has_registers(const Settings& settings) {
    return std::string_view(request_path(settings)) == "registers";
}

const char* request_path(const Settings& settings) {
    if (settings.open.address.starts_with("file:")) {
        return "files";
    }
    return settings.open.address.starts_with("unix:") ? "socket" : "registers";
}

void choose_transport(Settings& settings, const std::string& transport) {
    if (transport.starts_with(kFilePrefix)) {
        settings.open.address = transport;
    }
    if (transport != "auto" || !settings.open.address.empty()) {
        return;
    }
    const auto devices = list_devices(settings.open);
    if (!devices || !devices->empty()) {
        return;
    }
    const char* const given = std::getenv("VGPU_FILES");
    const std::string directory = given != nullptr && *given != '\0' ? given : kUsualFiles;
    std::cerr << "vgpu: this VM has no vgpu device: using the files in " << directory << '\n';
    settings.open.address = std::string(kFilePrefix) + directory;
}

std::string priority_name(std::uint32_t priority) {
    switch (priority) {
        case VGPU_PRIORITY_LOW:
            return "low";
        case VGPU_PRIORITY_MEDIUM:
            return "medium";
        case VGPU_PRIORITY_HIGH:
            return "high";
        default:
            return std::to_string(priority);
    }
}

std::string version_text(std::uint32_t version) {
    return std::to_string(version >> 16) + "." + std::to_string(version & 0xFFFF);
}

std::string duration_text(std::chrono::nanoseconds time) {
    const auto ns = static_cast<double>(time.count());
    char text[32];
    if (ns < 1e6) {
        (void)std::snprintf(text, sizeof text, "%.1f \u00b5s", ns / 1e3);
    } else if (ns < 1e9) {
        (void)std::snprintf(text, sizeof text, "%.2f ms", ns / 1e6);
    } else {
        (void)std::snprintf(text, sizeof text, "%.2f s", ns / 1e9);
    }
    return text;
}

}  // namespace vgpu::cli
