// SPDX-License-Identifier: MIT
//
// Describes the machine of a measurement, as far as it affects the figures. Omits everything that
// identifies the individual machine (host name, serial number).
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace vgpu::bench {

// Returns {"cpu": model, "cores": usable by this process, "kernel": release, "load_average": 1
// minute}. Values that cannot be determined are "unknown", or null for the load.
nlohmann::json describe_machine();

// Writes the report to a file, unless the path is empty. Throws std::runtime_error on failure.
void write_report(const std::string& path, const nlohmann::json& report);

}  // namespace vgpu::bench
