// SPDX-License-Identifier: MIT
//
// The admin API through its socket: reads, changes, and the responses to requests for unknown
// resources, to malformed HTTP, and to silent or too many connections.
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "integration/admin_mediator.h"
#include "support/process.h"

namespace vgpu::test {
namespace {

void expect_served(WirePeer& peer, std::uint32_t request_id) {
    peer.send_request(request_id, make_add(request_id, 5));
    const auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->header.msg_type, VGPU_MSG_RESPONSE);
    EXPECT_EQ(answer->response().status, VGPU_ERR_NONE);
    EXPECT_EQ(answer->word(0), request_id + 5);
}

void expect_error(const HttpAnswer& answer, int status, const std::string& code,
                  const std::string& field = {}) {
    EXPECT_EQ(answer.status, status) << answer.body;
    const json error = answer.object()["error"];
    EXPECT_EQ(error["code"], code) << answer.body;
    EXPECT_GT(error["message"].get<std::string>().size(), 8U);
    EXPECT_EQ(error.value("field", ""), field) << answer.body;
}

void expect_status(WirePeer& peer, std::uint32_t status) {
    const auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->response().status, status);
}

TEST(Admin, StatusShowsWhatRunsAndWaits) {
    AdminMediator mediator;
    WirePeer peer = mediator.connect(7);
    peer.send_request(1, make_add(1, 1));
    ASSERT_TRUE(mediator.hold->wait_submitted(1));
    peer.send_request(2, make_add(1, 1));
    ASSERT_TRUE(mediator.events.wait_for(RecordedEvent::Kind::kAccepted, 2));
    HttpPeer admin = mediator.admin();
    const HttpAnswer answer = admin.call("GET", "/v1/status");
    EXPECT_EQ(answer.status, 200);
    EXPECT_NE(answer.head.find("Content-Type: application/json"), std::string::npos);
    const json status = answer.object();
    EXPECT_EQ(status["state"], "running");
    EXPECT_EQ(status["connections"], 1);
    EXPECT_EQ(status["running"], 1);
    EXPECT_EQ(status["queued"], 1);
    EXPECT_EQ(status["requests"]["accepted"], 2);
    EXPECT_EQ(status["sockets"], json::array({mediator.path()}));
}

TEST(Admin, VmsAreThoseConfiguredOrSeen) {
    AdminMediator::Options options;
    options.settings.vms[3].weight = 2.0;
    options.settings.vms[3].user = 1234;
    AdminMediator mediator(options);
    mediator.hold->open();
    mediator.hold->set_exec_time(40);
    WirePeer peer = mediator.connect(7, 'B', VGPU_PRIORITY_HIGH);
    expect_served(peer, 1);
    HttpPeer admin = mediator.admin();
    const json vms = admin.call("GET", "/v1/vms").object()["vms"];
    ASSERT_EQ(vms.size(), 2U);
    EXPECT_EQ(vms[0]["id"], 3);
    EXPECT_EQ(vms[0]["weight"], 2.0);
    EXPECT_EQ(vms[0]["user"], 1234);
    EXPECT_TRUE(vms[1]["user"].is_null());
    EXPECT_EQ(vms[0]["connected"], false);
    EXPECT_TRUE(vms[0]["pool"].is_null());
    EXPECT_EQ(vms[1]["id"], 7);
    EXPECT_EQ(vms[1]["connections"], 1);
    EXPECT_EQ(vms[1]["pool"], "B");
    EXPECT_EQ(vms[1]["priority"], "high");
    EXPECT_EQ(vms[1]["requests"]["done"], 1);
    EXPECT_EQ(vms[1]["gpu_time_us"], 40);
    EXPECT_EQ(admin.call("GET", "/v1/vms/7").object(), vms[1]);
    for (const char* unknown : {"/v1/vms/8", "/v1/vms/x", "/v1/vms/-1", "/v1/vms/4294967296",
                                "/v1/vms/8/release", "/v1/vms/8/quarantine"}) {
        const bool post = std::string_view(unknown).find("/8/") != std::string_view::npos;
        expect_error(admin.call(post ? "POST" : "GET", unknown), 404, "unknown_vm");
    }
}

// The list is written in several steps of the control loop.
TEST(Admin, AListOfManyVmsIsWholeAndSorted) {
    constexpr std::uint32_t kVms = 100;
    AdminMediator::Options options;
    for (std::uint32_t vm_id = kVms; vm_id > 0; --vm_id) {
        options.settings.vms[vm_id].weight = vm_id;
    }
    AdminMediator mediator(options);
    HttpPeer admin = mediator.admin();
    for (int time = 0; time < 2; ++time) {
        const json vms = admin.call("GET", "/v1/vms").object()["vms"];
        ASSERT_EQ(vms.size(), kVms);
        for (std::uint32_t i = 0; i < kVms; ++i) {
            EXPECT_EQ(vms[i]["id"], i + 1);
            EXPECT_EQ(vms[i]["weight"], i + 1);
        }
    }
}

TEST(Admin, AChangeOfAVmIsInForceAtOnce) {
    AdminMediator mediator;
    mediator.hold->open();
    WirePeer peer = mediator.connect(7);
    expect_served(peer, 1);
    HttpPeer admin = mediator.admin();
    const HttpAnswer answer =
        admin.call("PATCH", "/v1/vms/7",
                   R"({"pool":"B","priority":"low","weight":2.5,"boost":true,"queue_depth":9,
            "limits":{"requests_per_second":0.001,"burst":1,"memory_bytes":4096}})");
    EXPECT_EQ(answer.status, 200);
    const json vm = answer.object();
    EXPECT_EQ(vm["pool"], "B");
    EXPECT_EQ(vm["overrides"], (json{{"pool", "B"}, {"priority", "low"}}));
    EXPECT_EQ(vm["weight"], 2.5);
    EXPECT_EQ(vm["boost"], true);
    EXPECT_EQ(vm["queue_depth"], 9);
    EXPECT_EQ(vm["limits"]["burst"], 1);
    EXPECT_EQ(vm["limits"]["memory_bytes"], 4096);
    expect_served(peer, 2);
    peer.send_request(3, make_add(1, 1));
    expect_status(peer, VGPU_ERR_RATE_LIMITED);
    const json back = admin.call("PATCH", "/v1/vms/7", R"({"pool":null,"priority":null})").object();
    EXPECT_EQ(back["overrides"], (json{{"pool", nullptr}, {"priority", nullptr}}));
    EXPECT_EQ(back["weight"], 2.5);
}

TEST(Admin, ABadValueIsNamedAndChangesNothing) {
    AdminMediator mediator;
    WirePeer peer = mediator.connect(7);
    ASSERT_TRUE(mediator.events.wait_for(RecordedEvent::Kind::kOpened, 1));
    peer.send(peer.header(VGPU_MSG_PING, 0));
    ASSERT_TRUE(peer.receive());
    HttpPeer admin = mediator.admin();
    const std::string before = admin.call("GET", "/v1/vms/7").body;
    const std::vector<std::pair<const char*, const char*>> bad{
        {R"({"weight":0})", "weight"},
        {R"({"weight":"2"})", "weight"},
        {R"({"weight":1e400})", ""},
        {R"({"boost":1})", "boost"},
        {R"({"queue_depth":0})", "queue_depth"},
        {R"({"queue_depth":1.5})", "queue_depth"},
        {R"({"pool":"C"})", "pool"},
        {R"({"pool":""})", "pool"},
        {R"({"pool":1})", "pool"},
        {R"({"priority":"highest"})", "priority"},
        {R"({"weight":3,"wait":1})", "wait"},
        {R"({"limits":{"burst":0}})", "limits.burst"},
        {R"({"weight":3,"limits":{"bursts":1}})", "limits.bursts"},
        {R"({"limits":{"memory_bytes":-1}})", "limits.memory_bytes"},
        {R"({"limits":{"memory_bytes":18446744073709551615}})", "limits.memory_bytes"},
        {R"({"limits":3})", "limits"},
        {R"([])", ""},
        {R"(null)", ""},
    };
    for (const auto& [body, field] : bad) {
        const HttpAnswer answer = admin.call("PATCH", "/v1/vms/7", body);
        if (answer.status == 400) {
            EXPECT_STREQ(body, R"({"weight":1e400})");
            continue;
        }
        expect_error(answer, 422, "bad_value", field);
    }
    EXPECT_EQ(admin.call("GET", "/v1/vms/7").body, before);
    expect_error(admin.call("PATCH", "/v1/pools/A", R"({"policy":"lifo"})"), 422, "bad_value",
                 "policy");
    expect_error(admin.call("PATCH", "/v1/pools/A", R"({"aging_ms":-1})"), 422, "bad_value",
                 "aging_ms");
    expect_error(admin.call("PATCH", "/v1/pools/Z", R"({})"), 404, "unknown_pool");
    expect_error(admin.call("GET", "/v1/pools/AB"), 404, "unknown_pool");
    expect_error(admin.call("GET", "/v1/events?vm=x"), 422, "bad_value", "vm");
    expect_error(admin.call("GET", "/v1/events?type=nothing"), 422, "bad_value", "type");
    expect_error(admin.call("GET", "/v1/events?color=red"), 422, "bad_value", "color");
}

TEST(Admin, APoolChangesItsPolicy) {
    AdminMediator mediator;
    HttpPeer admin = mediator.admin();
    const json pool =
        admin.call("PATCH", "/v1/pools/B", R"({"policy":"fair","aging_ms":250})").object();
    EXPECT_EQ(pool["policy"], "fair");
    EXPECT_EQ(pool["aging_ms"], 250);
    EXPECT_EQ(admin.call("GET", "/v1/pools/A").object()["policy"], "strict");
}

TEST(Admin, QuarantineHoldsUntilReleased) {
    AdminMediator mediator;
    mediator.hold->open();
    WirePeer peer = mediator.connect(7);
    expect_served(peer, 1);
    HttpPeer admin = mediator.admin();
    expect_error(admin.call("POST", "/v1/vms/7/release"), 409, "not_quarantined");
    expect_error(admin.call("POST", "/v1/vms/7/quarantine", R"({"reason":7})"), 422, "bad_value",
                 "reason");
    EXPECT_EQ(admin.call("POST", "/v1/vms/7/quarantine", R"({"reason":"it misbehaves"})")
                  .object()["quarantined"],
              true);
    expect_error(admin.call("POST", "/v1/vms/7/quarantine"), 409, "already_quarantined");
    peer.send_request(2, make_add(1, 1));
    expect_status(peer, VGPU_ERR_QUARANTINED);
    EXPECT_EQ(admin.call("POST", "/v1/vms/7/release").object()["quarantined"], false);
    expect_served(peer, 3);
}

TEST(Admin, DrainFinishesWhatIsQueuedAndEnds) {
    AdminMediator mediator;
    WirePeer peer = mediator.connect(7);
    peer.send_request(1, make_add(1, 1));
    ASSERT_TRUE(mediator.hold->wait_submitted(1));
    HttpPeer admin = mediator.admin();
    for (int i = 0; i < 2; ++i) {
        const HttpAnswer answer = admin.call("POST", "/v1/drain");
        EXPECT_EQ(answer.status, 202);
        EXPECT_EQ(answer.object()["state"], "draining");
    }
    EXPECT_EQ(admin.call("GET", "/v1/status").object()["state"], "draining");
    expect_error(admin.call("POST", "/v1/reload"), 409, "draining");
    mediator.hold->open();
    const auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->word(0), 2U);
    mediator.join();
}

TEST(Admin, DrainOfAnIdleMediatorIsAnswered) {
    AdminMediator mediator;
    HttpPeer admin = mediator.admin();
    EXPECT_EQ(admin.call("POST", "/v1/drain").status, 202);
    mediator.join();
}

TEST(Admin, ReloadTellsWhatWasNotAppliedAndWhatIsWrong) {
    AdminMediator::Options options;
    int calls = 0;
    options.reload = [&calls]() -> ReloadOutcome {
        if (++calls == 1) {
            return {.changed = {"limits.burst: 20 -> 40"},
                    .not_applied = {"mediator.sockets"},
                    .error = {},
                    .line = {}};
        }
        return {.changed = {}, .not_applied = {}, .error = "f.toml:3: unknown key 'x'", .line = 3};
    };
    AdminMediator mediator(options);
    HttpPeer admin = mediator.admin();
    EXPECT_EQ(
        admin.call("POST", "/v1/reload").object(),
        (json{{"changed", {"limits.burst: 20 -> 40"}}, {"not_applied", {"mediator.sockets"}}}));
    const HttpAnswer wrong = admin.call("POST", "/v1/reload");
    expect_error(wrong, 422, "bad_config");
    EXPECT_EQ(wrong.object()["error"]["line"], 3);
}

TEST(AdminEvents, ComeInOrderAndByFilter) {
    AdminMediator mediator;
    mediator.hold->open();
    HttpPeer all = mediator.admin();
    HttpPeer some = mediator.admin();
    ASSERT_TRUE(all.ask("GET", "/v1/events"));
    ASSERT_TRUE(some.ask("GET", "/v1/events?vm=8&type=request_finished,session_closed"));
    EXPECT_NE(all.receive().head.find("application/x-ndjson"), std::string::npos);
    EXPECT_EQ(some.receive().status, 200);
    WirePeer seven = mediator.connect(7);
    expect_served(seven, 1);
    WirePeer eight = mediator.connect(8, 'B', VGPU_PRIORITY_HIGH);
    eight.send_request(5, std::vector<std::uint8_t>{1, 2, 3});
    ASSERT_TRUE(eight.receive());
    expect_served(eight, 6);
    eight.close();
    std::vector<std::string> names;
    for (int i = 0; i < 8; ++i) {
        const auto event = all.next_event();
        ASSERT_TRUE(event);
        names.push_back((*event)["event"]);
        if (names.back() == "request_finished") {
            EXPECT_EQ((*event)["vm"], 7);
            EXPECT_EQ((*event)["request_id"], 1);
            EXPECT_EQ((*event)["pool"], "A");
            EXPECT_EQ((*event)["priority"], "medium");
            EXPECT_EQ((*event)["status"], 0);
            EXPECT_EQ((*event)["delivered"], true);
        }
        if (names.back() == "request_refused") {
            EXPECT_EQ((*event)["error"], "invalid-request");
        }
    }
    EXPECT_EQ(names,
              (std::vector<std::string>{"session_opened", "session_identified", "request_accepted",
                                        "request_started", "request_finished", "session_opened",
                                        "session_identified", "request_refused"}));
    const auto finished = some.next_event();
    ASSERT_TRUE(finished);
    EXPECT_EQ((*finished)["event"], "request_finished");
    EXPECT_EQ((*finished)["request_id"], 6);
    const auto closed = some.next_event();
    ASSERT_TRUE(closed);
    EXPECT_EQ((*closed)["event"], "session_closed");
}

TEST(AdminEvents, AReaderThatStopsLosesEventsAndIsToldHowMany) {
    AdminMediator::Options options;
    options.server.event_bytes = 4096;
    AdminMediator mediator(options);
    mediator.hold->open();
    HttpPeer reader = mediator.admin();
    ASSERT_TRUE(reader.ask("GET", "/v1/events"));
    ASSERT_EQ(reader.receive().status, 200);
    // More than the kernel buffers, while the reader does not read: all others are served.
    WirePeer peer = mediator.connect(7);
    constexpr std::uint32_t kRequests = 3000;
    for (std::uint32_t id = 1; id <= kRequests; ++id) {
        expect_served(peer, id);
    }
    std::uint64_t seen = 0;
    std::uint64_t lost = 0;
    const std::uint64_t all = 2 + 3 * std::uint64_t{kRequests};
    while (seen + lost < all) {
        const auto event = reader.next_event();
        ASSERT_TRUE(event) << seen << " seen, " << lost << " lost";
        if ((*event)["event"] == "lost") {
            lost += (*event)["count"].get<std::uint64_t>();
        } else {
            ++seen;
        }
    }
    EXPECT_EQ(seen + lost, all);
    EXPECT_GT(lost, 0U);
    // The stream continues from the present.
    expect_served(peer, 9999);
    const auto next = reader.next_event();
    ASSERT_TRUE(next);
    EXPECT_EQ((*next)["request_id"], 9999);
}

TEST(AdminEvents, ThereAreOnlySoManyReaders) {
    AdminMediator::Options options;
    options.server.max_streams = 1;
    AdminMediator mediator(options);
    HttpPeer first = mediator.admin();
    ASSERT_TRUE(first.ask("GET", "/v1/events"));
    ASSERT_EQ(first.receive().status, 200);
    HttpPeer second = mediator.admin();
    expect_error(second.call("GET", "/v1/events"), 503, "too_many_streams");
    EXPECT_EQ(second.call("GET", "/v1/status").status, 200);
}

TEST(AdminBadInput, GetsAnErrorOrIsClosedAndOthersAreServed) {
    AdminMediator::Options options;
    options.server.idle_timeout = std::chrono::milliseconds(200);
    AdminMediator mediator(options);
    const std::string patch =
        "PATCH /v1/vms/1 HTTP/1.1\r\nHost: v\r\nContent-Type: application/json\r\n";
    const std::vector<std::pair<std::string, int>> answered{
        {"nonsense\r\n\r\n", 400},
        {"GET /v1/status HTTP/9.9\r\n\r\n", 400},
        {"GET /v1/status HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400},
        {"GET /" + std::string(20000, 'a') + " HTTP/1.1\r\n\r\n", 431},
        {patch + "Content-Length: 65537\r\n\r\n", 413},
        {patch + "Content-Length: 99999999999\r\n\r\n", 413},
        {patch + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
    };
    for (const auto& [text, status] : answered) {
        HttpPeer peer = mediator.admin();
        static_cast<void>(peer.send(text));
        EXPECT_EQ(peer.receive().status, status) << text.substr(0, 60);
        EXPECT_TRUE(peer.wait_closed()) << text.substr(0, 60);
    }
    for (const std::string& silent :
         {std::string(), std::string("GET /v1/sta"), patch + "Content-Length: 10\r\n\r\n{"}) {
        HttpPeer peer = mediator.admin();
        ASSERT_TRUE(peer.send(silent));
        EXPECT_EQ(peer.receive().status, 0);
        EXPECT_TRUE(peer.wait_closed());
    }
    HttpPeer good = mediator.admin();
    EXPECT_EQ(good.call("GET", "/v1/status").status, 200);
}

TEST(AdminBadInput, WrongPathsMethodsAndTypesAreNamed) {
    AdminMediator::Options options;
    options.settings.vms[1] = {};
    AdminMediator mediator(options);
    HttpPeer admin = mediator.admin();
    for (const char* path : {"/", "/v1", "/v2/status", "/v1/vms/", "/v1/vms/1/", "/v1/vms/1/x",
                             "/v1/vms//release", "/metrics/"}) {
        expect_error(admin.call("GET", path), 404, "not_found");
    }
    const HttpAnswer answer = admin.call("DELETE", "/v1/vms/1");
    expect_error(answer, 405, "method_not_allowed");
    EXPECT_NE(answer.head.find("Allow: GET, PATCH\r\n"), std::string::npos) << answer.head;
    expect_error(admin.call("PATCH", "/v1/vms/1", "{"), 400, "bad_json");
    expect_error(admin.call("PATCH", "/v1/vms/1", ""), 400, "bad_json");
    expect_error(admin.call("PATCH", "/v1/vms/1", std::string(60000, '[')), 400, "bad_json");
    expect_error(admin.call("PATCH", "/v1/vms/1"), 415, "unsupported_type");
    ASSERT_TRUE(
        admin.send("PATCH /v1/vms/1 HTTP/1.1\r\nContent-Type: text/plain\r\n"
                   "Content-Length: 2\r\n\r\n{}"));
    expect_error(admin.receive(), 415, "unsupported_type");
}

TEST(AdminBadInput, SilentConnectionsMakeRoomForAnother) {
    AdminMediator::Options options;
    options.server.max_connections = 2;
    AdminMediator mediator(options);
    HttpPeer reader = mediator.admin();
    ASSERT_TRUE(reader.ask("GET", "/v1/events"));
    ASSERT_EQ(reader.receive().status, 200);
    // Connections that sent nothing, part of a request, and a complete request.
    for (const char* const said : {"", "GET /v1/sta", "GET /v1/status HTTP/1.1\r\n\r\n"}) {
        HttpPeer silent = mediator.admin();
        ASSERT_TRUE(silent.send(said)) << said;
        if (std::string_view(said).ends_with("\n\r\n")) {
            ASSERT_EQ(silent.receive().status, 200);
        }
        HttpPeer other = mediator.admin();
        EXPECT_EQ(other.call("GET", "/v1/status").status, 200);
        EXPECT_TRUE(silent.wait_closed());
    }
    // A reader of events does not count as silent.
    mediator.hold->open();
    WirePeer peer = mediator.connect(7);
    expect_served(peer, 1);
    EXPECT_TRUE(reader.next_event());
}

// Long answers are written one after the other, in steps, and not for clients that have left.
TEST(AdminBadInput, LongAnswersForClientsThatHaveLeftLeaveTheOthersServed) {
    AdminMediator::Options options;
    options.server.max_connections = 2;
    for (std::uint32_t vm_id = 0; vm_id < 5000; ++vm_id) {
        options.settings.vms[vm_id].weight = 1;
    }
    AdminMediator mediator(options);
    for (int round = 0; round < 20; ++round) {
        HttpPeer first = mediator.admin();
        HttpPeer second = mediator.admin();
        ASSERT_TRUE(first.ask("GET", "/v1/vms"));
        ASSERT_TRUE(second.ask("GET", "/v1/vms"));
    }
    HttpPeer other = mediator.admin();
    EXPECT_EQ(other.call("GET", "/v1/status").status, 200);
    EXPECT_EQ(other.call("GET", "/v1/vms").object()["vms"].size(), 5000U);
}

TEST(AdminBadInput, AFloodOfRequestsLeavesTheOthersServed) {
    AdminMediator::Options options;
    options.server.answer_time = std::chrono::microseconds(400);
    options.server.answer_window = std::chrono::milliseconds(40);
    AdminMediator mediator(options);
    mediator.hold->open();
    HttpPeer flood = mediator.admin();
    std::string many;
    for (int i = 0; i < 50; ++i) {
        many += "GET /v1/status HTTP/1.1\r\n\r\n";
    }
    ASSERT_TRUE(flood.send(many));
    WirePeer peer = mediator.connect(7);
    expect_served(peer, 1);
    for (int i = 0; i < 50; ++i) {
        ASSERT_EQ(flood.receive().status, 200);
    }
}

// Returns whether it is answered within a time that is more than enough for a client that need not
// wait.
bool is_answered_at_once(HttpPeer& client) {
    client.limit_receive(std::chrono::milliseconds(100));
    return client.call("GET", "/metrics").status == 200;
}

TEST(AdminBadInput, ConnectionsOverTheLimitWaitAndLeaveTheOthersServed) {
    constexpr AdminServer::Rate kTwo{.per_second = 0.001, .burst = 2};
    EventRecorder notices;
    AdminMediator::Options options;
    options.metrics_port = true;
    options.server.socket_accepts = kTwo;
    options.server.metrics_accepts = kTwo;
    options.server.notices = &notices;
    AdminMediator mediator(options);
    mediator.hold->open();
    WirePeer peer = mediator.connect(7);
    std::vector<HttpPeer> served;
    for (const bool metrics : {true, false}) {
        const auto client = [&] {
            return metrics ? HttpPeer::connect(mediator.port) : mediator.admin();
        };
        for (int i = 0; i < 2; ++i) {
            served.push_back(client());
            EXPECT_EQ(served.back().call("GET", "/metrics").status, 200);
        }
        HttpPeer third = client();
        EXPECT_FALSE(is_answered_at_once(third)) << (metrics ? "metrics port" : "admin socket");
        third.limit_receive(std::chrono::milliseconds(1));
        EXPECT_FALSE(third.wait_closed()) << "it waits";
        expect_served(peer, metrics ? 1 : 2);
    }
    for (HttpPeer& one : served) {
        EXPECT_EQ(one.call("GET", "/metrics").status, 200);
    }
    const auto said = notices.of(RecordedEvent::Kind::kNotice);
    ASSERT_EQ(said.size(), 2U) << "one for each listener";
    EXPECT_NE(said[0].text.find("connect to the metrics port without pause"), std::string::npos);
    EXPECT_NE(said[1].text.find("connect to the admin socket without pause"), std::string::npos);
}

TEST(AdminBadInput, ConnectionsOverTheLimitAreServedInTurn) {
    AdminMediator::Options options;
    options.server.socket_accepts = {.per_second = 50, .burst = 1};
    AdminMediator mediator(options);
    std::vector<HttpPeer> clients;
    for (int i = 0; i < 10; ++i) {
        clients.push_back(mediator.admin());
        ASSERT_TRUE(clients.back().ask("GET", "/v1/status"));
    }
    for (HttpPeer& client : clients) {
        EXPECT_EQ(client.receive().status, 200);
    }
}

TEST(AdminBadInput, AFloodOfConnectionsLeavesTheOthersServed) {
    AdminMediator::Options options;
    options.metrics_port = true;
    AdminMediator mediator(options);
    mediator.hold->open();
    WirePeer peer = mediator.connect(7);
    {
        std::atomic<bool> ended{false};
        std::thread to_socket([&] {
            while (!ended) {
                static_cast<void>(mediator.admin());
            }
        });
        std::thread to_port([&] {
            while (!ended) {
                static_cast<void>(HttpPeer::connect(mediator.port));
            }
        });
        for (std::uint32_t id = 1; id <= 30; ++id) {
            expect_served(peer, id);
            HttpPeer admin = mediator.admin();
            EXPECT_EQ(admin.call("GET", "/v1/status").status, 200);
        }
        ended = true;
        to_socket.join();
        to_port.join();
    }
    HttpPeer scraper = HttpPeer::connect(mediator.port);
    EXPECT_EQ(scraper.call("GET", "/metrics").status, 200);
}

TEST(AdminAccess, TheListDecidesAndRootIsAlwaysIn) {
    EXPECT_TRUE(may_administer(1000, {}));
    EXPECT_TRUE(may_administer(1000, {7, 1000}));
    EXPECT_FALSE(may_administer(1000, {7}));
    EXPECT_TRUE(may_administer(0, {7}));
    EXPECT_EQ(find_user("root").value(), 0U);
    EXPECT_EQ(find_user("1234").value(), 1234U);
    EXPECT_FALSE(find_user("no such user"));
}

TEST(AdminAccess, OnlyLoopbackAddressesAreTaken) {
    EXPECT_EQ(parse_loopback("127.0.0.1:9400").value().port, 9400);
    EXPECT_EQ(parse_loopback("[::1]:0").value().host, "::1");
    for (const char* bad :
         {"0.0.0.0:9400", "192.168.1.1:9400", "[::]:9400", "9400", ":9400", "127.0.0.1",
          "127.0.0.1:", "127.0.0.1:65536", "::1:9400", "localhost:9400", ""}) {
        EXPECT_FALSE(parse_loopback(bad)) << bad;
    }
}

// With requests of several VMs on the device, the failure cannot be attributed to one.
TEST(AdminMetrics, ADeviceThatFailsIsNoFaultOfItsVms) {
    AdminMediator::Options options;
    options.settings.slots = 2;
    AdminMediator mediator(options);
    WirePeer one = mediator.connect(7);
    WirePeer other = mediator.connect(8);
    one.send_request(1, make_add(1, 1));
    other.send_request(2, make_add(2, 2));
    ASSERT_TRUE(mediator.hold->wait_submitted(2));
    mediator.hold->break_device();
    for (WirePeer* const peer : {&one, &other}) {
        const auto answer = peer->receive();
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->response().status, VGPU_ERR_CUDA);
    }
    HttpPeer admin = mediator.admin();
    const std::string metrics = admin.call("GET", "/metrics").body;
    EXPECT_NE(metrics.find(R"(vgpu_requests_total{vm="7",)"), std::string::npos) << metrics;
    EXPECT_EQ(metrics.find(R"(vgpu_faults_total{vm="7"} 1)"), std::string::npos) << metrics;
    EXPECT_EQ(json::parse(admin.call("GET", "/v1/vms/7").body)["faults"], 0);
}

TEST(AdminMetrics, WhatAConnectionDoesThatWasRefusedIsNoFaultOfTheVmWhoseIdItClaims) {
    AdminMediator mediator;
    mediator.hold->open();
    WirePeer polite = mediator.connect(5);
    expect_served(polite, 1);
    for (int i = 0; i < 10; ++i) {
        WirePeer other = mediator.connect(5);
        other.send(other.header(VGPU_MSG_PING, 1));
        other.send_raw(std::vector<std::uint8_t>(64, 0xEE));
        EXPECT_TRUE(other.wait_closed());
    }
    WirePeer bad = mediator.connect(6);
    expect_served(bad, 1);
    bad.send_raw(std::vector<std::uint8_t>(64, 0xEE));
    EXPECT_TRUE(bad.wait_closed());
    const std::string text = mediator.admin().call("GET", "/metrics").body;
    EXPECT_NE(text.find("vgpu_faults_total{vm=\"6\"} 1"), std::string::npos) << text;
    EXPECT_EQ(text.find("vgpu_faults_total{vm=\"5\"} 1"), std::string::npos) << text;
}

TEST(AdminMetrics, CountWhatBecameOfRequests) {
    AdminMediator::Options options;
    options.metrics_port = true;
    AdminMediator mediator(options);
    mediator.hold->open();
    mediator.hold->set_exec_time(2000);
    WirePeer peer = mediator.connect(7);
    expect_served(peer, 1);
    expect_served(peer, 2);
    peer.send_request(3, std::vector<std::uint8_t>{1, 2, 3});
    ASSERT_TRUE(peer.receive());
    HttpPeer admin = mediator.admin();
    HttpPeer tcp = HttpPeer::connect(mediator.port);
    const HttpAnswer answer = tcp.call("GET", "/metrics");
    EXPECT_EQ(answer.status, 200);
    EXPECT_NE(answer.head.find("text/plain; version=0.0.4"), std::string::npos);
    const std::string expected[] = {
        R"(vgpu_requests_total{vm="7",pool="A",priority="medium",opcode="cuda_kernel",outcome="done"} 2)",
        R"(vgpu_requests_total{vm="7",pool="A",priority="medium",opcode="nop",outcome="refused"} 1)",
        R"(vgpu_queue_depth{pool="A",priority="medium"} 0)",
        R"(vgpu_wait_seconds_count{pool="A",priority="medium"} 2)",
        R"(vgpu_execution_seconds_bucket{pool="A",priority="medium",le="0.001"} 0)",
        R"(vgpu_execution_seconds_bucket{pool="A",priority="medium",le="0.0025"} 2)",
        R"(vgpu_execution_seconds_bucket{pool="A",priority="medium",le="+Inf"} 2)",
        R"(vgpu_execution_seconds_sum{pool="A",priority="medium"} 0.004)",
        R"(vgpu_gpu_busy_seconds_total{gpu="0"} 0.004)",
        R"(vgpu_connections 1)",
        R"(vgpu_faults_total{vm="7"} 1)",
        R"(vgpu_quarantined_vms 0)",
    };
    for (const std::string& line : expected) {
        EXPECT_NE(answer.body.find(line + "\n"), std::string::npos) << line << "\n" << answer.body;
    }
    EXPECT_EQ(admin.call("GET", "/metrics").status, 200);
    // The port serves nothing else.
    expect_error(tcp.call("GET", "/v1/status"), 404, "not_found");
    expect_error(tcp.call("POST", "/v1/drain"), 404, "not_found");
    expect_error(tcp.call("POST", "/metrics"), 405, "method_not_allowed");
}

// A response that is composed for one scraper answers all that have asked, and none of them is
// closed as slow while it waits for the mediator.
TEST(AdminMetrics, ManyScrapersAreAllAnswered) {
    AdminMediator::Options options;
    options.metrics_port = true;
    options.server.max_connections = 2;
    // 5 steps of a response a second: one takes longer than a slow client may.
    options.server.answer_time = std::chrono::microseconds(100);
    options.server.answer_window = std::chrono::milliseconds(200);
    for (std::uint32_t vm_id = 0; vm_id < 1000; ++vm_id) {
        options.settings.vms[vm_id].weight = 1;
    }
    AdminMediator mediator(options);
    std::vector<HttpPeer> scrapers;
    for (int i = 0; i < 4; ++i) {
        scrapers.push_back(HttpPeer::connect(mediator.port));
        ASSERT_TRUE(scrapers.back().ask("GET", "/metrics"));
    }
    HttpPeer admin = mediator.admin();
    EXPECT_EQ(admin.call("GET", "/v1/status").status, 200);
    for (HttpPeer& scraper : scrapers) {
        EXPECT_EQ(scraper.receive().status, 200);
    }
}

TEST(AdminMetrics, PromtoolFindsNothingToSay) {
    if (run_program({"sh", "-c", "command -v promtool"}).first != 0) {
        GTEST_SKIP() << "there is no promtool: scripts/fetch-promtool gets it";
    }
    AdminMediator mediator;
    mediator.hold->open();
    // More VMs than are written in one step of the control loop.
    for (std::uint32_t vm_id = 1; vm_id <= 300; ++vm_id) {
        WirePeer peer = mediator.connect(vm_id);
        expect_served(peer, 1);
    }
    const std::string text = mediator.admin().call("GET", "/metrics").body;
    for (std::uint32_t vm_id = 1; vm_id <= 300; ++vm_id) {
        const std::string series = "\nvgpu_requests_total{vm=\"" + std::to_string(vm_id) + "\"";
        EXPECT_NE(text.find(series), std::string::npos) << series;
    }
    const TempDir dir;
    std::ofstream(dir.file("metrics")) << text;
    const auto [status, output] =
        run_program({"sh", "-c", "promtool check metrics < \"$0\"", dir.file("metrics")});
    EXPECT_EQ(status, 0);
    EXPECT_EQ(output, "");
}

TEST(AdminMetrics, WhatAGuestChoosesIsBounded) {
    Metrics metrics({'A'});
    RequestInfo request{.session = 1, .pool = 'A', .priority = 1, .opcode = VGPU_OP_NOP};
    for (std::uint32_t vm = 0; vm < Metrics::kMostVms + 100; ++vm) {
        request.vm_id = vm;
        metrics.on_event(RequestDropped{.request = request, .why = "", .answered = true});
    }
    for (unsigned byte = 0; byte < 256; ++byte) {
        request.vm_id = 5;
        request.pool = static_cast<std::uint8_t>(byte);
        request.priority = static_cast<std::uint8_t>(byte);
        request.opcode = 0x2000 + byte;
        metrics.on_event(
            RequestRefused{.request = request, .status = VGPU_ERR_INVALID_POOL, .message = ""});
    }
    AdminMediator mediator;
    const std::string text = mediator.text_of(metrics);
    const auto lines = [&](const std::string& of) {
        std::size_t found = 0;
        for (auto at = text.find(of); at != std::string::npos; at = text.find(of, at + 1)) {
            ++found;
        }
        return found;
    };
    // Tracked VMs, all other VMs, and pool A, other pools, each level, other levels.
    EXPECT_EQ(lines("\nvgpu_requests_total{"), Metrics::kMostVms + 1 + 5);
    EXPECT_NE(text.find(R"(vgpu_requests_total{vm="other",pool="A",priority="medium",opcode="nop",)"
                        R"(outcome="dropped"} 100)"),
              std::string::npos);
    EXPECT_NE(
        text.find(R"(vm="5",pool="other",priority="other",opcode="other",outcome="refused"} )"),
        std::string::npos);
}

// Connects to the admin socket as another user, as seen by SO_PEERCRED: only this thread changes
// its user id, temporarily.
struct AdminUsers : testing::Test {
    static constexpr uid_t kStranger = 65534;
    static constexpr uid_t kFriend = 65533;
    AdminMediator::Options options;
    std::unique_ptr<AdminMediator> mediator;

    void SetUp() override {
        if (::geteuid() != 0) {
            GTEST_SKIP() << "only root can connect as somebody else";
        }
        options.server.allowed_users = {kFriend};
        options.server.max_connections = 3;
        start();
    }
    void start() {
        mediator = std::make_unique<AdminMediator>(options);
        const std::filesystem::path path = mediator->admin_path();
        std::filesystem::permissions(path.parent_path(), std::filesystem::perms::all);
        std::filesystem::permissions(path, std::filesystem::perms::all);
    }
    [[nodiscard]] HttpPeer connect_as(uid_t uid) const {
        EXPECT_EQ(::syscall(SYS_setresuid, -1, uid, -1), 0);
        HttpPeer peer = mediator->admin();
        EXPECT_EQ(::syscall(SYS_setresuid, -1, 0, -1), 0);
        return peer;
    }
};

TEST_F(AdminUsers, OneWhoIsNotInTheListIsRefused) {
    expect_error(connect_as(kStranger).call("GET", "/v1/status"), 403, "forbidden");
    EXPECT_EQ(connect_as(kFriend).call("GET", "/v1/status").status, 200);
    EXPECT_EQ(connect_as(0).call("GET", "/v1/status").status, 200);
}

TEST_F(AdminUsers, OneWhoIsNotInTheListAndConnectsWithoutPauseIsClosedAtOnce) {
    mediator.reset();
    options.server.stranger_accepts = {.per_second = 0.001, .burst = 2};
    start();
    for (int i = 0; i < 2; ++i) {
        expect_error(connect_as(kStranger).call("GET", "/v1/status"), 403, "forbidden");
    }
    for (int i = 0; i < 20; ++i) {
        HttpPeer stranger = connect_as(kStranger);
        EXPECT_TRUE(stranger.wait_closed()) << "without having asked";
        EXPECT_EQ(connect_as(kFriend).call("GET", "/v1/status").status, 200);
    }
}

TEST_F(AdminUsers, OneWhoOpensManyConnectionsKeepsNoOtherOut) {
    HttpPeer operators = connect_as(0);
    EXPECT_EQ(operators.call("GET", "/v1/status").status, 200);
    std::vector<HttpPeer> silent;
    for (const uid_t uid : {kStranger, kFriend}) {
        for (int i = 0; i < 20; ++i) {
            silent.push_back(connect_as(uid));
        }
    }
    EXPECT_EQ(operators.call("GET", "/v1/status").status, 200) << "it was idle, and kept its place";
    expect_error(connect_as(kStranger).call("GET", "/v1/status"), 403, "forbidden");
    HttpPeer another = connect_as(0);
    EXPECT_EQ(another.call("GET", "/v1/status").status, 200);
    // All were closed except the few within the limit.
    std::size_t open = 0;
    for (HttpPeer& one : silent) {
        one.limit_receive(std::chrono::milliseconds(1));
        open += one.wait_closed() ? 0U : 1U;
    }
    EXPECT_LE(open, 2U + 4U);
}

}  // namespace
}  // namespace vgpu::test
