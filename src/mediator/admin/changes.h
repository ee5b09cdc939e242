// SPDX-License-Identifier: MIT
//
// Parses changes sent as JSON: validates and stores each field, or reports the first invalid one.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "mediator/config/settings.h"

namespace vgpu {

struct FieldError {
    std::string field;    // dotted path; empty: the whole body
    std::string message;  // error text
};

// Returns nothing on success. On an error `vm` or `policy` may be partly modified.
std::optional<FieldError> read_vm_change(const nlohmann::json& body, const Settings& settings,
                                         VmSettings& vm);
std::optional<FieldError> read_pool_change(const nlohmann::json& body, PoolPolicy& policy);
// Reads the optional member `reason`.
std::optional<FieldError> read_quarantine_order(const nlohmann::json& body, std::string& reason);

}  // namespace vgpu
