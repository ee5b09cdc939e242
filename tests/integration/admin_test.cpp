// SPDX-License-Identifier: MIT
//
// The admin API through its socket: what it shows, what it changes, and what those get who ask for
// what is not there, send what is no HTTP, or fall silent.
#include <gtest/gtest.h>

#include <string>

#include "integration/admin_mediator.h"

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

}  // namespace
}  // namespace vgpu::test
