// SPDX-License-Identifier: MIT
//
// How vgpuctl shows what the API says to people: numbers with units, tables, events, errors. Takes
// JSON as it came and never trusts it: a field that is missing or of another kind is shown as "-",
// and text of a guest or a driver cannot move the cursor.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace vgpu::ctl {

// Without control characters, which become '?'.
std::string printable(std::string_view text);
// "0 B", "12.0 KiB", "139.8 GiB".
std::string bytes_text(double bytes);
// "850 µs", "12.3 ms", "4.1 s".
std::string micros_text(double us);
// "42 s", "3 min", "5 h 12 min", "3 d 4 h".
std::string uptime_text(double seconds);

// The field as text; "-" for null, for what is missing and for what is no scalar.
std::string field(const nlohmann::json& object, const char* name);
// The field as a number; 0 if it is none.
double number(const nlohmann::json& object, const char* name);

// Columns wide enough for what is in them; numbers (columns of `right`) to the right. The first row
// is the heading. A line never ends in spaces.
std::string table(const std::vector<std::vector<std::string>>& rows,
                  const std::vector<bool>& right);

std::string status_text(const nlohmann::json& status);
std::string gpus_text(const nlohmann::json& gpus);
std::string pools_text(const nlohmann::json& pools);
std::string vms_text(const nlohmann::json& vms);
std::string vm_text(const nlohmann::json& vm);
// One line without an end.
std::string event_text(const nlohmann::json& event);

// What an answer that is no success says, as a sentence with the field or the line it is about.
std::string api_error_text(unsigned status, std::string_view body);

// Samples of Prometheus' text format: [{"name", "labels": {…}, "value"}]. A value that JSON has no
// number for (NaN, +Inf, -Inf) stays text. Lines that are none are left out.
nlohmann::json metrics_json(std::string_view text);

}  // namespace vgpu::ctl
