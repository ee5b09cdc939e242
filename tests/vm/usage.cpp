// SPDX-License-Identifier: MIT
#include "vm/usage.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

#include "cli/vgpuctl/admin_client.h"

namespace vgpu::test {
namespace {

using nlohmann::json;

constexpr auto kLimit = std::chrono::seconds(20);

// Returns the number after `name` at the beginning of a line; 0 if there is none.
std::uint64_t value_of(const std::string& text, const std::string& name) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with(name)) {
            return static_cast<std::uint64_t>(std::strtod(line.c_str() + name.size(), nullptr));
        }
    }
    return 0;
}

std::string get(const ctl::AdminClient& client, const std::string& target) {
    const auto reply = client.call("GET", target);
    if (!reply) {
        throw std::runtime_error("the admin API does not answer: " + reply.error().message);
    }
    if (reply->status != 200) {
        throw std::runtime_error("the admin API refuses " + target + ": " + reply->body);
    }
    return reply->body;
}

}  // namespace

std::uint64_t count_descriptors(pid_t pid) {
    const std::filesystem::directory_iterator folder("/proc/" + std::to_string(pid) + "/fd");
    return static_cast<std::uint64_t>(
        std::distance(std::filesystem::begin(folder), std::filesystem::end(folder)));
}

Usage read_usage(pid_t pid, const std::string& admin_socket) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/status");
    const std::string status{std::istreambuf_iterator<char>(file), {}};
    Usage usage;
    usage.rss_kib = value_of(status, "VmRSS:");
    usage.anonymous_kib = value_of(status, "RssAnon:");
    usage.descriptors = count_descriptors(pid);
    const ctl::AdminClient client(admin_socket, kLimit);
    const std::string metrics = get(client, "/metrics");
    usage.connections = value_of(metrics, "vgpu_connections ");
    usage.shared_memory_devices = value_of(metrics, "vgpu_shared_memory_devices ");
    usage.shared_memory_bytes = value_of(metrics, "vgpu_shared_memory_bytes ");
    const json vms = json::parse(get(client, "/v1/vms"));
    for (const json& vm : vms.at("vms")) {
        usage.buffer_bytes += vm.at("memory_used").get<std::uint64_t>();
    }
    return usage;
}

std::string usage_text(const Usage& usage) {
    std::ostringstream text;
    text << "RSS " << usage.rss_kib << " KiB (own " << usage.anonymous_kib << " KiB), "
         << usage.descriptors << " descriptors, " << usage.connections << " connections, "
         << usage.shared_memory_devices << " devices with " << usage.shared_memory_bytes / 1024
         << " KiB of shared memory, " << usage.buffer_bytes << " bytes in GPU buffers";
    return text.str();
}

}  // namespace vgpu::test
