// SPDX-License-Identifier: MIT
//
// Formats data of the API for users: numbers with units, tables, events, errors. The JSON is
// untrusted: a field that is missing or has the wrong type is shown as "-", and text from a guest
// or a driver cannot move the cursor.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace vgpu::ctl {

// Replaces control characters with '?'.
std::string printable(std::string_view text);
// "0 B", "12.0 KiB", "139.8 GiB".
std::string bytes_text(double bytes);
// "850 µs", "12.3 ms", "4.1 s".
std::string micros_text(double us);
// "42 s", "3 min", "5 h 12 min", "3 d 4 h".
std::string uptime_text(double seconds);

// Returns the field as text; "-" if it is null, missing or not a scalar.
std::string field(const nlohmann::json& object, const char* name);
// Returns the field as a number; 0 if it is not one.
double number(const nlohmann::json& object, const char* name);

// Aligns the columns; those set in `right` to the right, for numbers. The first row is the heading.
// Lines have no trailing spaces.
std::string table(const std::vector<std::vector<std::string>>& rows,
                  const std::vector<bool>& right);

std::string status_text(const nlohmann::json& status);
std::string gpus_text(const nlohmann::json& gpus);
std::string pools_text(const nlohmann::json& pools);
std::string vms_text(const nlohmann::json& vms);
std::string vm_text(const nlohmann::json& vm);
// Returns one line without a newline.
std::string event_text(const nlohmann::json& event);

// Returns the error text of a failed response, with the field or the line that it concerns.
std::string api_error_text(unsigned status, std::string_view body);

// Parses samples in Prometheus text format: [{"name", "labels": {…}, "value"}]. A value without a
// JSON number (NaN, +Inf, -Inf) stays text. Skips lines that are not samples.
nlohmann::json metrics_json(std::string_view text);

}  // namespace vgpu::ctl
