// SPDX-License-Identifier: MIT
//
// The terminal of `vgpuctl top`. curses sets and restores it and draws; signals are handled here,
// because curses does not end on SIGHUP or a crash, nor continue after SIGSTOP.
#define NCURSES_NOMACROS  // move() and others
#include <curses.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <clocale>
#include <csignal>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

#include "base/fd.h"
#include "cli/vgpuctl/top.h"

namespace vgpu::ctl {

namespace {

using Clock = std::chrono::steady_clock;

// Signals that end the program: termination requests, delivered by a signalfd while top waits for a
// key, and those of a crash.
constexpr std::array kEndings{SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGABRT,
                              SIGBUS, SIGFPE,  SIGILL, SIGSEGV, SIGTRAP};
constexpr std::size_t kRequests = 4;  // the first of them

// Restores the terminal. Precondition: SIGTTOU is blocked. In the background the shell has set the
// terminal for itself: that is kept.
void leave() {
    if (::isendwin() == FALSE) {
        if (::tcgetpgrp(STDIN_FILENO) != ::getpgrp()) {
            ::def_shell_mode();
        }
        ::endwin();
    }
}

// The signal's default action is already restored. endwin() is not async-signal-safe; if it crashes
// too, the program ends all the same.
extern "C" void leave_and_end(int number) {
    leave();
    (void)::raise(number);
}

// The terminal while top uses it: unbuffered keys without echo, the alternate screen, and signals
// from a signalfd. Restores the terminal when the program is stopped and when it ends: by a key, a
// signal, an exception or a crash. At most one instance per process. Throws if the type of the
// terminal is unknown.
class Terminal {
  public:
    Terminal() {
        ::sigemptyset(&wanted_);
        for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP, SIGCONT}) {
            ::sigaddset(&wanted_, number);
        }
        signals_ = Fd(::signalfd(-1, &wanted_, SFD_CLOEXEC | SFD_NONBLOCK));
        ::sigaddset(&wanted_, SIGTTOU);  // for leave()
        ::sigprocmask(SIG_SETMASK, nullptr, &mask_);
        wait_for_foreground();
        struct sigaction end {};
        end.sa_handler = leave_and_end;
        ::sigaddset(&end.sa_mask, SIGTTOU);
        end.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
        for (const int number : kEndings) {
            struct sigaction before {};
            ::sigaction(number, nullptr, &before);
            if (before.sa_handler != SIG_IGN) {
                ::sigaction(number, &end, nullptr);
            }
        }
        (void)std::setlocale(LC_CTYPE,
                             "C.UTF-8");  // the encoding of the screen, whatever the user's
        struct sigaction stop {};
        ::sigaction(SIGTSTP, nullptr, &stop);
        if (::newterm(nullptr, stdout, stdin) == nullptr) {
            throw std::runtime_error(
                "the type of this terminal is unknown: set TERM, e.g. to xterm");
        }
        ::sigaction(SIGTSTP, &stop, nullptr);  // which curses handles, without SIGCONT
        ::cbreak();
        ::noecho();
        ::nodelay(stdscr, TRUE);
        ::curs_set(0);
    }
    Terminal(const Terminal&) = delete;
    Terminal& operator=(const Terminal&) = delete;
    ~Terminal() {
        leave();
        ::sigprocmask(SIG_SETMASK, &mask_, nullptr);
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
                const int c = ::getch();
                return c == ERR ? 'q' : static_cast<char>(c);
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

    // Draws all of it, also where another program has written.
    static void show(const std::string& screen) {
        ::erase();
        std::istringstream lines(screen);
        int y = 0;
        for (std::string line; std::getline(lines, line); ++y) {
            ::mvaddstr(y, 0, line.c_str());
        }
        ::redrawwin(stdscr);
        ::refresh();
    }

  private:
    char obey(int number) {
        switch (number) {
            case SIGWINCH: {
                winsize size{};
                if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 &&
                    size.ws_col > 0) {
                    ::resizeterm(size.ws_row, size.ws_col);
                }
                return '\f';
            }
            case SIGTSTP:
            case SIGQUIT:  // does not return, unless ignored
                leave();
                (void)::raise(number);
                wait_for_foreground();
                return '\f';
            case SIGCONT:
                // After a SIGSTOP, which cannot be caught: a shell has changed the terminal.
                wait_for_foreground();
                leave();
                return '\f';
            default:
                return 'q';
        }
    }

    // Signals are unblocked meanwhile. In a background process group the terminal stops the program
    // (SIGTTOU) for tcdrain(), which otherwise changes nothing.
    void wait_for_foreground() {
        ::sigprocmask(SIG_SETMASK, &mask_, nullptr);
        while (::tcdrain(STDIN_FILENO) != 0 && errno == EINTR) {
        }
        ::sigprocmask(SIG_BLOCK, &wanted_, nullptr);
    }

    sigset_t wanted_{};  // blocked while in the foreground
    sigset_t mask_{};    // the original one
    Fd signals_;
};

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
        Terminal::show(top_screen(now, top_rows(*before, now, sort), sort, paused,
                                  static_cast<std::size_t>(COLS), static_cast<std::size_t>(LINES)));
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
