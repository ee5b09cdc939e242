// SPDX-License-Identifier: MIT
//
// The real daemon logging to the journal through libsystemd, which sends to a fixed path. Hence the
// daemon runs in its own mount namespace with the test's socket at that path.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "support/process.h"
#include "support/temp_dir.h"
#include "support/unix_socket.h"
#include "support/wire_peer.h"

namespace vgpu::test {
namespace {

using Args = std::vector<std::string>;
using std::chrono::seconds;
using std::chrono::steady_clock;

// Fields of an entry; repeated names keep their values in order of arrival.
using Entry = std::multimap<std::string, std::string>;

// Parses a datagram of the journal's native protocol: lines "NAME=value", or "NAME", a newline, the
// value's length (64 bits, little-endian), the value, a newline.
Entry parse(std::string_view datagram) {
    Entry entry;
    while (!datagram.empty()) {
        const auto line = datagram.substr(0, datagram.find('\n'));
        const auto equals = line.find('=');
        datagram.remove_prefix(std::min(line.size() + 1, datagram.size()));
        if (equals != std::string_view::npos) {
            entry.emplace(line.substr(0, equals), line.substr(equals + 1));
            continue;
        }
        std::uint64_t size = 0;
        if (datagram.size() < sizeof size) {
            ADD_FAILURE() << "a field without its size: " << line;
            break;
        }
        std::memcpy(&size, datagram.data(), sizeof size);
        datagram.remove_prefix(sizeof size);
        if (size >= datagram.size() || datagram[size] != '\n') {
            ADD_FAILURE() << "a field without its end: " << line;
            break;
        }
        entry.emplace(line, datagram.substr(0, size));
        datagram.remove_prefix(size + 1);
    }
    return entry;
}

std::string value(const Entry& entry, const std::string& name) {
    return entry.count(name) == 1 ? entry.find(name)->second : "";
}

// Runs the command after its first two arguments with the folder $1 as /run/systemd/journal. If $2
// is "stream", JOURNAL_STREAM indicates that standard error is connected to the journal; if it is
// "other", JOURNAL_STREAM is stale, as after standard error was redirected.
constexpr const char* kInside = R"(
    mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal &&
        mount --bind "$1" /run/systemd/journal || exit 99
    [ "$2" != stream ] || export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2)
    [ "$2" != other ] || export JOURNAL_STREAM=1:1
    shift 2
    exec "$@")";

Args inside(const std::string& folder, const std::string& how, const Args& command) {
    Args all{"unshare", "--user", "--map-root-user", "--mount", "sh", "-c", kInside, "sh",
             folder,    how};
    all.insert(all.end(), command.begin(), command.end());
    return all;
}

struct DaemonInTheJournal : testing::Test {
    TempDir dir;
    TempDir journal_dir;
    std::string socket = dir.file("s");
    Fd journal;
    std::unique_ptr<Process> process;

    void SetUp() override {
        const auto [status, output] = run_program(inside(journal_dir.path(), "", {"true"}));
        if (status != 0) {
            GTEST_SKIP() << "a mount namespace is needed, and there is none: " << output;
        }
    }
    void listen() {
        journal = Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        const sockaddr_un address = unix_address(journal_dir.file("socket"));
        ASSERT_EQ(
            ::bind(journal.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    }
    void run(const std::string& how, const Args& more) {
        const char* const chosen = std::getenv("VGPU_MEDIATOR");
        Args command{chosen != nullptr ? chosen : VGPU_MEDIATOR_PATH, "--backend", "cpu",
                     "--socket", socket};
        command.insert(command.end(), more.begin(), more.end());
        process = std::make_unique<Process>(inside(journal_dir.path(), how, command));
    }
    // Returns the next entry; nullopt on time-out.
    std::optional<Entry> next(steady_clock::time_point deadline) const {
        std::array<char, 65536> buffer{};
        if (!wait_readable(journal.get(), deadline)) {
            return std::nullopt;
        }
        const ssize_t size = ::recv(journal.get(), buffer.data(), buffer.size(), 0);
        EXPECT_GT(size, 0);  // 0: a descriptor without data, as for an oversized entry
        return parse({buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0))});
    }
    // Returns the entries up to the first whose message begins with `message`, or all on time-out.
    std::vector<Entry> until(const std::string& message) const {
        std::vector<Entry> entries;
        const auto deadline = steady_clock::now() + seconds(20);
        while (auto entry = next(deadline)) {
            entries.push_back(std::move(*entry));
            if (value(entries.back(), "MESSAGE").starts_with(message)) {
                return entries;
            }
        }
        ADD_FAILURE() << "no entry '" << message << "' came; " << process->output();
        return {Entry()};
    }
    // Starts the daemon with its log in the journal; every request of the returned peer is rejected
    // and logged.
    WirePeer start_with_a_talkative_peer() {
        listen();
        std::ofstream(dir.file("config.toml")) << "[log]\ntarget = \"journal\"\nburst = 100000\n";
        run("", {"--config", dir.file("config.toml")});
        until("ready");
        WirePeer peer = WirePeer::connect(socket);
        peer.pool = 'Z';
        return peer;
    }
};

TEST_F(DaemonInTheJournal, EntriesHaveTheFieldsOfTheirVmConnectionAndRequest) {
    listen();
    run("", {"--log-target", "journal"});
    const Entry ready = until("ready").back();
    EXPECT_EQ(value(ready, "PRIORITY"), "6");
    EXPECT_EQ(value(ready, "SYSLOG_IDENTIFIER"), "vgpu-mediator");
    WirePeer peer = WirePeer::connect(socket);
    peer.vm_id = 7;
    peer.pool = '\n';
    peer.send_request(31, make_add(1, 1));
    ASSERT_TRUE(peer.receive());
    const auto entries = until("conn=1 vm=7 req=31");
    EXPECT_EQ(value(entries.front(), "MESSAGE"), "conn=1 vm=7 connected");
    EXPECT_EQ(value(entries.front(), "VGPU_VM"), "7");
    const Entry& refused = entries.back();
    EXPECT_EQ(value(refused, "PRIORITY"), "4");
    EXPECT_EQ(value(refused, "SYSLOG_IDENTIFIER"), "vgpu-mediator");
    EXPECT_EQ(value(refused, "VGPU_EVENT"), "request_refused");
    EXPECT_EQ(value(refused, "VGPU_VM"), "7");
    EXPECT_EQ(value(refused, "VGPU_CONNECTION"), "1");
    EXPECT_EQ(value(refused, "VGPU_REQUEST"), "31");
    EXPECT_EQ(value(refused, "VGPU_POOL"), "10");
    EXPECT_EQ(value(refused, "VGPU_STATUS"), "6");
    EXPECT_EQ(value(refused, "VGPU_ERROR"), "invalid-pool");
    EXPECT_NE(value(refused, "MESSAGE").find("refused with error 0x06: "), std::string::npos);
    process->signal(SIGTERM);
    until("stopped");
    EXPECT_EQ(process->wait(), 0);
    // Standard error contains only the counters, which are not part of the log.
    EXPECT_EQ(process->output().find("ready"), std::string::npos) << process->output();
    EXPECT_NE(process->output().find("\n  vm 7 "), std::string::npos) << process->output();
}

// A value that contains a newline is sent with its length, so it cannot forge a field.
TEST_F(DaemonInTheJournal, ANewlineForgesNoField) {
    listen();
    run("", {"--log-target", "journal", "--socket", dir.file("t\nVGPU_VM=1")});
    const Entry ready = until("ready").back();
    EXPECT_NE(value(ready, "MESSAGE").find("t\nVGPU_VM=1, pools A,B"), std::string::npos);
    EXPECT_EQ(ready.count("VGPU_VM"), 0U);
}

TEST_F(DaemonInTheJournal, AutoIsTheJournalWhereStandardErrorIs) {
    listen();
    run("stream", {});
    until("ready");
    EXPECT_EQ(process->output().find("ready"), std::string::npos) << process->output();
}

TEST_F(DaemonInTheJournal, AutoIsStandardErrorElsewhere) {
    listen();
    for (const char* const how : {"", "other"}) {
        run(how, {});
        EXPECT_TRUE(process->wait_for_output("ready")) << how << process->output();
        process.reset();
    }
}

TEST_F(DaemonInTheJournal, ToldToUseStandardErrorItDoes) {
    listen();
    std::ofstream(dir.file("config.toml")) << "[log]\ntarget = \"stderr\"\n";
    run("stream", {"--config", dir.file("config.toml")});
    EXPECT_TRUE(process->wait_for_output("ready")) << process->output();
}

TEST_F(DaemonInTheJournal, WithoutAJournalTheLogGoesToStandardErrorAndSaysSo) {
    run("", {"--log-target", "journal"});
    ASSERT_TRUE(process->wait_for_output("ready")) << process->output();
    EXPECT_NE(
        process->output().find("warning: no journal is listening at /run/systemd/journal/socket"),
        std::string::npos)
        << process->output();
}

// sd_journal_sendv() blocks while the journal's queue is full; the mediator continues.
TEST_F(DaemonInTheJournal, AJournalThatHangsHoldsUpNoRequestAndNotTheEnd) {
    WirePeer peer = start_with_a_talkative_peer();
    constexpr std::uint32_t kMany = 5000;  // exceeds the kernel's queue plus the mediator's
    for (std::uint32_t i = 0; i < kMany; ++i) {
        peer.send_request(i, make_add(1, 1));
        ASSERT_TRUE(peer.receive()) << i;
    }
    process->signal(SIGTERM);
    EXPECT_EQ(process->wait(seconds(10)), 0) << process->output();
    // The entries sent until then are present, from the first one and in order.
    std::uint32_t found = 0;
    while (const auto entry = next(steady_clock::now())) {
        if (value(*entry, "VGPU_EVENT") == "request_refused") {
            EXPECT_EQ(value(*entry, "VGPU_REQUEST"), std::to_string(found));
            ++found;
        }
    }
    EXPECT_GT(found, 0U);
    EXPECT_LT(found, kMany);
}

TEST_F(DaemonInTheJournal, WhatAJournalDidNotTakeInTimeIsCountedAndSaid) {
    WirePeer peer = start_with_a_talkative_peer();
    std::uint32_t sent = 0;
    const auto send_one = [&] {
        peer.send_request(sent++, make_add(1, 1));
        return peer.receive().has_value();
    };
    while (sent < 10000) {
        ASSERT_TRUE(send_one());
    }
    // Read again until an entry arrives that was written after reading resumed.
    std::uint64_t lines = 0;
    std::uint64_t missing = 0;
    bool caught_up = false;
    const auto deadline = steady_clock::now() + seconds(20);
    while (!caught_up && steady_clock::now() < deadline) {
        ASSERT_TRUE(send_one());
        while (const auto entry = next(steady_clock::now() + std::chrono::milliseconds(10))) {
            if (value(*entry, "MESSAGE").find(" lines are missing here") != std::string::npos) {
                missing += std::stoull(value(*entry, "MESSAGE"));
            }
            lines += value(*entry, "VGPU_EVENT") == "request_refused" ? 1 : 0;
            caught_up = caught_up || value(*entry, "VGPU_REQUEST") == std::to_string(sent - 1);
        }
    }
    EXPECT_TRUE(caught_up);
    EXPECT_GT(missing, 0U);
    EXPECT_EQ(lines + missing, sent);
}

}  // namespace
}  // namespace vgpu::test
