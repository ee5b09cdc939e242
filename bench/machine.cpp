// SPDX-License-Identifier: MIT
#include "machine.h"

#include <sched.h>
#include <sys/utsname.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <string>
#include <system_error>

namespace vgpu::bench {

namespace {

std::string cpu_model() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        // x86 has "model name"; arm64 has no name, "CPU part" is the closest.
        if (line.starts_with("model name") || line.starts_with("CPU part")) {
            const std::size_t colon = line.find(": ");
            return colon == std::string::npos ? "unknown" : line.substr(colon + 2);
        }
    }
    return "unknown";
}

int usable_cores() {
    cpu_set_t set;
    CPU_ZERO(&set);
    return ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
}

}  // namespace

nlohmann::json describe_machine() {
    utsname names{};
    const bool named = ::uname(&names) == 0;
    double load = 0;
    const bool loaded = ::getloadavg(&load, 1) == 1;
    return {{"cpu", cpu_model()},
            {"cores", usable_cores()},
            {"kernel", named ? names.release : "unknown"},
            {"load_average", loaded ? nlohmann::json(load) : nlohmann::json()}};
}

void write_report(const std::string& path, const nlohmann::json& report) {
    if (path.empty()) {
        return;
    }
    errno = 0;
    std::ofstream file(path);
    file << report.dump(2) << '\n';
    file.close();
    if (!file) {
        throw std::system_error(errno, std::generic_category(), "cannot write " + path);
    }
}

}  // namespace vgpu::bench
