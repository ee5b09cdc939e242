// SPDX-License-Identifier: MIT
//
// The short commands: list, info, add.
#include <array>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string_view>

#include "cli/vgpu/common.h"

namespace vgpu::cli {
namespace {

using nlohmann::json;

json device_json(const Settings& settings, const Properties& device) {
    json capabilities = json::array();
    const std::array<std::pair<std::uint32_t, const char*>, 4> names{
        {{VGPU_CAP_BASIC_REQUEST, "basic-request"},
         {VGPU_CAP_INTERRUPT, "interrupt"},
         {VGPU_CAP_DMA, "dma"},
         {VGPU_CAP_MULTI_REQUEST, "multi-request"}}};
    for (const auto& [bit, name] : names) {
        if ((device.capabilities & bit) != 0) {
            capabilities.push_back(name);
        }
    }
    // A path may be too long for the property.
    return {{"address", has_registers(settings) ? device.address : settings.open.address},
            {"pool", std::string(1, device.pool)},
            {"priority", priority_name(device.priority)},
            {"vm_id", device.vm_id},
            {"protocol", version_text(device.protocol_version)},
            {"capabilities", capabilities},
            {"interrupt_usable", device.has_interrupt != 0}};
}

json memory_json(const ShmInfo& memory) {
    return memory.size == 0 ? json(nullptr)
                            : json{{"size", memory.size},
                                   {"heap_size", memory.heap_size},
                                   {"queues", memory.queue_count},
                                   {"free_queues", memory.free_queues},
                                   {"ring_size", memory.ring_size},
                                   {"attached", memory.generation != 0},
                                   {"generation", memory.generation}};
}

json gpu_json(const GpuInfo& gpu) {
    return {{"backend", gpu.backend == VGPU_BACKEND_CUDA  ? "cuda"
                        : gpu.backend == VGPU_BACKEND_CPU ? "cpu"
                                                          : std::to_string(gpu.backend)},
            {"name", gpu.name},
            {"compute_capability", version_text(gpu.compute_capability)},
            {"multiprocessors", gpu.multiprocessors},
            {"driver_version", gpu.driver_version},
            {"memory_total", gpu.memory_total},
            {"memory_free", gpu.memory_free}};
}

void line(const char* name, const std::string& value) {
    std::cout << std::left << std::setw(16) << name << value << '\n';
}

void print_device(const json& device) {
    const auto address = device["address"].get<std::string>();
    const bool registers = !address.starts_with("unix:") && !address.starts_with("file:");
    line("device", address + (registers ? " (1af4:1111)" : ""));
    line("pool", device["pool"]);
    line("priority", device["priority"]);
    line("VM id", std::to_string(device["vm_id"].get<std::uint32_t>()));
    line("protocol", device["protocol"]);
    std::string capabilities;
    for (const auto& name : device["capabilities"]) {
        capabilities += (capabilities.empty() ? "" : ", ") + name.get<std::string>();
    }
    line("capabilities", capabilities);
    const char* const interrupt = registers ? "interrupt (uio_pci_generic)" : "interrupt (eventfd)";
    line("waits by", device["interrupt_usable"].get<bool>() ? interrupt : "polling");
}

// `why`: the reason if there is none.
void print_memory(const ShmInfo& memory, const std::string& why) {
    if (memory.size == 0) {
        line("shared memory", "none: " + why);
        return;
    }
    line("shared memory",
         size_text(memory.size) + ", " +
             (memory.generation != 0 ? "served by the mediator" : "not served by a mediator now"));
    line("queues",
         std::to_string(memory.queue_count) + ", " + std::to_string(memory.free_queues) + " free");
}

std::string memory_text(std::uint64_t bytes) {
    constexpr std::uint64_t kMiB = 1U << 20;
    return std::to_string(bytes / kMiB) + " MiB";
}

void print_gpu(const json& gpu, const GpuInfo& info) {
    line("backend", gpu["backend"]);
    line("GPU", gpu["name"]);
    if (info.backend == VGPU_BACKEND_CUDA) {
        line("compute", gpu["compute_capability"]);
        line("driver", std::to_string(info.driver_version / 1000) + "." +
                           std::to_string(info.driver_version % 1000 / 10));
    }
    line(info.backend == VGPU_BACKEND_CUDA ? "multiprocessors" : "cores",
         std::to_string(info.multiprocessors));
    line("memory", memory_text(info.memory_total) + ", " + memory_text(info.memory_free) + " free");
}

}  // namespace

int run_list(const Settings& settings) {
    const auto devices = list_devices(settings.open);
    if (!devices) {
        return report_failure(settings, devices.failure());
    }
    if (devices->empty()) {
        return report_failure(settings, {VGPU_E_NO_DEVICE, vgpu_code_text(VGPU_E_NO_DEVICE), 0},
                              {{"devices", json::array()}});
    }
    json list = json::array();
    for (const auto& device : *devices) {
        const bool has_uio = device.uio[0] != '\0';
        list.push_back(
            {{"address", device.address}, {"uio", has_uio ? json(device.uio) : json(nullptr)}});
        if (!settings.json) {
            std::cout << device.address << (has_uio ? "  " : "") << device.uio << '\n';
        }
    }
    if (settings.json) {
        print_json({{"ok", true}, {"devices", list}});
    }
    return kSuccess;
}

int run_info(const Settings& settings) {
    auto device = Device::open(settings.open);
    if (!device) {
        return report_failure(settings, device.failure());
    }
    const ShmInfo memory = device->shm_info();
    json document{{"ok", true},
                  {"device", device_json(settings, device->properties())},
                  {"shared_memory", memory_json(memory)}};
    std::string why;
    if (memory.size == 0) {
        const auto heap = device->heap_info();
        why = heap ? std::string() : heap.failure().message;
        document["no_shared_memory_because"] = why;
    }
    if (!settings.json) {
        print_device(document["device"]);
        print_memory(memory, why);
    }
    const auto gpu = device->info(settings.timeout);
    if (!gpu) {
        return report_failure(settings, gpu.failure(), document);
    }
    document["gpu"] = gpu_json(*gpu);
    if (settings.json) {
        print_json(document);
    } else {
        print_gpu(document["gpu"], *gpu);
    }
    return kSuccess;
}

int run_add(const Settings& settings, const std::string& a, const std::string& b) {
    std::array<std::int64_t, 2> values{};
    for (std::size_t i = 0; i < 2; ++i) {
        const std::string& text = i == 0 ? a : b;
        const auto value = parse_int32(text);
        if (!value) {
            const Failure failure{VGPU_E_ARGUMENT,
                                  "'" + text +
                                      "' is not a 32-bit integer: give a whole number from "
                                      "-2147483648 to 4294967295, decimal without leading zeros "
                                      "or hexadecimal with 0x",
                                  0};
            report_failure(settings, failure);
            return kUsage;
        }
        values[i] = *value;
    }
    auto device = Device::open(settings.open);
    if (!device) {
        return report_failure(settings, device.failure());
    }
    const std::array<std::uint32_t, 2> params{static_cast<std::uint32_t>(values[0]),
                                              static_cast<std::uint32_t>(values[1])};
    Expected<Reply> reply = Failure{};
    const auto took =
        time_of([&] { reply = device->call(VGPU_OP_CUDA_KERNEL, params, {}, settings.timeout); });
    if (!reply) {
        return report_failure(settings, reply.failure());
    }
    if (reply->result_count < 1) {
        return report_failure(
            settings,
            {VGPU_E_BAD_RESPONSE,
             "the response to an addition contains no result: this is a bug in the mediator", 0});
    }
    // The result is 32 bits wide. Shows the sum itself if it has a 32-bit form with these bits,
    // otherwise the sum modulo 2^32.
    const std::uint32_t bits = reply->results[0];
    const std::int64_t sum = values[0] + values[1];
    const bool fits = parse_int32(std::to_string(sum)).has_value();
    if (bits != static_cast<std::uint32_t>(sum)) {
        return report_failure(
            settings, {VGPU_E_BAD_RESPONSE,
                       "wrong result: " + a + " + " + b + " came back as " + std::to_string(bits) +
                           (std::string_view(request_path(settings)) == "files"
                                ? "; perhaps this is the response to an earlier request that timed "
                                  "out: try again"
                                : "; report this to the host's operator"),
                       0});
    }
    const std::int64_t shown = fits ? sum : std::int64_t{bits};
    if (settings.json) {
        print_json({{"ok", true},
                    {"a", values[0]},
                    {"b", values[1]},
                    {"sum", shown},
                    {"wrapped", !fits},
                    {"round_trip_us", static_cast<double>(took.count()) / 1e3},
                    {"exec_time_us", reply->exec_time_us}});
    } else {
        std::cout << values[0] << " + " << values[1] << " = " << shown
                  << (fits ? "" : " (modulo 2^32)") << '\n'
                  << "round trip " << duration_text(took) << ", execution " << reply->exec_time_us
                  << " \u00b5s\n";
    }
    return kSuccess;
}

}  // namespace vgpu::cli
