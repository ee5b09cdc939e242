// SPDX-License-Identifier: MIT
//
// The terminal of `vgpuctl top`: keys, size, signals, and restoring its state.
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/fd.h"
#include "cli/vgpuctl/top.h"

namespace vgpu::ctl {

namespace {

using Clock = std::chrono::steady_clock;

void write_all(std::string_view text) {
    while (!text.empty()) {
        const ssize_t count = ::write(STDOUT_FILENO, text.data(), text.size());
        if (count < 0 && errno != EINTR) {
            return;
        }
        text.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    }
}

constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l";
constexpr std::string_view kLeave = "\x1b[?25h\x1b[?1049l";

// State to restore after a crash. Global, for access from a signal handler.
struct Saved {
    volatile std::sig_atomic_t entered = 0;
    termios before{};
};
Saved saved;

// Signals that end the program: termination requests, delivered by a signalfd while top waits for a
// key, and those of a crash.
constexpr std::array kEndings{SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGABRT,
                              SIGBUS, SIGFPE,  SIGILL, SIGSEGV, SIGTRAP};
constexpr std::size_t kRequests = 4;  // the first of them

// Async-signal-safe. In the background tcsetattr() would stop the program, and the shell that put
// it there has set the terminal for itself.
void put_back() {
    if (::tcgetpgrp(STDIN_FILENO) == ::getpgrp()) {
        ::tcsetattr(STDIN_FILENO, TCSANOW, &saved.before);
    }
    saved.entered = 0;
}

// Async-signal-safe. The signal's default action is already restored.
extern "C" void put_back_and_end(int number) {
    if (saved.entered != 0) {
        (void)!::write(STDOUT_FILENO, kLeave.data(), kLeave.size());
        put_back();
    }
    (void)::raise(number);
}

// The terminal while top uses it: unbuffered keys without echo, the alternate screen, and signals
// from a signalfd. Restores the terminal when the program is stopped and when it ends: by a key, a
// signal, an exception or a crash. At most one instance at a time.
class Terminal {
  public:
    Terminal() {
        ::sigemptyset(&wanted_);
        for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP, SIGCONT}) {
            ::sigaddset(&wanted_, number);
        }
        ::sigprocmask(SIG_SETMASK, nullptr, &mask_);
        signals_ = Fd(::signalfd(-1, &wanted_, SFD_CLOEXEC | SFD_NONBLOCK));
        wait_for_foreground();
        ::tcgetattr(STDIN_FILENO, &saved.before);
        struct sigaction end {};
        end.sa_handler = put_back_and_end;
        end.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
        for (std::size_t i = 0; i < kEndings.size(); ++i) {
            ::sigaction(kEndings[i], nullptr, &actions_[i]);
            if (actions_[i].sa_handler != SIG_IGN) {
                ::sigaction(kEndings[i], &end, nullptr);
            }
        }
        enter();
    }
    Terminal(const Terminal&) = delete;
    Terminal& operator=(const Terminal&) = delete;
    ~Terminal() {
        leave();
        for (std::size_t i = 0; i < kEndings.size(); ++i) {
            ::sigaction(kEndings[i], &actions_[i], nullptr);
        }
        ::sigprocmask(SIG_SETMASK, &mask_, nullptr);
    }

    // Returns columns and lines; 80×24 if the terminal does not report them.
    [[nodiscard]] static std::pair<std::size_t, std::size_t> size() {
        winsize found{};
        if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &found) != 0 || found.ws_col == 0 ||
            found.ws_row == 0) {
            return {80, 24};
        }
        return {found.ws_col, found.ws_row};
    }

    // Returns the next key; 'q' also for a termination signal and for the end of the input; '\f' if
    // the screen has to be redrawn; nothing at the deadline.
    [[nodiscard]] std::optional<char> key(Clock::time_point deadline) {
        for (;;) {
            const auto left =
                std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
            std::array<pollfd, 2> entries{
                pollfd{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0},
                pollfd{.fd = signals_.get(), .events = POLLIN, .revents = 0}};
            const int ready =
                ::poll(entries.data(), entries.size(), static_cast<int>(std::max<long>(left, 0)));
            if (ready == 0) {
                return std::nullopt;
            }
            if (entries[1].revents != 0) {
                signalfd_siginfo info{};
                if (::read(signals_.get(), &info, sizeof info) == sizeof info) {
                    return obey(static_cast<int>(info.ssi_signo));
                }
            }
            if (entries[0].revents != 0) {
                char c = 0;
                const ssize_t count = ::read(STDIN_FILENO, &c, 1);
                if (count == 1) {
                    return c;
                }
                if (count == 0 || errno != EINTR) {
                    return 'q';
                }
            }
        }
    }

    // Runs work that may take long; meanwhile termination signals take effect at once.
    template <typename Work>
    auto meanwhile(Work work) {
        sigset_t requests;
        ::sigemptyset(&requests);
        for (std::size_t i = 0; i < kRequests; ++i) {
            ::sigaddset(&requests, kEndings[i]);
        }
        ::sigprocmask(SIG_UNBLOCK, &requests, nullptr);
        auto result = work();
        ::sigprocmask(SIG_BLOCK, &requests, nullptr);
        return result;
    }

  private:
    char obey(int number) {
        switch (number) {
            case SIGWINCH:
                return '\f';
            case SIGTSTP:
            case SIGQUIT:  // does not return, unless ignored
                leave();
                (void)::raise(number);
                enter();
                return '\f';
            case SIGCONT:
                // After a SIGSTOP, which cannot be caught: a shell has changed the terminal.
                leave();
                enter();
                return '\f';
            default:
                return 'q';
        }
    }

    // Waits for the foreground: in a background process group the terminal stops the program
    // (SIGTTOU) for this call, which otherwise changes nothing.
    static void wait_for_foreground() {
        while (::tcdrain(STDIN_FILENO) != 0 && errno == EINTR) {
        }
    }

    // Signals stay unblocked until the program is in the foreground: there is nothing to restore.
    void enter() {
        wait_for_foreground();
        ::sigprocmask(SIG_BLOCK, &wanted_, nullptr);
        saved.entered = 1;
        termios raw = saved.before;
        raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
        raw.c_cc[VMIN] = 1;
        raw.c_cc[VTIME] = 0;
        ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
        write_all(kEnter);
    }

    // Also restores the signal mask.
    void leave() {
        if (saved.entered != 0) {
            write_all(kLeave);
            put_back();
        }
        ::sigprocmask(SIG_SETMASK, &mask_, nullptr);
    }

    sigset_t wanted_{};
    sigset_t mask_{};  // the original one
    std::array<struct sigaction, kEndings.size()> actions_{};
    Fd signals_;
};

// Writes the screen: from the top left corner, each line clearing its old contents.
void show(const std::string& screen) {
    std::string text = "\x1b[H";
    for (const char c : screen) {
        if (c == '\n') {
            text += "\x1b[K\r\n";
        } else {
            text += c;
        }
    }
    // No newline after the last line: it would scroll the first one out.
    text.erase(text.size() - 2);
    text += "\x1b[J";
    write_all(text);
}

}  // namespace

Result<void> run_top(const std::function<Result<Sample>()>& take,
                     std::chrono::milliseconds interval) {
    Result<Sample> before = take();
    if (!before) {
        return std::move(before).error();
    }
    Sample now = *before;
    Terminal terminal;
    Sort sort = Sort::kGpu;
    bool paused = false;
    auto due = Clock::now() + interval;
    for (;;) {
        const auto [width, height] = Terminal::size();
        show(top_screen(now, top_rows(*before, now, sort), sort, paused, width, height));
        const auto key = terminal.key(due);
        if (key == 'q') {
            return {};
        }
        if (key == 's') {
            sort = next(sort);
        } else if (key == 'p') {
            paused = !paused;
        }
        if (Clock::now() >= due) {
            due = Clock::now() + interval;
            if (!paused) {
                Result<Sample> taken = terminal.meanwhile(take);
                if (!taken) {
                    return std::move(taken).error();
                }
                before = std::move(now);
                now = std::move(taken).value();
            }
        }
    }
}

}  // namespace vgpu::ctl
