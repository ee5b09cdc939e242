// SPDX-License-Identifier: MIT
//
// Tests of the program itself: its requests, its output and its exit status.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "cli/vgpuctl/testing/fake_api.h"
#include "support/process.h"
#include "support/temp_dir.h"
#include "support/unix_socket.h"

namespace vgpu::ctl {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

using Words = std::vector<std::string>;

Words command_line(const std::string& socket, const Words& words) {
    Words all{VGPUCTL_PROGRAM, "--socket", socket};
    all.insert(all.end(), words.begin(), words.end());
    return all;
}

struct Vgpuctl : testing::Test {
    test::TempDir dir;
    FakeApi api{dir.file("admin.sock"), usual_answers()};

    std::pair<int, std::string> run(const Words& words) {
        return test::run_program(command_line(api.socket(), words));
    }
};

TEST_F(Vgpuctl, ShowsTheMediatorInWords) {
    const auto [status, output] = run({"status"});
    EXPECT_EQ(status, 0);
    EXPECT_THAT(output, AllOf(HasSubstr("9.8.7"), HasSubstr("running, up 1 h 2 min"),
                              HasSubstr("6 queued, 1 running"), HasSubstr("5 limited")));
    EXPECT_THAT(run({"gpus"}).second,
                AllOf(HasSubstr("45 %"), HasSubstr("1.0 GiB"), HasSubstr("Fake GPU")));
    EXPECT_THAT(run({"pools"}).second, AllOf(HasSubstr("strict"), HasSubstr("10.0 s"),
                                             HasSubstr("fair"), HasSubstr("never")));
    EXPECT_THAT(run({"pool", "show", "A"}).second,
                AllOf(HasSubstr("strict"), Not(HasSubstr("fair"))));
    EXPECT_THAT(run({"vms"}).second, AllOf(HasSubstr("connected"), HasSubstr("quarantined")));
    const std::string shown = run({"vm", "7"}).second;
    EXPECT_THAT(shown,
                AllOf(HasSubstr("B (override)"), HasSubstr("200 ms in 1000 ms"),
                      HasSubstr("unlimited, bursts of 50"), HasSubstr("1.0 MiB (unlimited)")));
    EXPECT_EQ(run({"vm", "show", "7"}).second, shown);
}

TEST_F(Vgpuctl, EverythingIsThereAsJson) {
    for (const Words& words : std::vector<Words>{{"status"},
                                                 {"gpus"},
                                                 {"pools"},
                                                 {"pool", "show", "A"},
                                                 {"pool", "set", "A", "--policy", "fair"},
                                                 {"vms"},
                                                 {"vm", "7"},
                                                 {"vm", "set", "7", "--weight", "2"},
                                                 {"vm", "quarantine", "7"},
                                                 {"drain"},
                                                 {"reload"},
                                                 {"metrics"},
                                                 {"top", "--interval", "0.1"},
                                                 {"completion", "bash"}}) {
        Words all = words;
        all.emplace_back("--json");
        const auto [status, output] = run(all);
        EXPECT_EQ(status, 0) << testing::PrintToString(words) << output;
        EXPECT_TRUE(json::parse(output, nullptr, false).is_object()) << output;
    }
    EXPECT_EQ(json::parse(run({"status", "--json"}).second),
              json::parse(usual_answers().at("GET /v1/status").body));
    EXPECT_EQ(json::parse(run({"metrics", "--json"}).second).at("samples").at(1),
              json::parse(R"({"name":"vgpu_faults_total","labels":{"vm":"7"},"value":2.0})"));
}

TEST_F(Vgpuctl, ChangesAVmByTheNamesOfTheApi) {
    const auto [status, output] = run({"vm",        "set",
                                       "7",         "--pool",
                                       "B",         "--priority",
                                       "none",      "--weight",
                                       "0.5",       "--boost",
                                       "true",      "--queue-depth",
                                       "9",         "--requests-per-second",
                                       "100",       "--burst",
                                       "5",         "--gpu-time-ms-per-window",
                                       "200",       "--gpu-window-ms",
                                       "2000",      "--quarantine-after-faults",
                                       "3",         "--longest-execution-ms",
                                       "4000",      "--memory-bytes",
                                       "8589934592"});
    EXPECT_EQ(status, 0) << output;
    const auto request = api.requests().at(0);
    EXPECT_EQ(request.line, "PATCH /v1/vms/7");
    EXPECT_EQ(request.content_type, "application/json");
    EXPECT_EQ(json::parse(request.body), json::parse(R"({
        "pool": "B", "priority": null, "weight": 0.5, "boost": true, "queue_depth": 9,
        "limits": {"requests_per_second": 100.0, "burst": 5, "gpu_time_ms_per_window": 200,
                   "gpu_window_ms": 2000, "quarantine_after_faults": 3,
                   "longest_execution_ms": 4000, "memory_bytes": 8589934592}})"));
}

TEST_F(Vgpuctl, SendsOnlyWhatWasGiven) {
    EXPECT_EQ(run({"vm", "set", "7", "--burst", "5"}).first, 0);
    EXPECT_EQ(run({"pool", "set", "A", "--aging-ms", "0"}).first, 0);
    EXPECT_EQ(run({"vm", "quarantine", "7", "--reason", "mines coins"}).first, 0);
    EXPECT_EQ(run({"vm", "quarantine", "7"}).first, 0);
    const auto asked = api.requests();
    EXPECT_EQ(json::parse(asked.at(0).body), json::parse(R"({"limits":{"burst":5}})"));
    EXPECT_EQ(asked.at(1).line, "PATCH /v1/pools/A");
    EXPECT_EQ(json::parse(asked.at(1).body), json::parse(R"({"aging_ms":0})"));
    EXPECT_EQ(json::parse(asked.at(2).body), json::parse(R"({"reason":"mines coins"})"));
    EXPECT_EQ(asked.at(3).line, "POST /v1/vms/7/quarantine");
    EXPECT_EQ(asked.at(3).body, "");
}

TEST_F(Vgpuctl, DrainsAndReloads) {
    EXPECT_EQ(run({"drain"}).first, 0);
    const auto [status, output] = run({"reload"});
    EXPECT_EQ(status, 0);
    EXPECT_THAT(output, HasSubstr("last read:\n  limits.burst: 20 -> 40\n"));
    EXPECT_THAT(output, HasSubstr("after a restart:\n  mediator.sockets\n"));
    EXPECT_EQ(api.requests().at(0).line, "POST /v1/drain");
}

TEST_F(Vgpuctl, RefusalsAreSentencesWithTheField) {
    const auto [status, output] = run({"vm", "set", "8", "--burst", "0"});
    EXPECT_EQ(status, 1);
    EXPECT_EQ(output, "vgpuctl: limits.burst: Give a number from 1 on.\n");
    EXPECT_EQ(run({"vm", "99"}), std::pair(1, std::string("vgpuctl: There is no VM 99.\n")));
    EXPECT_EQ(run({"vm", "release", "7"}).first, 1);
    const auto [json_status, text] = run({"vm", "99", "--json"});
    EXPECT_EQ(json_status, 1);
    EXPECT_EQ(json::parse(text).at("error").at("code"), "unknown_vm");
}

TEST_F(Vgpuctl, FollowsEventsUntilInterrupted) {
    for (const bool as_json : {false, true}) {
        Words words =
            command_line(api.socket(), {"events", "--vm", "7", "--type", "request_finished"});
        if (as_json) {
            words.emplace_back("--json");
        }
        test::Process process(words);
        ASSERT_TRUE(process.wait_for_output("\n"));
        EXPECT_THAT(process.output(), as_json
                                          ? HasSubstr(R"("request_id":4)")
                                          : HasSubstr("request 4 waited 12 µs executed 3.4 ms"));
        process.signal(SIGINT);
        EXPECT_EQ(process.wait(), 0);
    }
}

TEST_F(Vgpuctl, EventsThatAreRefusedAreAFailure) {
    const auto [status, output] = run({"events", "--vm", "99"});
    EXPECT_EQ(status, 1);
    EXPECT_THAT(output, HasSubstr("no such path"));
}

TEST_F(Vgpuctl, TopWithoutATerminalIsOnePicture) {
    const auto [status, output] = run({"top", "--interval", "0.1"});
    EXPECT_EQ(status, 0);
    EXPECT_THAT(output, AllOf(HasSubstr("GPU%"), HasSubstr("Fake GPU"), HasSubstr("quarantined"),
                              Not(HasSubstr("q quit")), Not(HasSubstr("\x1b"))));
}

TEST(Nobody, EveryCommandSaysWhatToDo) {
    const test::TempDir dir;
    const std::string socket = dir.file("none");
    for (const Words& words : std::vector<Words>{{"status"},
                                                 {"vm", "set", "7", "--weight", "2"},
                                                 {"events"},
                                                 {"metrics"},
                                                 {"top"},
                                                 {"drain"}}) {
        const auto [status, output] = test::run_program(command_line(socket, words));
        EXPECT_EQ(status, 1) << words[0];
        EXPECT_THAT(output, AllOf(HasSubstr("cannot connect to the mediator at " + socket +
                                            ": no such file"),
                                  HasSubstr("Start vgpu-mediator")))
            << words[0];
    }
    const auto [status, output] = test::run_program(command_line(socket, {"status", "--json"}));
    EXPECT_EQ(status, 1);
    EXPECT_EQ(json::parse(output).at("error").at("code"), "no_mediator");
    // The environment sets the socket if no option does.
    const auto [env_status, text] =
        test::run_program({VGPUCTL_PROGRAM, "status"}, std::chrono::seconds(20),
                          {{"VGPU_ADMIN_SOCKET", dir.file("elsewhere")}});
    EXPECT_EQ(env_status, 1);
    EXPECT_THAT(text, HasSubstr(dir.file("elsewhere")));
}

// Each error text names the actual cause and its remedy.
TEST(Complaints, NameTheCause) {
    const test::TempDir dir;
    const auto status_of = [](const std::string& socket) {
        const auto [status, output] =
            test::run_program({VGPUCTL_PROGRAM, "--socket", socket, "--timeout", "0.2", "status"});
        EXPECT_EQ(status, 1) << output;
        return output;
    };
    const std::string left = dir.file("left");
    { const Fd listener = test::listen_unix(left, 1); }
    EXPECT_THAT(status_of(left),
                AllOf(HasSubstr("no process is listening"), Not(HasSubstr("group"))));
    std::ofstream(dir.file("plain")) << "text";
    EXPECT_THAT(status_of(dir.file("plain")), HasSubstr("no process is listening"));
    EXPECT_THAT(status_of(dir.file("plain") + "/a"), HasSubstr("Not a directory"));
    EXPECT_THAT(status_of(std::string(200, 'x')), HasSubstr("not 200"));

    // First a connection that is accepted but not answered, then one that is not accepted.
    const std::string hangs = dir.file("hangs");
    const Fd listener = test::listen_unix(hangs, 0);
    EXPECT_THAT(status_of(hangs), AllOf(HasSubstr("did not answer within 200 ms: it is hung"),
                                        HasSubstr("--timeout")));
    // The first connection is still in the backlog, which has room for one.
    EXPECT_THAT(status_of(hangs),
                AllOf(HasSubstr("accepted no connection within 200 ms: too many other programs"),
                      HasSubstr("--timeout")));

    // The device socket closes on unknown data; other servers send something else.
    for (const char* answer : {"", "SSH-2.0-none\r\n"}) {
        const std::string path = dir.file(answer[0] == '\0' ? "closes" : "talks");
        const Fd other = test::listen_unix(path, 5);
        std::thread peer([&] {
            const Fd connection(::accept4(other.get(), nullptr, nullptr, SOCK_CLOEXEC));
            std::array<char, 4096> request{};
            EXPECT_GT(::recv(connection.get(), request.data(), request.size(), 0), 0);
            const std::string_view text(answer);
            EXPECT_EQ(::send(connection.get(), text.data(), text.size(), MSG_NOSIGNAL),
                      static_cast<ssize_t>(text.size()));
        });
        EXPECT_THAT(status_of(path), HasSubstr("this is not a mediator's admin socket"));
        peer.join();
    }
}

// A socket whose backlog has room for one connection, and holds one.
struct Crowd : testing::Test {
    test::TempDir dir;
    std::string path = dir.file("crowded");
    Fd listener = test::listen_unix(path, 0);
    Fd first = test::connect_unix(path);

    [[nodiscard]] Fd accept() const {
        return Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    }
    static bool wait_for_handler_of(int signal, const test::Process& process) {
        for (int tries = 0; tries < 1000; ++tries) {
            std::ifstream status("/proc/" + std::to_string(process.pid()) + "/status");
            for (std::string line; std::getline(status, line);) {
                if (line.starts_with("SigCgt:") &&
                    (std::stoull(line.substr(8), nullptr, 16) >> (signal - 1) & 1) != 0) {
                    return true;
                }
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        return false;
    }
};

TEST_F(Crowd, IsWaitedForUntilThereIsAPlace) {
    test::Process process(command_line(path, {"status"}));
    ASSERT_EQ(process.wait(std::chrono::milliseconds(200)), std::nullopt) << process.output();
    EXPECT_TRUE(accept());
    const Fd peer = accept();
    std::array<char, 4096> request{};
    ASSERT_GT(::recv(peer.get(), request.data(), request.size(), 0), 0);
    EXPECT_THAT(std::string(request.data()), HasSubstr("GET /v1/status HTTP/1.1"));
    const std::string body = usual_answers().at("GET /v1/status").body;
    const std::string answer =
        "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    ASSERT_EQ(::send(peer.get(), answer.data(), answer.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(answer.size()));
    EXPECT_EQ(process.wait(), 0) << process.output();
    EXPECT_THAT(process.output(), HasSubstr("9.8.7"));
}

TEST_F(Crowd, DoesNotKeepASignalFromEndingEvents) {
    test::Process process(command_line(path, {"--timeout", "3600", "events"}));
    ASSERT_TRUE(wait_for_handler_of(SIGINT, process)) << process.output();
    process.signal(SIGINT);
    EXPECT_EQ(process.wait(), 0) << process.output();
}

TEST(Complaints, APermissionIsOneOfTheGroup) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "needs another user than the one of the socket";
    }
    const test::TempDir dir;
    std::filesystem::permissions(dir.path(), std::filesystem::perms(0755));
    const Fd listener = test::listen_unix(dir.file("s"), 1);
    std::filesystem::permissions(dir.file("s"), std::filesystem::perms(0660));
    const auto [status, output] =
        test::run_program({"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                           "env", "-C", "/", VGPUCTL_PROGRAM, "--socket", dir.file("s"), "status"});
    if (status == 126 || status == 127) {
        GTEST_SKIP() << "another user may not run the program where it lies";
    }
    EXPECT_EQ(status, 1);
    EXPECT_THAT(output, HasSubstr("permission denied. Join group vgpu"));
}

TEST(CommandLine, WrongUsageIsStatus2WithASentence) {
    for (const Words& words : std::vector<Words>{{},
                                                 {"bogus"},
                                                 {"vm"},
                                                 {"vm", "seven"},
                                                 {"vm", "show", "-1"},
                                                 {"vm", "show", "4294967296"},
                                                 {"vm", "set", "7"},
                                                 {"vm", "set", "7", "--weight", "much"},
                                                 {"vm", "set", "7", "--priority", "urgent"},
                                                 {"vm", "set", "7", "--burst", "-1"},
                                                 {"vm", "set", "--weight", "2"},
                                                 {"pool", "set", "A"},
                                                 {"pool", "set", "AB", "--policy", "fair"},
                                                 {"pool", "set", "A", "--policy", "unfair"},
                                                 {"events", "--type", "nothing"},
                                                 {"top", "--interval", "0"},
                                                 {"status", "--timeout", "0"},
                                                 {"completion", "tcsh"}}) {
        const auto [status, output] = test::run_program(command_line("/nowhere", words));
        EXPECT_EQ(status, 2) << testing::PrintToString(words) << output;
        EXPECT_FALSE(output.empty());
    }
}

TEST(CommandLine, HelpIsEverywhere) {
    for (const Words& words : std::vector<Words>{{},
                                                 {"status"},
                                                 {"gpus"},
                                                 {"pools"},
                                                 {"pool"},
                                                 {"pool", "set"},
                                                 {"vms"},
                                                 {"vm"},
                                                 {"vm", "set"},
                                                 {"vm", "quarantine"},
                                                 {"vm", "release"},
                                                 {"drain"},
                                                 {"reload"},
                                                 {"events"},
                                                 {"metrics"},
                                                 {"top"},
                                                 {"completion"}}) {
        Words all{VGPUCTL_PROGRAM};
        all.insert(all.end(), words.begin(), words.end());
        all.emplace_back("--help");
        const auto [status, output] = test::run_program(all);
        EXPECT_EQ(status, 0) << testing::PrintToString(words);
        EXPECT_THAT(output, HasSubstr("Usage:")) << testing::PrintToString(words);
    }
    EXPECT_EQ(test::run_program({VGPUCTL_PROGRAM, "--version"}).second,
              "vgpuctl " VGPU_VERSION "\n");
}

}  // namespace
}  // namespace vgpu::ctl
