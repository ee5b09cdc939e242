// SPDX-License-Identifier: MIT
#include "files/reporter.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstddef>

namespace vgpu {
namespace {

constexpr std::size_t kMostText = 1000;
constexpr double kPerSecond = 1;
constexpr double kBurst = 10;
constexpr std::chrono::seconds kRepeat{60};

std::chrono::nanoseconds now() {
    return std::chrono::steady_clock::now().time_since_epoch();
}

}  // namespace

bool Reporter::try_send(FileNotice level, std::string_view text) const {
    std::string datagram(1, static_cast<char>(level));
    datagram += text.substr(0, kMostText);
    return ::send(socket_, datagram.data(), datagram.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

void Reporter::send(FileNotice level, std::string_view text) {
    const std::uint64_t dropped = dropped_.exchange(0);
    if (dropped > 0 && !try_send(FileNotice::kWarning,
                                 std::to_string(dropped) + " messages about files were dropped")) {
        dropped_ += dropped + 1;
        return;
    }
    if (!try_send(level, text)) {
        ++dropped_;
    }
}

VmReporter::VmReporter(Reporter& reporter)
    : reporter_(reporter), budget_(kPerSecond, kBurst, now()) {}

bool VmReporter::may_send(const std::string& text) {
    const auto time = now();
    if ((text == last_ && time - last_at_ < kRepeat) || !budget_.take(time)) {
        ++suppressed_;
        return false;
    }
    last_ = text;
    last_at_ = time;
    return true;
}

void VmReporter::problem(const std::string& text) {
    problem_ = true;
    warn(text);
}

void VmReporter::warn(const std::string& text) {
    if (!may_send(text)) {
        return;
    }
    const std::string more =
        suppressed_ > 0 ? " (" + std::to_string(suppressed_) + " more were not logged)" : "";
    suppressed_ = 0;
    reporter_.send(FileNotice::kWarning, text + more);
}

void VmReporter::info(const std::string& text) {
    if (may_send(text)) {
        reporter_.send(FileNotice::kInfo, text);
    }
}

void VmReporter::solved(const std::string& text) {
    if (problem_) {
        problem_ = false;
        last_.clear();
        reporter_.send(FileNotice::kInfo, text);
    }
}

}  // namespace vgpu
