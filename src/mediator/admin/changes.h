// SPDX-License-Identifier: MIT
//
// Changes that come as JSON: each field checked and stored, or the first that is wrong named.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "mediator/config/settings.h"

namespace vgpu {

struct FieldError {
    std::string field;    // dotted; empty: the body as a whole
    std::string message;  // a sentence
};

// Nothing if the body was good; otherwise `vm` or `policy` may have been changed in part.
std::optional<FieldError> read_vm_change(const nlohmann::json& body, const Settings& settings,
                                         VmSettings& vm);
std::optional<FieldError> read_pool_change(const nlohmann::json& body, PoolPolicy& policy);
// An optional member `reason`.
std::optional<FieldError> read_quarantine_order(const nlohmann::json& body, std::string& reason);

}  // namespace vgpu
