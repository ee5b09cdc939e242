// SPDX-License-Identifier: MIT
//
// The terminal of `vgpuctl top`: keys, size, signals, and putting everything back.
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

// Keys come one by one and unseen, on the terminal's other screen; signals come as a descriptor.
class Terminal {
  public:
    Terminal() {
        sigset_t wanted;
        ::sigemptyset(&wanted);
        for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGWINCH}) {
            ::sigaddset(&wanted, number);
        }
        ::sigprocmask(SIG_BLOCK, &wanted, &mask_);
        signals_ = Fd(::signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
        if (::tcgetattr(STDIN_FILENO, &before_) == 0) {
            termios raw = before_;
            raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
            raw.c_cc[VMIN] = 1;
            raw.c_cc[VTIME] = 0;
            changed_ = ::tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
        }
        write_all("\x1b[?1049h\x1b[?25l");
    }
    Terminal(const Terminal&) = delete;
    Terminal& operator=(const Terminal&) = delete;
    ~Terminal() {
        write_all("\x1b[?25h\x1b[?1049l");
        if (changed_) {
            ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
        }
        ::sigprocmask(SIG_SETMASK, &mask_, nullptr);
    }

    // Columns and lines; 80×24 where the terminal does not say.
    [[nodiscard]] static std::pair<std::size_t, std::size_t> size() {
        winsize found{};
        if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &found) != 0 || found.ws_col == 0 ||
            found.ws_row == 0) {
            return {80, 24};
        }
        return {found.ws_col, found.ws_row};
    }

    // The next key; 'q' too for a signal that asks to end and for the end of the input; '\f' if the
    // size has changed; nothing at the deadline.
    [[nodiscard]] std::optional<char> key(Clock::time_point deadline) const {
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
                    return info.ssi_signo == SIGWINCH ? '\f' : 'q';
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

  private:
    termios before_{};
    bool changed_ = false;
    sigset_t mask_{};
    Fd signals_;
};

// The screen as a terminal takes it: from the corner, each line clearing what was there.
void show(const std::string& screen) {
    std::string text = "\x1b[H";
    for (const char c : screen) {
        if (c == '\n') {
            text += "\x1b[K\r\n";
        } else {
            text += c;
        }
    }
    // The last line stays where it is: another would scroll the first one out.
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
    const Terminal terminal;
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
                Result<Sample> taken = take();
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
