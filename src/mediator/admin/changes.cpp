// SPDX-License-Identifier: MIT
#include "mediator/admin/changes.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <utility>

#include "mediator/config/names.h"

namespace vgpu {
namespace {

using nlohmann::json;

// Stores a value, or returns what it has to be.
using Reader = std::function<std::optional<std::string>(const json&)>;
using Readers = std::map<std::string, Reader, std::less<>>;

constexpr std::size_t kLongestReason = 200;  // bytes

std::optional<std::int64_t> integer_in(const json& value, std::int64_t least, std::int64_t most) {
    if (!value.is_number_integer() ||
        (value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX)) {
        return std::nullopt;
    }
    const auto number = value.get<std::int64_t>();
    return number >= least && number <= most ? std::optional(number) : std::nullopt;
}

template <typename Store>
Reader integer(std::int64_t least, std::int64_t most, Store store) {
    return [=](const json& value) -> std::optional<std::string> {
        const auto number = integer_in(value, least, most);
        if (!number) {
            return fmt::format("must be a whole number from {} to {}", least, most);
        }
        store(*number);
        return std::nullopt;
    };
}

Reader number(double least, double most, double& to) {
    return [=, &to](const json& value) -> std::optional<std::string> {
        if (!value.is_number() || value.get<double>() < least || value.get<double>() > most) {
            return fmt::format("must be a number from {} to {}", least, most);
        }
        to = value.get<double>();
        return std::nullopt;
    };
}

template <typename Duration>
Reader milliseconds(std::int64_t least, Duration& to) {
    return integer(least, 3'600'000, [&to](std::int64_t value) { to = Duration(value); });
}

std::optional<FieldError> read_members(const json& body, const std::string& prefix,
                                       const Readers& readers) {
    if (!body.is_object()) {
        return FieldError{prefix.empty() ? "" : prefix.substr(0, prefix.size() - 1),
                          "a JSON object is expected"};
    }
    for (const auto& [key, value] : body.items()) {
        const auto reader = readers.find(key);
        if (reader == readers.end()) {
            return FieldError{prefix + key, fmt::format("unknown field '{}{}'", prefix, key)};
        }
        if (const auto wrong = reader->second(value)) {
            return FieldError{prefix + key, fmt::format("'{}{}' {}", prefix, key, *wrong)};
        }
    }
    return std::nullopt;
}

Readers limit_readers(VmSettings& vm) {
    VmLimitSettings& limits = vm.limits;
    return {
        {"requests_per_second", number(0, 1'000'000, limits.requests_per_second)},
        {"burst", integer(1, 1'000'000,
                          [&limits](std::int64_t value) {
                              limits.burst = static_cast<std::uint32_t>(value);
                          })},
        {"gpu_time_ms_per_window", milliseconds(0, limits.gpu_time)},
        {"gpu_window_ms", milliseconds(1, limits.gpu_window)},
        {"quarantine_after_faults", integer(0, 1'000'000,
                                            [&limits](std::int64_t value) {
                                                limits.quarantine_after_faults =
                                                    static_cast<std::uint32_t>(value);
                                            })},
        {"longest_execution_ms", milliseconds(0, limits.longest_execution)},
        {"memory_bytes", integer(0, std::numeric_limits<std::int64_t>::max(),
                                 [&vm](std::int64_t value) {
                                     vm.memory_bytes = static_cast<std::uint64_t>(value);
                                 })},
    };
}

std::optional<std::string> read_pool(const json& value, const Settings& settings, VmSettings& vm) {
    if (value.is_null()) {
        vm.pool.reset();
        return std::nullopt;
    }
    const std::string text = value.is_string() ? value.get<std::string>() : std::string();
    const bool served =
        text.size() == 1 && std::any_of(settings.pools.begin(), settings.pools.end(),
                                        [&](const auto& pool) { return pool.id == text[0]; });
    if (!served) {
        std::string ids;
        for (const PoolSettings& pool : settings.pools) {
            fmt::format_to(std::back_inserter(ids), "{}\"{}\"", ids.empty() ? "" : ", ", pool.id);
        }
        return fmt::format("must be one of {}, or null", ids);
    }
    vm.pool = text[0];
    return std::nullopt;
}

std::optional<std::string> read_priority(const json& value, VmSettings& vm) {
    if (value.is_null()) {
        vm.priority.reset();
        return std::nullopt;
    }
    if (const auto level =
            level_named(value.is_string() ? value.get<std::string>() : std::string())) {
        vm.priority = level;
        return std::nullopt;
    }
    return "must be \"low\", \"medium\" or \"high\", or null";
}

}  // namespace

std::optional<FieldError> read_vm_change(const json& body, const Settings& settings,
                                         VmSettings& vm) {
    if (body.is_object() && body.contains("limits")) {
        if (auto wrong = read_members(body["limits"], "limits.", limit_readers(vm))) {
            return wrong;
        }
    }
    return read_members(
        body, "",
        {
            {"pool", [&](const json& value) { return read_pool(value, settings, vm); }},
            {"priority", [&](const json& value) { return read_priority(value, vm); }},
            {"weight", number(0.001, 1000, vm.weight)},
            {"boost",
             [&](const json& value) -> std::optional<std::string> {
                 if (!value.is_boolean()) {
                     return "must be true or false";
                 }
                 vm.boost = value.get<bool>();
                 return std::nullopt;
             }},
            {"queue_depth", integer(1, 1'000'000,
                                    [&vm](std::int64_t value) {
                                        vm.queue_depth = static_cast<std::size_t>(value);
                                    })},
            {"limits", [](const json& /*read above*/) { return std::nullopt; }},
        });
}

std::optional<FieldError> read_pool_change(const json& body, PoolPolicy& policy) {
    return read_members(body, "",
                        {
                            {"policy",
                             [&](const json& value) -> std::optional<std::string> {
                                 const auto named = policy_named(
                                     value.is_string() ? value.get<std::string>() : std::string());
                                 if (!named) {
                                     return "must be \"strict\" or \"fair\"";
                                 }
                                 policy.policy = *named;
                                 return std::nullopt;
                             }},
                            {"aging_ms", milliseconds(0, policy.aging)},
                        });
}

std::optional<FieldError> read_quarantine_order(const json& body, std::string& reason) {
    return read_members(
        body, "", {{"reason", [&](const json& value) -> std::optional<std::string> {
                        if (!value.is_string() ||
                            value.get_ref<const std::string&>().size() > kLongestReason) {
                            return fmt::format("must be text of at most {} bytes", kLongestReason);
                        }
                        reason = value.get<std::string>();
                        return std::nullopt;
                    }}});
}

}  // namespace vgpu
