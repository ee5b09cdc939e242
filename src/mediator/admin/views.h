// SPDX-License-Identifier: MIT
//
// The admin API's resources as JSON. The members and their order are those of docs/openapi.json.
#pragma once

#include <nlohmann/json.hpp>

#include "mediator/admin/control.h"

namespace vgpu {

using Json = nlohmann::ordered_json;

Json json_of(const StatusView& view);
Json json_of(const GpuView& view);
Json json_of(const PoolView& view);
Json json_of(const VmView& view);

}  // namespace vgpu
