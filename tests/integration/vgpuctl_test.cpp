// SPDX-License-Identifier: MIT
//
// vgpuctl with a mediator's admin API: its changes take effect, and its output is correct.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <string>
#include <utility>
#include <vector>

#include "integration/admin_mediator.h"
#include "support/process.h"

namespace vgpu::test {
namespace {

using testing::HasSubstr;

struct VgpuctlOnMediator : testing::Test {
    AdminMediator mediator;

    [[nodiscard]] std::vector<std::string> command(std::vector<std::string> words) const {
        words.insert(words.begin(), {VGPUCTL_PROGRAM, "--socket", mediator.admin_path()});
        return words;
    }
    [[nodiscard]] std::pair<int, std::string> run(std::vector<std::string> words) const {
        return run_program(command(std::move(words)));
    }
    // Returns the --json output of a command that must succeed.
    [[nodiscard]] json ask(std::vector<std::string> words) const {
        words.emplace_back("--json");
        const auto [status, output] = run(std::move(words));
        EXPECT_EQ(status, 0) << output;
        return json::parse(output, nullptr, false);
    }
    // Connects a VM and completes one request.
    [[nodiscard]] WirePeer served_vm(std::uint32_t vm_id) const {
        mediator.hold->open();
        WirePeer peer = mediator.connect(vm_id);
        EXPECT_EQ(status_of_next(peer), VGPU_ERR_NONE);
        return peer;
    }
    // Returns the status of the next request: 0, an error, or the code of a rejection.
    static std::uint32_t status_of_next(WirePeer& peer) {
        peer.send_request(1, make_add(1, 2));
        const auto answer = peer.receive();
        if (!answer) {
            return VGPU_ERR_MEDIATOR_UNAVAILABLE;
        }
        return answer->response().status;
    }
};

TEST_F(VgpuctlOnMediator, ShowsWhatIsThere) {
    const WirePeer peer = served_vm(7);
    EXPECT_EQ(ask({"status"}).at("connections"), 1);
    EXPECT_EQ(ask({"vm", "7"}).at("requests").at("done"), 1);
    EXPECT_EQ(ask({"vms"}).at("vms").size(), 1U);
    EXPECT_EQ(ask({"pools"}).at("pools").size(), 2U);
    EXPECT_EQ(ask({"gpus"}).at("gpus").at(0).at("state"), "ok");
    EXPECT_EQ(ask({"top", "--interval", "0.1"}).at("vms").at(0).at("id"), 7);
    for (const char* command : {"status", "gpus", "pools", "vms"}) {
        const auto [status, output] = run({command});
        EXPECT_EQ(status, 0) << output;
        EXPECT_THAT(output, testing::Not(HasSubstr("  -  -"))) << "fields that are not there";
    }
    EXPECT_THAT(run({"metrics"}).second, HasSubstr("\nvgpu_connections 1\n"));
}

TEST_F(VgpuctlOnMediator, ChangesAVm) {
    const WirePeer peer = served_vm(7);
    const json changed = ask({"vm", "set", "7", "--weight", "2.5", "--burst", "9", "--pool", "B",
                              "--boost", "true", "--memory-bytes", "1048576"});
    EXPECT_EQ(changed.at("weight"), 2.5);
    EXPECT_EQ(changed.at("boost"), true);
    EXPECT_EQ(changed.at("overrides").at("pool"), "B");
    EXPECT_EQ(changed.at("limits").at("burst"), 9);
    EXPECT_EQ(changed.at("limits").at("memory_bytes"), 1048576);
    EXPECT_EQ(ask({"vm", "7"}), changed);
    EXPECT_TRUE(ask({"vm", "set", "7", "--pool", "none"}).at("overrides").at("pool").is_null());
}

TEST_F(VgpuctlOnMediator, ChangesAPool) {
    const json changed = ask({"pool", "set", "B", "--policy", "fair", "--aging-ms", "500"});
    EXPECT_EQ(changed.at("policy"), "fair");
    EXPECT_EQ(ask({"pool", "show", "B"}).at("aging_ms"), 500);
    EXPECT_EQ(ask({"pool", "show", "A"}).at("policy"), "strict");
}

TEST_F(VgpuctlOnMediator, WhatIsRefusedNamesTheField) {
    const WirePeer peer = served_vm(7);
    const auto [status, output] = run({"vm", "set", "7", "--burst", "0"});
    EXPECT_EQ(status, 1);
    EXPECT_THAT(output, HasSubstr("burst"));
    EXPECT_EQ(run({"vm", "set", "7", "--pool", "Z"}).first, 1);
    EXPECT_EQ(run({"vm", "99"}).first, 1);
    EXPECT_EQ(run({"pool", "show", "Z"}).first, 1);
}

TEST_F(VgpuctlOnMediator, QuarantinesAndReleases) {
    WirePeer peer = served_vm(7);
    EXPECT_EQ(ask({"vm", "quarantine", "7", "--reason", "test"}).at("quarantined"), true);
    EXPECT_EQ(status_of_next(peer), VGPU_ERR_QUARANTINED);
    EXPECT_EQ(run({"vm", "quarantine", "7"}).first, 1);
    EXPECT_EQ(ask({"vm", "release", "7"}).at("quarantined"), false);
    EXPECT_EQ(status_of_next(peer), VGPU_ERR_NONE);
}

TEST_F(VgpuctlOnMediator, FollowsEvents) {
    WirePeer peer = served_vm(7);
    Process events(command({"events", "--json", "--vm", "7", "--type", "request_finished"}));
    // Send requests until one appears in the stream, which shows that it has started.
    for (int i = 0; i < 2000 && events.output().empty(); ++i) {
        ASSERT_EQ(status_of_next(peer), VGPU_ERR_NONE);
        (void)events.wait_for_output("\n", std::chrono::milliseconds(10));
    }
    ASSERT_TRUE(events.wait_for_output("\n"));
    const std::string output = events.output();
    const json event = json::parse(output.substr(0, output.find('\n')));
    EXPECT_EQ(event.at("event"), "request_finished");
    EXPECT_EQ(event.at("vm"), 7);
    events.signal(SIGINT);
    EXPECT_EQ(events.wait(), 0);
}

TEST_F(VgpuctlOnMediator, Drains) {
    EXPECT_EQ(ask({"reload"}).at("not_applied"), json::array());
    EXPECT_EQ(ask({"drain"}).at("state"), "draining");
    mediator.join();
}

}  // namespace
}  // namespace vgpu::test
