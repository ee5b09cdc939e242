// SPDX-License-Identifier: MIT
#include "cli/vgpuctl/commands.h"

#include <unistd.h>

#include <iostream>
#include <string_view>
#include <thread>
#include <utility>

#include "base/result.h"
#include "cli/vgpuctl/admin_client.h"
#include "cli/vgpuctl/text.h"
#include "cli/vgpuctl/top.h"

namespace vgpu::ctl {

using nlohmann::json;

namespace {

std::string dump(const json& document) {
    // Invalid UTF-8 is replaced and is never an error.
    return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

int fail(const Settings& settings, std::string_view code, const std::string& message) {
    if (settings.json) {
        std::cout << dump({{"error", {{"code", code}, {"message", message}}}}) << '\n';
    } else {
        std::cout.flush();
        std::cerr << "vgpuctl: " << message << '\n';
    }
    return kFailure;
}

bool success(const Reply& reply) {
    return reply.status >= 200 && reply.status < 300;
}

// Prints an error of the API, in its own JSON if JSON is requested and was received.
int refuse(const Settings& settings, const Reply& reply) {
    const json document = json::parse(reply.body, nullptr, false);
    if (settings.json && document.is_object() && document.contains("error")) {
        std::cout << dump(document) << '\n';
        return kFailure;
    }
    return fail(settings, "unexpected", api_error_text(reply.status, reply.body));
}

// Returns the response as JSON, or a complete error text.
Result<json> parsed(const Reply& reply) {
    json document = json::parse(reply.body, nullptr, false);
    if (document.is_discarded()) {
        return Error{"the response is not JSON: check that --socket is a mediator's admin socket"};
    }
    return document;
}

int print_answer(const Settings& settings, const Result<Reply>& reply, Shown shown) {
    if (!reply) {
        return fail(settings, "no_mediator", reply.error().message);
    }
    if (!success(*reply)) {
        return refuse(settings, *reply);
    }
    const auto document = parsed(*reply);
    if (!document) {
        return fail(settings, "unexpected", document.error().message);
    }
    if (settings.json) {
        std::cout << dump(*document) << '\n';
    } else {
        std::cout << shown(*document);
    }
    return kSuccess;
}

// Returns the body of a successful GET, or an error text.
Result<json> get(const AdminClient& client, const std::string& target) {
    const auto reply = client.call("GET", target);
    if (!reply) {
        return reply.error();
    }
    if (!success(*reply)) {
        return Error{api_error_text(reply->status, reply->body)};
    }
    return parsed(*reply);
}

json list_in(const json& document, const char* name) {
    const auto found = document.find(name);
    return found != document.end() && found->is_array() ? *found : json::array();
}

Result<Sample> take_sample(const AdminClient& client) {
    Sample sample{.status = {}, .gpus = {}, .vms = {}, .at = {}};
    auto status = get(client, "/v1/status");
    if (!status) {
        return std::move(status).error();
    }
    sample.status = std::move(status).value();
    const auto gpus = get(client, "/v1/gpus");
    if (!gpus) {
        return gpus.error();
    }
    sample.gpus = list_in(*gpus, "gpus");
    const auto vms = get(client, "/v1/vms");
    sample.at = std::chrono::steady_clock::now();
    if (!vms) {
        return vms.error();
    }
    sample.vms = list_in(*vms, "vms");
    return sample;
}

}  // namespace

int run_get(const Settings& settings, const std::string& target, Shown shown) {
    return print_answer(settings, AdminClient(settings.socket, settings.limit).call("GET", target),
                        shown);
}

int run_change(const Settings& settings, const char* method, const std::string& target,
               const json& body, Shown shown) {
    const AdminClient client(settings.socket, settings.limit);
    const std::string text = body.is_null() ? std::string() : dump(body);
    return print_answer(settings, client.call(method, target, text), shown);
}

int run_events(const Settings& settings, const std::string& query) {
    const AdminClient client(settings.socket, settings.limit);
    std::string kept;  // an incomplete line
    const auto on_piece = [&](std::string_view piece) {
        kept += piece;
        std::size_t begin = 0;
        for (auto end = kept.find('\n'); end != std::string::npos; end = kept.find('\n', begin)) {
            const std::string line = kept.substr(begin, end - begin);
            begin = end + 1;
            const json event = json::parse(line, nullptr, false);
            if (event.is_discarded()) {
                continue;
            }
            std::cout << (settings.json ? dump(event) : event_text(event)) << '\n';
        }
        kept.erase(0, begin);
        // The program ends when the reader of its output has closed it.
        return static_cast<bool>(std::cout.flush());
    };
    const auto reply = client.follow("/v1/events" + query, on_piece);
    if (!reply) {
        return fail(settings, "no_mediator", reply.error().message);
    }
    return success(*reply) ? kSuccess : refuse(settings, *reply);
}

int run_metrics(const Settings& settings) {
    const auto reply = AdminClient(settings.socket, settings.limit).call("GET", "/metrics");
    if (!reply) {
        return fail(settings, "no_mediator", reply.error().message);
    }
    if (!success(*reply)) {
        return refuse(settings, *reply);
    }
    if (settings.json) {
        std::cout << dump({{"samples", metrics_json(reply->body)}}) << '\n';
    } else {
        std::cout << reply->body;
    }
    return kSuccess;
}

int run_top_command(const Settings& settings, std::chrono::milliseconds interval) {
    const AdminClient client(settings.socket, settings.limit);
    const auto take = [&] { return take_sample(client); };
    if (!settings.json && ::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0) {
        const auto shown = run_top(take, interval);
        return shown ? kSuccess : fail(settings, "failed", shown.error().message);
    }
    const auto before = take();
    if (!before) {
        return fail(settings, "failed", before.error().message);
    }
    std::this_thread::sleep_for(interval);
    const auto now = take();
    if (!now) {
        return fail(settings, "failed", now.error().message);
    }
    const auto rows = top_rows(*before, *now, Sort::kGpu);
    if (settings.json) {
        std::cout << dump(top_json(*now, rows)) << '\n';
    } else {
        // All VMs, without the line that explains the keys.
        constexpr std::size_t kAll = 1'000'000;
        std::string text = top_screen(*now, rows, Sort::kGpu, false, kAll, kAll);
        text.erase(text.rfind('\n', text.size() - 2) + 1);
        std::cout << text;
    }
    return kSuccess;
}

std::string drain_text(const json& /*answer*/) {
    return "The mediator accepts no new requests, finishes the queued ones and exits.\n";
}

std::string reload_text(const json& answer) {
    std::string text = "The configuration was reloaded; it replaces changes made with vgpuctl.\n";
    const auto append = [&](const char* heading, const json& lines) {
        if (!lines.empty()) {
            text += heading;
        }
        for (const json& line : lines) {
            text += "  ";
            text += printable(line.is_string() ? line.get<std::string>() : line.dump());
            text += '\n';
        }
    };
    append("Changed since the file was last read:\n", list_in(answer, "changed"));
    append("Changed, but only effective after a restart:\n", list_in(answer, "not_applied"));
    return text;
}

std::string pool_text(const json& pool) {
    return pools_text({{"pools", json::array({pool})}});
}

}  // namespace vgpu::ctl
