// SPDX-License-Identifier: MIT
//
// Fuzzer: the configuration file. Any text either yields an error that names file and line and
// leaves the configuration unchanged, or a configuration with which a mediator can start.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <string>

#include "base/fd.h"
#include "fuzz/check.h"
#include "mediator/config/config.h"

namespace vgpu::fuzz {
namespace {

// Summarises the configuration, so that a partial change by a rejected file is detected.
std::string summary(const Config& config) {
    std::string text = config.log_level + " " + config.metrics_listen + " " +
                       std::to_string(config.device) + " " + std::to_string(config.log_burst) +
                       " " + config.admin_socket.value_or("none");
    for (const std::string& socket : config.sockets) {
        text += " " + socket;
    }
    const Settings& settings = config.mediator;
    for (const PoolSettings& pool : settings.pools) {
        text += pool.id;
    }
    for (const auto& [id, vm] : settings.vms) {
        text += " vm " + std::to_string(id);
    }
    return text + " " + std::to_string(settings.max_connections) + " " +
           std::to_string(settings.slots) + " " + std::to_string(settings.spin.count()) + " " +
           std::to_string(settings.gpus.size());
}

void check_usable(const Config& config) {
    check(!config.sockets.empty(), "no socket");
    check(is_log_level(config.log_level), "no such log level");
    const Settings& settings = config.mediator;
    check(!settings.pools.empty(), "no pool");
    const std::size_t gpus = std::max<std::size_t>(1, settings.gpus.size());
    std::set<char> pools;
    for (const PoolSettings& pool : settings.pools) {
        check(pools.insert(pool.id).second, "a pool stands there twice");
        check(!pool.devices.empty(), "a pool without a device");
        for (const std::size_t device : pool.devices) {
            check(device < gpus, "a pool names a device that is not there");
        }
    }
    for (const auto& [id, vm] : settings.vms) {
        check(vm.weight >= 0.001 && vm.weight <= 1000.0, "a weight is out of range");
        check(!vm.priority || *vm.priority < VGPU_PRIORITY_COUNT, "no such priority");
    }
    check(settings.slots >= 1 && settings.slots <= 16, "slots are out of range");
}

void run(const std::uint8_t* data, std::size_t size) {
    static const Fd file(::memfd_create("vgpu-fuzz", MFD_CLOEXEC));
    static const std::string path = "/proc/self/fd/" + std::to_string(file.get());
    check(::ftruncate(file.get(), 0) == 0 &&
              ::pwrite(file.get(), data, size, 0) == static_cast<ssize_t>(size),
          "cannot write the file");
    Config config;
    const std::string before = summary(config);
    const auto loaded = load_config_file(path, config);
    if (loaded) {
        check_usable(config);
        return;
    }
    check(summary(config) == before, "a file with an error changed the configuration");
    check(loaded.error().message.starts_with(path + ":"), "an error without file and line");
}

}  // namespace
}  // namespace vgpu::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    vgpu::fuzz::run(data, size);
    return 0;
}
