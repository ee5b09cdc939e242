// SPDX-License-Identifier: MIT
//
// The machine a measurement was made on, as far as it bears on the figures. Says nothing that
// would tell one machine of a kind from another (no host name, no serial number).
#pragma once

#include <nlohmann/json.hpp>

namespace vgpu::bench {

// {"cpu": model, "cores": usable by this process, "kernel": release, "load_average": 1 minute}.
// What cannot be found out is "unknown", or null for the load.
nlohmann::json describe_machine();

}  // namespace vgpu::bench
