// SPDX-License-Identifier: MIT
#include "mediator/admin/api.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>
#include <variant>

#include "mediator/admin/changes.h"
#include "mediator/admin/metrics.h"
#include "mediator/admin/views.h"

namespace vgpu {
namespace {

using nlohmann::json;

constexpr const char* kMetricsType = "text/plain; version=0.0.4; charset=utf-8";
// Maximum number of VMs with settings of their own, including those that API calls add.
constexpr std::size_t kMostVmSettings = 65536;

std::string dump(const Json& value) {
    std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    text += '\n';
    return text;
}

// VMs serialized per handler. Each takes some 10 us, and there may be thousands.
constexpr std::size_t kAtOnce = 16;

AdminAnswer ok(const Json& value, unsigned status = 200) {
    AdminAnswer answer;
    answer.status = status;
    answer.body = dump(value);
    return answer;
}

std::optional<std::uint32_t> parse_id(std::string_view text) {
    std::uint32_t id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error != std::errc() || end != text.data() + text.size()) {
        return std::nullopt;
    }
    return id;
}

AdminAnswer unknown_vm(std::string_view id) {
    return admin_error(404, "unknown_vm",
                       fmt::format("unknown VM '{}': it is neither configured nor has it "
                                   "connected; 'vgpuctl vms' lists the known VMs",
                                   id));
}

AdminAnswer unknown_pool(std::string_view id) {
    return admin_error(404, "unknown_pool",
                       fmt::format("unknown pool '{}'; 'vgpuctl pools' lists the pools", id));
}

AdminAnswer wrong_field(const FieldError& wrong) {
    return admin_error(422, "bad_value", wrong.message, wrong.field);
}

// Returns what {id} matches (empty without {id}) if `path` matches `pattern`; otherwise nothing.
std::optional<std::string_view> match(std::string_view path, std::string_view pattern) {
    const std::size_t brace = pattern.find("{id}");
    if (brace == std::string_view::npos) {
        return path == pattern ? std::optional(std::string_view()) : std::nullopt;
    }
    const std::string_view before = pattern.substr(0, brace);
    const std::string_view after = pattern.substr(brace + 4);
    if (path.size() <= before.size() + after.size() || !path.starts_with(before) ||
        !path.ends_with(after)) {
        return std::nullopt;
    }
    const std::string_view id =
        path.substr(before.size(), path.size() - before.size() - after.size());
    return id.find('/') == std::string_view::npos ? std::optional(id) : std::nullopt;
}

// The body as JSON, or the error response.
struct Body {
    json value;
    std::optional<AdminAnswer> refusal;
};
Body read_body(const AdminRequest& request) {
    const std::string_view type = request.content_type.substr(0, request.content_type.find(';'));
    if (type != "application/json") {
        return {{},
                admin_error(415, "unsupported_type",
                            "send the body as JSON, with Content-Type: application/json")};
    }
    json value = json::parse(request.body, nullptr, false);
    if (value.is_discarded()) {
        return {{}, admin_error(400, "bad_json", "the body is not JSON")};
    }
    return {std::move(value), std::nullopt};
}

// Parses "vm=7&type=a,b".
std::variant<EventFilter, FieldError> read_filter(std::string_view query) {
    EventFilter filter;
    while (!query.empty()) {
        const std::string_view part = query.substr(0, query.find('&'));
        query.remove_prefix(std::min(query.size(), part.size() + 1));
        const std::size_t equals = part.find('=');
        const std::string_view key = part.substr(0, equals);
        std::string_view value = equals == std::string_view::npos ? "" : part.substr(equals + 1);
        if (key == "vm") {
            filter.vm = parse_id(value);
            if (!filter.vm) {
                return FieldError{"vm", "'vm' must be a VM id"};
            }
        } else if (key == "type") {
            filter.kinds = 0;
            while (!value.empty()) {
                const std::string_view name = value.substr(0, value.find(','));
                value.remove_prefix(std::min(value.size(), name.size() + 1));
                const auto kind = event_named(name);
                if (!kind) {
                    return FieldError{"type", fmt::format("unknown event '{}'", name)};
                }
                filter.kinds |= 1U << static_cast<unsigned>(*kind);
            }
            if (filter.kinds == 0) {
                return FieldError{"type", "'type' must name events, separated by commas"};
            }
        } else {
            return FieldError{std::string(key),
                              fmt::format("unknown parameter '{}': use vm or type", key)};
        }
    }
    return filter;
}

std::pair<std::string_view, std::string_view> split_target(std::string_view target) {
    const std::size_t mark = target.find('?');
    return {target.substr(0, mark),
            mark == std::string_view::npos ? std::string_view() : target.substr(mark + 1)};
}

}  // namespace

AdminAnswer admin_error(unsigned status, std::string_view code, std::string_view message,
                        std::string_view field) {
    Json error{{"code", code}, {"message", message}};
    if (!field.empty()) {
        error["field"] = field;
    }
    return ok({{"error", std::move(error)}}, status);
}

const std::vector<AdminApi::Entry>& AdminApi::entries() {
    static const std::vector<Entry> kEntries{
        {{"GET", "/v1/status"}, &AdminApi::get_status},
        {{"GET", "/v1/gpus"}, &AdminApi::list_gpus},
        {{"GET", "/v1/pools"}, &AdminApi::list_pools},
        {{"GET", "/v1/pools/{id}"}, &AdminApi::get_pool},
        {{"PATCH", "/v1/pools/{id}"}, &AdminApi::change_pool},
        {{"GET", "/v1/vms"}, &AdminApi::list_vms},
        {{"GET", "/v1/vms/{id}"}, &AdminApi::get_vm},
        {{"PATCH", "/v1/vms/{id}"}, &AdminApi::change_vm},
        {{"POST", "/v1/vms/{id}/quarantine"}, &AdminApi::quarantine_vm},
        {{"POST", "/v1/vms/{id}/release"}, &AdminApi::release_vm},
        {{"POST", "/v1/drain"}, &AdminApi::drain},
        {{"POST", "/v1/reload"}, &AdminApi::reload},
        {{"GET", "/v1/events"}, &AdminApi::stream_events},
        {{"GET", "/metrics"}, &AdminApi::get_metrics},
    };
    return kEntries;
}

std::vector<AdminApi::Route> AdminApi::routes() {
    std::vector<Route> routes;
    for (const Entry& entry : entries()) {
        routes.push_back(entry.route);
    }
    return routes;
}

AdminAnswer AdminApi::answer(const AdminRequest& request) {
    const auto [path, query] = split_target(request.target);
    std::string allowed;
    for (const Entry& entry : entries()) {
        const auto id = match(path, entry.route.path);
        if (!id) {
            continue;
        }
        if (entry.route.method == request.method) {
            return (this->*entry.handler)({.id = *id, .query = query, .request = request});
        }
        fmt::format_to(std::back_inserter(allowed), "{}{}", allowed.empty() ? "" : ", ",
                       entry.route.method);
    }
    if (allowed.empty()) {
        return admin_error(404, "not_found",
                           "no such path: docs/openapi.json lists the paths of the API");
    }
    AdminAnswer refusal =
        admin_error(405, "method_not_allowed", fmt::format("this path accepts {}", allowed));
    refusal.allow = std::move(allowed);
    return refusal;
}

AdminAnswer AdminApi::answer_metrics_only(const AdminRequest& request) const {
    if (split_target(request.target).first != "/metrics") {
        return admin_error(404, "not_found",
                           "this address serves /metrics only; the API is on the admin socket");
    }
    if (request.method != "GET") {
        AdminAnswer refusal = admin_error(405, "method_not_allowed", "this path accepts GET");
        refusal.allow = "GET";
        return refusal;
    }
    AdminAnswer answer;
    answer.content_type = kMetricsType;
    answer.more = metrics_.writer(control_);
    return answer;
}

AdminAnswer AdminApi::get_status(const Call& /*call*/) {
    return ok(json_of(control_.status()));
}

AdminAnswer AdminApi::list_gpus(const Call& /*call*/) {
    Json list = Json::array();
    for (const GpuView& gpu : control_.gpus()) {
        list.push_back(json_of(gpu));
    }
    return ok({{"gpus", std::move(list)}});
}

AdminAnswer AdminApi::list_pools(const Call& /*call*/) {
    Json list = Json::array();
    for (const PoolView& pool : control_.pools()) {
        list.push_back(json_of(pool));
    }
    return ok({{"pools", std::move(list)}});
}

AdminAnswer AdminApi::get_pool(const Call& call) {
    for (const PoolView& pool : control_.pools()) {
        if (call.id == std::string_view(&pool.id, 1)) {
            return ok(json_of(pool));
        }
    }
    return unknown_pool(call.id);
}

AdminAnswer AdminApi::change_pool(const Call& call) {
    Settings settings = control_.settings();
    const auto pool = std::find_if(
        settings.pools.begin(), settings.pools.end(),
        [&](const PoolSettings& each) { return call.id == std::string_view(&each.id, 1); });
    if (pool == settings.pools.end()) {
        return unknown_pool(call.id);
    }
    Body body = read_body(call.request);
    if (body.refusal) {
        return *std::move(body.refusal);
    }
    if (const auto wrong = read_pool_change(body.value, pool->policy)) {
        return wrong_field(*wrong);
    }
    control_.apply(settings);
    return get_pool(call);
}

AdminAnswer AdminApi::list_vms(const Call& /*call*/) {
    AdminAnswer answer;
    answer.body = R"({"vms":[)";
    answer.more = [ids = control_.vm_ids(), read = control_.vm_reader(),
                   next = std::size_t{0}](std::string& body) mutable {
        const auto these = std::span(ids).subspan(next, std::min(kAtOnce, ids.size() - next));
        for (const VmView& vm : read(these)) {
            fmt::format_to(std::back_inserter(body), "{}{}", next++ == 0 ? "" : ",",
                           dump(json_of(vm)));
        }
        if (next < ids.size()) {
            return true;
        }
        body += "]}\n";
        return false;
    };
    return answer;
}

AdminAnswer AdminApi::get_vm(const Call& call) {
    const auto id = parse_id(call.id);
    const auto vm = id ? control_.vm(*id) : std::nullopt;
    return vm ? ok(json_of(*vm)) : unknown_vm(call.id);
}

AdminAnswer AdminApi::change_vm(const Call& call) {
    const auto id = parse_id(call.id);
    if (!id || !control_.vm(*id)) {
        return unknown_vm(call.id);
    }
    Body body = read_body(call.request);
    if (body.refusal) {
        return *std::move(body.refusal);
    }
    VmSettings vm = control_.settings().vm(*id);
    if (const auto wrong = read_vm_change(body.value, control_.settings(), vm)) {
        return wrong_field(*wrong);
    }
    const bool moves = vm.pool && vm.pool != control_.settings().vm(*id).pool;
    if (moves && control_.has_buffers_outside(*id, *vm.pool)) {
        return admin_error(409, "in_use",
                           fmt::format("VM {} has buffers on a GPU that pool {} does not have: it "
                                       "can move after it frees them or disconnects",
                                       *id, *vm.pool));
    }
    Settings settings = control_.settings();
    if (!settings.vms.contains(*id) && settings.vms.size() >= kMostVmSettings) {
        return admin_error(409, "too_many_vms", "the limit of VMs with settings is reached");
    }
    settings.vms.insert_or_assign(*id, vm);
    control_.apply(settings);
    return get_vm(call);
}

AdminAnswer AdminApi::quarantine_vm(const Call& call) {
    const auto id = parse_id(call.id);
    if (!id || !control_.vm(*id)) {
        return unknown_vm(call.id);
    }
    std::string reason;
    if (!call.request.body.empty()) {
        Body body = read_body(call.request);
        if (body.refusal) {
            return *std::move(body.refusal);
        }
        if (const auto wrong = read_quarantine_order(body.value, reason)) {
            return wrong_field(*wrong);
        }
    }
    if (!control_.quarantine(*id, reason)) {
        return admin_error(409, "already_quarantined",
                           fmt::format("VM {} is already quarantined", *id));
    }
    return get_vm(call);
}

AdminAnswer AdminApi::release_vm(const Call& call) {
    const auto id = parse_id(call.id);
    if (!id || !control_.vm(*id)) {
        return unknown_vm(call.id);
    }
    if (!control_.release(*id)) {
        return admin_error(409, "not_quarantined", fmt::format("VM {} is not quarantined", *id));
    }
    return get_vm(call);
}

AdminAnswer AdminApi::drain(const Call& /*call*/) {
    AdminAnswer answer = ok({{"state", "draining"}}, 202);
    // With nothing left to drain the mediator ends at once, so the response must be sent first.
    answer.then = [this] { control_.drain(); };
    return answer;
}

AdminAnswer AdminApi::reload(const Call& /*call*/) {
    if (control_.status().draining) {
        return admin_error(409, "draining", "the mediator is stopping");
    }
    const ReloadOutcome outcome = control_.reload();
    if (outcome.error.empty()) {
        return ok({{"changed", outcome.changed}, {"not_applied", outcome.not_applied}});
    }
    Json error{{"code", "bad_config"}, {"message", outcome.error}};
    if (outcome.line) {
        error["line"] = *outcome.line;
    }
    return ok({{"error", std::move(error)}}, 422);
}

AdminAnswer AdminApi::stream_events(const Call& call) {
    auto filter = read_filter(call.query);
    if (const auto* const wrong = std::get_if<FieldError>(&filter)) {
        return wrong_field(*wrong);
    }
    AdminAnswer answer;
    answer.content_type = "application/x-ndjson";
    answer.stream = std::get<EventFilter>(filter);
    return answer;
}

AdminAnswer AdminApi::get_metrics(const Call& call) {
    return answer_metrics_only(call.request);
}

}  // namespace vgpu
