// SPDX-License-Identifier: MIT
//
// Checks docs/openapi.json against the server: every path and method of the file is requested from
// a live mediator, the response must match its schema exactly (no missing or extra members), and
// every route of the server must be in the file.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <string>

#include "integration/admin_mediator.h"

namespace vgpu::test {
namespace {

json description() {
    std::ifstream file(VGPU_OPENAPI);
    return json::parse(file);
}

// The subset of JSON Schema that the file uses. Returns the first error, or an empty string.
class Validator {
  public:
    explicit Validator(const json& document) : document_(document) {}

    [[nodiscard]] std::string check(const json& schema, const json& value,
                                    const std::string& where = "answer") const {
        if (schema.contains("$ref")) {
            const std::string reference = schema["$ref"];
            return check(document_.at(json::json_pointer(reference.substr(1))), value, where);
        }
        if (value.is_null() && schema.value("nullable", false)) {
            return {};
        }
        const std::string type = schema.at("type");
        if (!of_type(type, value)) {
            return where + " is not of type " + type + ": " + value.dump();
        }
        if (schema.contains("enum") && std::find(schema["enum"].begin(), schema["enum"].end(),
                                                 value) == schema["enum"].end()) {
            return where + " is none of the values: " + value.dump();
        }
        if ((schema.contains("minimum") && value < schema["minimum"]) ||
            (schema.contains("maximum") && value > schema["maximum"])) {
            return where + " is out of range: " + value.dump();
        }
        return type == "object"  ? check_object(schema, value, where)
               : type == "array" ? check_array(schema, value, where)
                                 : std::string();
    }

  private:
    static bool of_type(const std::string& type, const json& value) {
        return (type == "object" && value.is_object()) || (type == "array" && value.is_array()) ||
               (type == "string" && value.is_string()) ||
               (type == "boolean" && value.is_boolean()) ||
               (type == "integer" && value.is_number_integer()) ||
               (type == "number" && value.is_number());
    }
    [[nodiscard]] std::string check_object(const json& schema, const json& value,
                                           const std::string& where) const {
        for (const auto& name : schema.value("required", json::array())) {
            if (!value.contains(name.get<std::string>())) {
                return fmt::format("{} has no member {}", where, name.get<std::string>());
            }
        }
        for (const auto& [name, member] : value.items()) {
            if (!schema.at("properties").contains(name)) {
                return fmt::format("{} has a member that is not described: {}", where, name);
            }
            const std::string path = fmt::format("{}.{}", where, name);
            if (auto wrong = check(schema["properties"][name], member, path); !wrong.empty()) {
                return wrong;
            }
        }
        return {};
    }
    [[nodiscard]] std::string check_array(const json& schema, const json& value,
                                          const std::string& where) const {
        for (const json& item : value) {
            if (auto wrong = check(schema.at("items"), item, where + "[]"); !wrong.empty()) {
                return wrong;
            }
        }
        return {};
    }

    const json& document_;
};

std::string upper(std::string text) {
    for (char& c : text) {
        c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    }
    return text;
}

// Returns a request body with which an operation succeeds.
std::optional<std::string> body_for(const std::string& operation) {
    if (operation == "changePool") {
        return R"({"policy":"fair","aging_ms":5})";
    }
    if (operation == "changeVm") {
        return R"({"pool":"B","priority":"high","weight":2,"boost":true,"queue_depth":3,
                   "limits":{"burst":2}})";
    }
    return std::nullopt;
}

TEST(OpenApi, AValidatorThatFindsNothingWouldNotDo) {
    const json document = description();
    const Validator validator(document);
    const json schema{{"$ref", "#/components/schemas/PoolList"}};
    json good{{"pools",
               {{{"id", "A"},
                 {"gpus", {0}},
                 {"policy", "fair"},
                 {"aging_ms", 1},
                 {"queued", {{"low", 0}, {"medium", 0}, {"high", 0}}},
                 {"running", 0},
                 {"vms", 0}}}}};
    EXPECT_EQ(validator.check(schema, good), "");
    json missing = good;
    missing["pools"][0]["queued"].erase("low");
    EXPECT_NE(validator.check(schema, missing), "");
    json surplus = good;
    surplus["pools"][0]["colour"] = "red";
    EXPECT_NE(validator.check(schema, surplus), "");
    json type = good;
    type["pools"][0]["vms"] = "0";
    EXPECT_NE(validator.check(schema, type), "");
    json value = good;
    value["pools"][0]["policy"] = "lifo";
    EXPECT_NE(validator.check(schema, value), "");
    json null = good;
    null["pools"][0]["id"] = nullptr;
    EXPECT_NE(validator.check(schema, null), "");
    json range = good;
    range["pools"][0]["gpus"][0] = -1;
    EXPECT_NE(validator.check(schema, range), "");
}

TEST(OpenApi, EveryRouteIsDescribedAndNothingElse) {
    std::set<std::string> served;
    for (const AdminApi::Route& route : AdminApi::routes()) {
        served.insert(std::string(route.method).append(" ").append(route.path));
    }
    std::set<std::string> described;
    const json document = description();
    for (const auto& [path, operations] : document["paths"].items()) {
        for (const auto& [method, operation] : operations.items()) {
            if (method != "parameters") {
                described.insert(upper(method).append(" ").append(path));
            }
        }
    }
    EXPECT_EQ(served, described);
}

TEST(OpenApi, EveryAnswerIsOfTheDescribedForm) {
    const json document = description();
    const Validator validator(document);
    AdminMediator::Options options;
    options.settings.vms[7].weight = 2;
    options.reload = [] {
        return ReloadOutcome{.changed = {"limits.burst: 20 -> 40"},
                             .not_applied = {"mediator.sockets"},
                             .error = {},
                             .line = {}};
    };
    AdminMediator mediator(options);
    mediator.hold->open();
    WirePeer peer = mediator.connect(7);
    peer.send_request(1, make_add(1, 1));
    ASSERT_TRUE(peer.receive());
    WirePeer other = mediator.connect(8);
    other.send_request(1, make_add(1, 1));
    ASSERT_TRUE(other.receive());

    const auto check_operation = [&](const std::string& method, const std::string& path) {
        const json& operation = document["paths"][path][method];
        std::string target = path;
        if (const auto at = target.find("{id}"); at != std::string::npos) {
            target.replace(at, 4, path.starts_with("/v1/vms") ? "7" : "A");
        }
        HttpPeer admin = mediator.admin();
        ASSERT_TRUE(admin.ask(upper(method), target, body_for(operation["operationId"])));
        const HttpAnswer answer = admin.receive();
        const std::string code = std::to_string(answer.status);
        ASSERT_TRUE(code.starts_with("2")) << method << " " << target << ": " << answer.body;
        ASSERT_TRUE(operation["responses"].contains(code)) << method << " " << target;
        const json& content = operation["responses"][code]["content"];
        const std::string type = content.items().begin().key();
        EXPECT_NE(answer.head.find("Content-Type: " + type), std::string::npos) << answer.head;
        if (type == "application/json") {
            EXPECT_EQ(validator.check(content[type]["schema"], answer.object()), "")
                << method << " " << target << "\n"
                << answer.body;
        }
        if (type == "application/x-ndjson") {
            for (std::uint32_t id = 10; id < 13; ++id) {
                peer.send_request(id, id == 11 ? std::vector<std::uint8_t>{1} : make_add(1, 1));
                ASSERT_TRUE(peer.receive());
            }
            for (int i = 0; i < 7; ++i) {
                const auto event = admin.next_event();
                ASSERT_TRUE(event);
                EXPECT_EQ(validator.check(content[type]["schema"], *event), "") << event->dump();
            }
        }
    };
    // Order matters: quarantine before release, drain last.
    for (const auto& [path, operations] : document["paths"].items()) {
        for (const auto& [method, operation] : operations.items()) {
            if (method != "parameters" && path != "/v1/drain") {
                SCOPED_TRACE(path);
                check_operation(method, path);
            }
        }
    }
    const json& errors = document["components"]["schemas"]["Error"];
    HttpPeer admin = mediator.admin();
    for (const auto& [answer, what] : std::vector<std::pair<HttpAnswer, std::string>>{
             {admin.call("GET", "/v1/vms/99"), "404"},
             {admin.call("GET", "/nothing"), "404"},
             {admin.call("PUT", "/v1/status"), "405"},
             {admin.call("PATCH", "/v1/vms/7", R"({"weight":-1})"), "422"},
             {admin.call("POST", "/v1/vms/7/release"), "409"}}) {
        EXPECT_EQ(std::to_string(answer.status), what);
        EXPECT_EQ(validator.check(errors, answer.object()), "") << answer.body;
    }
    check_operation("post", "/v1/drain");
    peer.close();
    other.close();
    mediator.join();
}

}  // namespace
}  // namespace vgpu::test
