// SPDX-License-Identifier: MIT
//
// Tests of the output of top, and of its keys on a terminal.
#include "cli/vgpuctl/top.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cli/vgpuctl/testing/fake_api.h"
#include "support/temp_dir.h"
#include "support/unix_socket.h"

namespace vgpu::ctl {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

json vm(unsigned id, double gpu_time_us, unsigned done, unsigned queued = 0) {
    return {{"id", id},
            {"pool", "A"},
            {"priority", "low"},
            {"connected", true},
            {"queued", queued},
            {"gpu_time_us", gpu_time_us},
            {"quarantined", false},
            {"requests", {{"done", done}}}};
}

struct Top : testing::Test {
    Sample before{.status = json::object(), .gpus = json::array(), .vms = json::array(), .at = {}};
    Sample now = before;
    void SetUp() override { now.at = before.at + std::chrono::seconds(2); }

    std::vector<std::uint64_t> order(Sort sort) {
        std::vector<std::uint64_t> ids;
        for (const TopRow& row : top_rows(before, now, sort)) {
            ids.push_back(row.vm);
        }
        return ids;
    }
};

TEST_F(Top, SharesAndRatesAreThoseBetweenTheSamples) {
    before.vms = {vm(1, 1e6, 100)};
    now.vms = {vm(1, 2e6, 150)};
    const auto rows = top_rows(before, now, Sort::kGpu);
    ASSERT_THAT(rows, SizeIs(1));
    EXPECT_DOUBLE_EQ(rows[0].gpu_percent, 50);
    EXPECT_DOUBLE_EQ(rows[0].rate, 25);
}

TEST_F(Top, NewVmsAndNewMediatorsCountFromZero) {
    before.vms = {vm(1, 5e6, 100)};
    now.vms = {vm(1, 1e6, 10), vm(2, 2e6, 20)};
    const auto rows = top_rows(before, now, Sort::kVm);
    EXPECT_DOUBLE_EQ(rows.at(0).gpu_percent, 50);
    EXPECT_DOUBLE_EQ(rows.at(1).gpu_percent, 100);
    EXPECT_DOUBLE_EQ(rows.at(1).rate, 10);
}

TEST_F(Top, SortsByEveryColumn) {
    now.vms = {vm(3, 1e6, 900, 1), vm(1, 1e6, 5, 7), vm(2, 9e6, 20, 0)};
    EXPECT_THAT(order(Sort::kGpu), ElementsAre(2, 1, 3));
    EXPECT_THAT(order(Sort::kRate), ElementsAre(3, 2, 1));
    EXPECT_THAT(order(Sort::kQueued), ElementsAre(1, 3, 2));
    EXPECT_THAT(order(Sort::kVm), ElementsAre(1, 2, 3));
    Sort sort = Sort::kGpu;
    for (int i = 0; i < 6; ++i) {
        sort = next(sort);
    }
    EXPECT_EQ(sort, Sort::kGpu);
}

TEST_F(Top, FitsATerminalOf80By24WhateverThereIs) {
    json gpu{{"index", 0},           {"name", std::string(200, 'n')},
             {"pools", {"A", "B"}},  {"state", "recovering"},
             {"memory_total", 1e12}, {"memory_free", 1e11}};
    now.gpus = {gpu, gpu};
    for (unsigned id = 0; id < 100; ++id) {
        now.vms.push_back(vm(4294967295U - id, 9e9, 4000000000U, 100000));
        now.vms.back()["quarantined"] = true;
        now.vms.back()["priority"] = "medium";
        now.vms.back()["memory_used"] = 1023.9 * (1U << 30U);
        now.vms.back()["wait_mean_us"] = 999'900;
    }
    const auto rows = top_rows(before, now, Sort::kGpu);
    std::istringstream screen(top_screen(now, rows, Sort::kGpu, true, 80, 24));
    std::vector<std::string> lines;
    for (std::string line; std::getline(screen, line);) {
        EXPECT_LE(line.size(), 80U) << line;
        lines.push_back(line);
    }
    EXPECT_THAT(lines, SizeIs(24));
    EXPECT_THAT(lines.back(), HasSubstr("PAUSED"));
    EXPECT_THAT(lines.back(), HasSubstr("100 VMs"));
    for (const std::size_t height : {0U, 1U, 2U, 3U}) {
        const std::string tiny = top_screen(now, rows, Sort::kGpu, false, 5, height);
        EXPECT_LE(std::count(tiny.begin(), tiny.end(), '\n'), std::max<std::size_t>(height, 1));
    }
}

TEST_F(Top, ShowsAThrottledVm) {
    now.vms = {vm(7, 1e6, 5)};
    now.vms[0]["throttled"] = true;
    const auto rows = top_rows(before, now, Sort::kGpu);
    EXPECT_THAT(top_screen(now, rows, Sort::kGpu, false, 80, 24), HasSubstr(" throttled"));
    EXPECT_EQ(top_json(now, rows)["vms"][0]["throttled"], true);
}

TEST_F(Top, ColumnsLineUp) {
    now.vms = {vm(7, 1e6, 5)};
    now.vms[0]["quarantined"] = true;
    std::istringstream screen(
        top_screen(now, top_rows(before, now, Sort::kGpu), Sort::kGpu, false, 80, 24));
    std::vector<std::string> lines;
    for (std::string line; std::getline(screen, line);) {
        lines.push_back(line);
    }
    const auto heading = std::find_if(lines.begin(), lines.end(), [](const std::string& line) {
        return line.find("GPU%") != std::string::npos;
    });
    ASSERT_NE(heading, lines.end());
    EXPECT_EQ(heading->find("STATE"), (heading + 1)->find("quarantined") - 1)
        << "µ takes two bytes and one column";
}

// vgpuctl top on a terminal of 80×24.
class OnTerminal {
  public:
    explicit OnTerminal(const std::string& socket, bool in_shell = false,
                        const char* type = "xterm") {
        const winsize size{.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
        int master = -1;
        pid_ = ::forkpty(&master, nullptr, nullptr, &size);
        if (pid_ == 0) {
            ::setenv("TERM", type, 1);
            ::setenv("LC_ALL", "C", 1);
            if (in_shell) {
                // A shell with job control: at the prompt its own process group has the terminal.
                const std::string top =
                    std::string(VGPUCTL_PROGRAM) + " --socket " + socket + " top --interval 0.1";
                ::setenv("TOP", top.c_str(), 1);
                ::execlp("bash", "bash", "--norc", "--noediting", "-i", nullptr);
            } else {
                ::execl(VGPUCTL_PROGRAM, "vgpuctl", "--socket", socket.c_str(), "top", "--interval",
                        "0.1", nullptr);
            }
            ::_exit(127);
        }
        master_ = Fd(master);
    }
    OnTerminal(const OnTerminal&) = delete;
    OnTerminal& operator=(const OnTerminal&) = delete;
    ~OnTerminal() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
        }
    }
    // Waits for `text` and drops what comes before it. False: it does not come in time.
    bool wait_for(const std::string& text) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        for (;;) {
            if (const auto at = seen_.find(text); at != std::string::npos) {
                seen_.erase(0, at + text.size());
                return true;
            }
            std::array<char, 4096> bytes{};
            if (!test::wait_readable(master_.get(), deadline)) {
                return false;
            }
            const ssize_t count = ::read(master_.get(), bytes.data(), bytes.size());
            if (count <= 0) {
                return false;
            }
            seen_.append(bytes.data(), static_cast<std::size_t>(count));
        }
    }
    // Waits for the alternate screen and the cursor's disappearance, and for the opposite.
    bool wait_entered() { return wait_for("\x1b[?1049h") && wait_for("\x1b[?25l"); }
    bool wait_left() { return wait_for("\x1b[?25h") && wait_for("\x1b[?1049l"); }
    void press(char key) { EXPECT_EQ(::write(master_.get(), &key, 1), 1); }
    void type(const std::string& line) {
        EXPECT_EQ(::write(master_.get(), line.data(), line.size()),
                  static_cast<ssize_t>(line.size()));
    }
    void signal(int number) const { ::kill(pid_, number); }
    // Waits until a signal stops it, and returns the signal; 0 if it ended instead.
    int wait_until_stopped() {
        int status = 0;
        ::waitpid(pid_, &status, WUNTRACED);
        if (!WIFSTOPPED(status)) {
            pid_ = -1;
            return 0;
        }
        return WSTOPSIG(status);
    }
    // Returns the number of the signal that ended it; 0 if it ended otherwise.
    int wait_for_death() {
        while (wait_for("\n")) {
        }
        int status = 0;
        ::waitpid(std::exchange(pid_, -1), &status, 0);
        return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    }
    void resize(unsigned short lines, unsigned short columns) const {
        const winsize size{.ws_row = lines, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
        EXPECT_EQ(::ioctl(master_.get(), TIOCSWINSZ, &size), 0);
    }
    // Sets the terminal as a shell does when a program that it started is stopped.
    void make_cooked() const {
        termios now{};
        ASSERT_EQ(::tcgetattr(master_.get(), &now), 0);
        now.c_lflag |= ICANON | ECHO;
        ASSERT_EQ(::tcsetattr(master_.get(), TCSANOW, &now), 0);
    }
    // Returns whether keys are echoed and lines edited, as a shell leaves it.
    [[nodiscard]] bool cooked() const {
        termios now{};
        return ::tcgetattr(master_.get(), &now) == 0 && (now.c_lflag & ICANON) != 0 &&
               (now.c_lflag & ECHO) != 0;
    }
    // Returns the exit status.
    int wait() {
        // Read its remaining output, or it cannot end.
        while (wait_for("\n")) {
        }
        int status = 0;
        ::waitpid(std::exchange(pid_, -1), &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    }

  private:
    pid_t pid_ = -1;
    Fd master_;
    std::string seen_;
};

TEST(TopOnATerminal, ObeysItsKeys) {
    const test::TempDir dir;
    const FakeApi api(dir.file("admin.sock"), usual_answers());
    OnTerminal top(api.socket());
    ASSERT_TRUE(top.wait_for("µs")) << "UTF-8 in every locale";
    ASSERT_TRUE(top.wait_for("now by GPU%"));
    top.press('s');
    ASSERT_TRUE(top.wait_for("now by REQ/S"));
    top.press('p');
    ASSERT_TRUE(top.wait_for("PAUSED"));
    top.press('q');
    EXPECT_TRUE(top.wait_for("\x1b[?1049l")) << "the terminal's own screen is not shown again";
    EXPECT_EQ(top.wait(), 0);
}

TEST(TopOnATerminal, ComplainsIfTheTypeIsUnknown) {
    const test::TempDir dir;
    const FakeApi api(dir.file("admin.sock"), usual_answers());
    OnTerminal top(api.socket(), false, "no-such-terminal");
    EXPECT_TRUE(top.wait_for("vgpuctl: the type of this terminal is unknown: set TERM"));
    EXPECT_EQ(top.wait(), 1);
}

TEST(TopOnATerminal, EndsOnASignalAndLeavesTheTerminalInOrder) {
    const test::TempDir dir;
    const FakeApi api(dir.file("admin.sock"), usual_answers());
    OnTerminal top(api.socket());
    ASSERT_TRUE(top.wait_for("now by GPU%"));
    top.signal(SIGTERM);
    EXPECT_TRUE(top.wait_left());
    EXPECT_EQ(top.wait(), 0);
}

// The child is the session leader, so its process group is orphaned and the kernel ignores SIGTSTP:
// Ctrl-Z is tested in a shell.
TEST(TopOnATerminal, StopsAndGoesOnLikeAnyProgram) {
    const test::TempDir dir;
    const FakeApi api(dir.file("admin.sock"), usual_answers());
    OnTerminal shell(api.socket(), true);
    shell.type("PS1=; echo READY=$((1 + 1)); $TOP\n");
    ASSERT_TRUE(shell.wait_for("READY=2"));
    for (int i = 0; i < 2; ++i) {
        ASSERT_TRUE(shell.wait_entered());
        ASSERT_TRUE(shell.wait_for("now by GPU%")) << "it is not painted again";
        EXPECT_FALSE(shell.cooked());
        shell.press('\x1a');  // Ctrl-Z
        ASSERT_TRUE(shell.wait_left());
        ASSERT_TRUE(shell.wait_for("Stopped"));
        shell.type(
            "stty -a | grep -q ' icanon' && stty -a | grep -q ' echo ' && echo COOKED=$((++i))\n");
        ASSERT_TRUE(shell.wait_for("COOKED=" + std::to_string(i + 1)));
        shell.type("fg\n");
    }
    ASSERT_TRUE(shell.wait_for("now by GPU%"));
    shell.press('s');
    ASSERT_TRUE(shell.wait_for("now by REQ/S"));
    shell.press('q');
    ASSERT_TRUE(shell.wait_left());
    shell.type("echo STATUS=$?\n");
    EXPECT_TRUE(shell.wait_for("STATUS=0"));
}

TEST(TopOnATerminal, WaitsInTheBackgroundAndCanBeEndedThere) {
#ifdef __SANITIZE_THREAD__
    GTEST_SKIP() << "ThreadSanitizer holds signals back, and the terminal stops the program first";
#endif
    const test::TempDir dir;
    const FakeApi api(dir.file("admin.sock"), usual_answers());
    OnTerminal shell(api.socket(), true);
    shell.type("PS1=; echo READY=$((1 + 1)); set -b; $TOP &\n");
    ASSERT_TRUE(shell.wait_for("READY=2"));
    ASSERT_TRUE(shell.wait_for("Stopped")) << "it has to leave the terminal to the shell";
    shell.type("fg\n");
    ASSERT_TRUE(shell.wait_entered());
    ASSERT_TRUE(shell.wait_for("now by GPU%"));
    shell.press('\x1a');
    ASSERT_TRUE(shell.wait_left());
    ASSERT_TRUE(shell.wait_for("Stopped"));
    // In the background it stops again, and ends on a termination signal.
    shell.type("bg\n");
    ASSERT_TRUE(shell.wait_for("Stopped"));
    shell.type("kill -TERM $!; kill -CONT $!\n");
    EXPECT_TRUE(shell.wait_for("Terminated"));
}

TEST(TopOnATerminal, EntersAgainAfterAStopThatItCouldNotPrepareFor) {
    const test::TempDir dir;
    const FakeApi api(dir.file("admin.sock"), usual_answers());
    OnTerminal top(api.socket());
    ASSERT_TRUE(top.wait_for("now by GPU%"));
    top.signal(SIGSTOP);
    ASSERT_EQ(top.wait_until_stopped(), SIGSTOP);
    top.make_cooked();
    top.signal(SIGCONT);
    ASSERT_TRUE(top.wait_entered());
    ASSERT_TRUE(top.wait_for("now by GPU%"));
    EXPECT_FALSE(top.cooked());
    top.press('q');
    EXPECT_EQ(top.wait(), 0);
}

TEST(TopOnATerminal, PutsTheTerminalBackHoweverItEnds) {
    const test::TempDir dir;
    FakeApi api(dir.file("admin.sock"), usual_answers());
    for (const int number : {SIGSEGV, SIGABRT, SIGQUIT}) {
        OnTerminal top(api.socket());
        ASSERT_TRUE(top.wait_for("now by GPU%"));
        top.signal(number);
        EXPECT_TRUE(top.wait_left()) << number;
        EXPECT_EQ(top.wait_for_death(), number);
        EXPECT_TRUE(top.cooked()) << number;
    }
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
        OnTerminal top(api.socket());
        ASSERT_TRUE(top.wait_for("now by GPU%"));
        top.signal(number);
        EXPECT_TRUE(top.wait_left()) << number;
        EXPECT_EQ(top.wait(), 0) << number;
        EXPECT_TRUE(top.cooked()) << number;
    }
}

TEST(TopOnATerminal, FitsTheTerminalAgainWhenThatIsResized) {
    const test::TempDir dir;
    const FakeApi api(dir.file("admin.sock"), usual_answers());
    OnTerminal top(api.socket());
    ASSERT_TRUE(top.wait_for("now by GPU%"));
    top.press('p');
    ASSERT_TRUE(top.wait_for("PAUSED"));
    top.resize(2, 12);
    EXPECT_TRUE(top.wait_for("vgpu-mediato\x1b[2;1Hq quit  s"));
    top.press('q');
    EXPECT_EQ(top.wait(), 0);
}

TEST(TopOnATerminal, EndsAtOnceThoughTheMediatorHangs) {
    const test::TempDir dir;
    FakeApi api(dir.file("admin.sock"), usual_answers());
    OnTerminal top(api.socket());
    ASSERT_TRUE(top.wait_for("now by GPU%"));
    api.fall_silent();
    const auto before = api.requests().size();
    while (api.requests().size() == before) {
        std::this_thread::yield();
    }
    const auto start = std::chrono::steady_clock::now();
    top.signal(SIGINT);
    EXPECT_TRUE(top.wait_left());
    EXPECT_EQ(top.wait_for_death(), SIGINT);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
    EXPECT_TRUE(top.cooked());
}

}  // namespace
}  // namespace vgpu::ctl
