// SPDX-License-Identifier: MIT
//
// The mediator under a service manager: the sockets that it inherits, and the states that it
// reports. The test takes systemd's part, with the same environment.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/fd.h"
#include "support/process.h"
#include "support/temp_dir.h"
#include "support/unix_socket.h"

namespace vgpu::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;
using testing::StartsWith;
using Words = std::vector<std::string>;
using std::chrono::seconds;

// Opens listening sockets at the paths of its first argument and executes the rest with them, as
// systemd does: from descriptor 3 on, and inherited.
const char* const kActivate =
    "import os, socket, sys\n"
    "paths = sys.argv[1].split(',')\n"
    "sockets = [socket.socket(socket.AF_UNIX) for _ in paths]\n"
    "for number, (listener, path) in enumerate(zip(sockets, paths)):\n"
    "    listener.bind(path)\n"
    "    listener.listen()\n"
    "    os.dup2(listener.fileno(), 100 + number)\n"
    "for number in range(len(paths)):\n"
    "    os.dup2(100 + number, 3 + number)\n"
    "    os.close(100 + number)\n"
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(paths)))\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n";

class Service : public testing::Test {
  protected:
    Service() : manager(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
        const sockaddr_un address = unix_address(dir.file("notify"));
        EXPECT_EQ(
            ::bind(manager.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    }

    [[nodiscard]] Words mediator_command() const {
        return {VGPU_MEDIATOR,    "--backend",   "cpu",      "--socket",   dir.file("m"),
                "--admin-socket", dir.file("a"), "--config", dir.file("c")};
    }
    [[nodiscard]] Words activated(const std::string& paths) const {
        Words words{"python3", "-c", kActivate, paths};
        for (const std::string& word : mediator_command()) {
            words.push_back(word);
        }
        return words;
    }
    void configure(const std::string& text) const { std::ofstream(dir.file("c")) << text; }
    [[nodiscard]] Process::Environment environment() const {
        return {{"NOTIFY_SOCKET", dir.file("notify")}};
    }
    // Returns the next report; empty at the deadline.
    [[nodiscard]] std::string next_report() const {
        if (!wait_readable(manager.get(), std::chrono::steady_clock::now() + seconds(20))) {
            return {};
        }
        std::array<char, 4096> text{};
        const ssize_t length = ::recv(manager.get(), text.data(), text.size(), 0);
        return {text.data(), static_cast<std::size_t>(std::max<ssize_t>(length, 0))};
    }

    TempDir dir;
    Fd manager;
};

TEST_F(Service, ReportsEachStateToTheServiceManager) {
    configure("[shutdown]\ndrain_timeout_ms = 5000\n");
    Process mediator(mediator_command(), environment());
    EXPECT_THAT(next_report(),
                AllOf(StartsWith("READY=1\n"), HasSubstr("STATUS=listening on " + dir.file("m"))));

    configure("[shutdown]\ndrain_timeout_ms = 7000\n");
    mediator.signal(SIGHUP);
    EXPECT_THAT(next_report(), MatchesRegex("RELOADING=1\nMONOTONIC_USEC=[0-9]+\nSTATUS=.*"));
    EXPECT_THAT(next_report(), StartsWith("READY=1\nSTATUS=listening on "));

    configure("[shutdown]\ndrain_timeout = 1\n");
    mediator.signal(SIGHUP);
    EXPECT_THAT(next_report(), StartsWith("RELOADING=1\n"));
    const std::string failed = next_report();
    EXPECT_THAT(failed,
                AllOf(StartsWith("READY=1\nSTATUS=reload failed: "), HasSubstr("drain_timeout")));
    EXPECT_EQ(std::count(failed.begin(), failed.end(), '\n'), 1);

    mediator.signal(SIGTERM);
    EXPECT_THAT(next_report(), StartsWith("STOPPING=1\nEXTEND_TIMEOUT_USEC=27000000\n"));
    EXPECT_EQ(mediator.wait(), 0);
}

TEST_F(Service, ReportsADrainByAnOperator) {
    configure("");
    Process mediator(mediator_command(), environment());
    EXPECT_THAT(next_report(), StartsWith("READY=1\n"));
    EXPECT_EQ(run_program({VGPUCTL, "--socket", dir.file("a"), "drain"}).first, 0);
    EXPECT_THAT(next_report(), StartsWith("STOPPING=1\n"));
    EXPECT_EQ(mediator.wait(), 0);
}

TEST_F(Service, KeepsTheWatchdogQuietWhileItServes) {
    configure("");
    Process::Environment with_watchdog = environment();
    with_watchdog.emplace_back("WATCHDOG_USEC", "300000");
    Process mediator(mediator_command(), with_watchdog);
    EXPECT_THAT(next_report(), StartsWith("READY=1\n"));
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(next_report(), "WATCHDOG=1");
    }
    // A stopped process sends nothing, which is what the watchdog is for.
    mediator.signal(SIGSTOP);
    std::string report;
    const auto pause = std::chrono::milliseconds(600);
    while (wait_readable(manager.get(), std::chrono::steady_clock::now() + pause)) {
        report = next_report();
    }
    EXPECT_TRUE(report.empty() || report == "WATCHDOG=1") << report;
    mediator.signal(SIGCONT);
    EXPECT_EQ(next_report(), "WATCHDOG=1");
    mediator.signal(SIGTERM);
    EXPECT_EQ(mediator.wait(), 0);
}

TEST_F(Service, ServesWhateverIsInTheEnvironment) {
    configure("");
    for (const char* const path : {"", "relative", "/nowhere/notify", "@nobody"}) {
        Process mediator(mediator_command(), {{"NOTIFY_SOCKET", path}, {"WATCHDOG_USEC", "no"}});
        EXPECT_TRUE(mediator.wait_for_output("ready")) << mediator.output();
        mediator.signal(SIGTERM);
        EXPECT_EQ(mediator.wait(), 0) << path;
    }
}

TEST_F(Service, ServesInheritedSocketsAndLeavesTheirFiles) {
    configure("");
    Process mediator(activated(dir.file("m") + "," + dir.file("a")));
    ASSERT_TRUE(mediator.wait_for_output("ready")) << mediator.output();
    const Words add{VGPU, "--device", "unix:" + dir.file("m"), "add", "100", "200"};
    EXPECT_THAT(run_program(add).second, StartsWith("100 + 200 = 300\n"));
    const auto [status, text] = run_program({VGPUCTL, "--socket", dir.file("a"), "status"});
    EXPECT_EQ(status, 0) << text;
    mediator.signal(SIGTERM);
    EXPECT_EQ(mediator.wait(), 0);
    EXPECT_TRUE(std::filesystem::is_socket(dir.file("m")));
    EXPECT_TRUE(std::filesystem::is_socket(dir.file("a")));
}

TEST_F(Service, OpensTheSocketsThatItDoesNotInherit) {
    configure("");
    Process mediator(activated(dir.file("m")));
    ASSERT_TRUE(mediator.wait_for_output("ready")) << mediator.output();
    EXPECT_EQ(run_program({VGPUCTL, "--socket", dir.file("a"), "status"}).first, 0);
    mediator.signal(SIGTERM);
    EXPECT_EQ(mediator.wait(), 0);
    EXPECT_TRUE(std::filesystem::is_socket(dir.file("m")));
    EXPECT_FALSE(std::filesystem::exists(dir.file("a")));
}

TEST_F(Service, RefusesASocketThatItsConfigurationDoesNotName) {
    configure("");
    const auto [status, text] = run_program(activated(dir.file("other")));
    EXPECT_EQ(status, 1);
    EXPECT_THAT(text, AllOf(HasSubstr("systemd listens on " + dir.file("other")),
                            HasSubstr("disable its socket unit"), Not(HasSubstr("ready"))));
}

}  // namespace
}  // namespace vgpu::test
