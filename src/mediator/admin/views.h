// SPDX-License-Identifier: MIT
//
// What the admin API shows, as JSON. The members and their order are those of docs/openapi.json.
#pragma once

#include <nlohmann/json.hpp>

#include "mediator/admin/control.h"

namespace vgpu {

using Json = nlohmann::ordered_json;

Json json_of(const StatusView& view);
Json json_of(const GpuView& view);
Json json_of(const PoolView& view);
Json json_of(const VmView& view);

// "low", "medium" or "high". Precondition: level < VGPU_PRIORITY_COUNT.
const char* level_name(std::size_t level);
const char* backend_text(vgpu_backend backend);
const char* policy_name(Policy policy);

}  // namespace vgpu
