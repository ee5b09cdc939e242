// SPDX-License-Identifier: MIT
//
// AdminApi: maps admin API requests to responses, independent of sockets. docs/openapi.json
// documents the same API for clients.
//
// Changes are atomic: a request is applied in full or not at all. Control loop only.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mediator/admin/control.h"
#include "mediator/admin/event_stream.h"

namespace vgpu {

class Metrics;

struct AdminRequest {
    std::string_view method;
    std::string_view target;        // path and query
    std::string_view content_type;  // empty: none given
    std::string_view body;
};

struct AdminAnswer {
    unsigned status = 200;
    std::string content_type = "application/json";
    std::string body;
    // Set if the body takes long to produce: call repeatedly while it returns true, each time in a
    // separate handler. Appends to the body.
    std::function<bool(std::string& body)> more;
    std::string allow;                  // with 405: the methods
    std::optional<EventFilter> stream;  // instead of a body: stream new events
    std::function<void()> then;         // called when the write of the response completes
};

// Returns an error response in the API's common error format.
AdminAnswer admin_error(unsigned status, std::string_view code, std::string_view message,
                        std::string_view field = {});

class AdminApi {
  public:
    struct Route {
        std::string_view method;
        std::string_view path;  // {id} matches one segment
    };

    // Borrows both arguments.
    AdminApi(AdminControl& control, const Metrics& metrics)
        : control_(control), metrics_(metrics) {}

    [[nodiscard]] AdminAnswer answer(const AdminRequest& request);
    // Serves /metrics only, for clients that may not read anything else.
    [[nodiscard]] AdminAnswer answer_metrics_only(const AdminRequest& request) const;
    static std::vector<Route> routes();

  private:
    struct Call {
        std::string_view id;  // the segment that matched {id}
        std::string_view query;
        const AdminRequest& request;
    };
    using Handler = AdminAnswer (AdminApi::*)(const Call&);
    struct Entry {
        Route route;
        Handler handler;
    };
    static const std::vector<Entry>& entries();

    AdminAnswer get_status(const Call& call);
    AdminAnswer list_gpus(const Call& call);
    AdminAnswer list_pools(const Call& call);
    AdminAnswer get_pool(const Call& call);
    AdminAnswer change_pool(const Call& call);
    AdminAnswer list_vms(const Call& call);
    AdminAnswer get_vm(const Call& call);
    AdminAnswer change_vm(const Call& call);
    AdminAnswer quarantine_vm(const Call& call);
    AdminAnswer release_vm(const Call& call);
    AdminAnswer drain(const Call& call);
    AdminAnswer reload(const Call& call);
    AdminAnswer stream_events(const Call& call);
    AdminAnswer get_metrics(const Call& call);

    AdminControl& control_;
    const Metrics& metrics_;
};

}  // namespace vgpu
