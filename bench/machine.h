// SPDX-License-Identifier: MIT
//
// The machine a measurement was made on, as far as it bears on the figures. Says nothing that
// would tell one machine of a kind from another (no host name, no serial number).
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace vgpu::bench {

// {"cpu": model, "cores": usable by this process, "kernel": release, "load_average": 1 minute}.
// What cannot be found out is "unknown", or null for the load.
nlohmann::json describe_machine();

// Writes what was measured to a file, unless the path is empty. Throws std::runtime_error if it
// cannot.
void write_report(const std::string& path, const nlohmann::json& report);

}  // namespace vgpu::bench
